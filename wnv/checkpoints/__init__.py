"""Checkpoints of training runs: file names, and reading them without Lightning."""
