"""Functions on tensors: cameras, poses, rays, patches, image resampling and camera paths. No modules, no files."""
