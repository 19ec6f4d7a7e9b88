"""From video to scene file: manifest, fetch, clip, pose, pack. It knows nothing of models, and models nothing of it."""
