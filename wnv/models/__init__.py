"""The networks: KoNet, its transformer, attention and camera encodings, as plain single-device `nn.Module`s."""
