"""Output of commands: their folder, and lines on stdout."""

import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig


def output_folder() -> Path:
    """The output folder of the command, relative to the current folder if it lies inside."""
    path = Path(HydraConfig.get().runtime.output_dir)
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
