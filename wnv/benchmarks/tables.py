"""The result of a benchmark: a table as Markdown and JSON, and a description of the machine."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from wnv.runtime.atomic import atomic_file


@dataclass(frozen=True)
class Table:
    """Results of a benchmark.

    Attributes:
        title: What was measured, and its settings.
        columns: Column names.
        rows: One sequence of strings per row.
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
        """Write title, machine and figures atomically."""
        content = {"title": self.title, "machine": describe_machine(), "figures": dict(self.figures)}
        with atomic_file(path, overwrite=True) as file:
            file.write(f"{json.dumps(content, indent=2)}\n".encode())


def describe_machine() -> str:
    """Processor, threads, GPU if any, and versions, on one line."""
    parts = [_processor_name(), f"{torch.get_num_threads()} CPU threads"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join([*parts, f"torch {torch.__version__}", f"Python {platform.python_version()}"])


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
