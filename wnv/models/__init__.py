"""The networks: KoNet, its transformer, its attention and the camera encodings. Plain `nn.Module`s, single-device code."""
