"""Functions on tensors: cameras, poses, rays, patches, image resampling and camera paths. No `nn.Module`, no I/O."""
