"""What every benchmark shares: the machine it ran on, and a table on the screen and as JSON."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Table:
    """Rows under column names, with what they were measured on.

    Attributes:
        title: What is claimed or asked.
        columns: Column names.
        rows: One sequence of strings a row.
        figures: The same numbers by name, for programs.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    figures: Mapping[str, Any] = field(default_factory=dict)

    def to_markdown(self) -> str:
        """The table as Markdown, columns aligned."""
        widths = [max(len(cell) for cell in column) for column in zip(self.columns, *self.rows, strict=True)]
        lines = [self.columns, ["-" * width for width in widths], *self.rows]
        cells = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        return "\n".join([self.title, "", *(f"| {line} |" for line in cells)])

    def write_json(self, path: Path) -> None:
        """Write title, machine and figures, whole or not at all."""
        content = {"title": self.title, "machine": describe_machine(), "figures": dict(self.figures)}
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(content, indent=2) + "\n")
        os.replace(temporary, path)


def describe_machine() -> str:
    """Processor with its threads, graphics processor where there is one, and versions, in a line."""
    parts = [_processor_name(), f"{torch.get_num_threads()} CPU threads"]
    if torch.cuda.is_available():  # beside the processor: a benchmark may have run on either
        parts.append(torch.cuda.get_device_name())
    return ", ".join([*parts, f"torch {torch.__version__}", f"Python {platform.python_version()}"])


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
