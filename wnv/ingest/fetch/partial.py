"""Downloads that ended early, kept for the next attempt: finished parts, and the beginning of a whole file."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wnv.ingest.fetch.container import Cut
from wnv.runtime.atomic import atomic_file


class PartialDownload:
    """The folder `.<name>.partial` beside the folder of a video.

    Args:
        folder: Folder of the video.
        stream: What identifies the stream, as JSON values. What is left of another stream is removed.
    """

    def __init__(self, folder: Path, stream: Mapping[str, Any]) -> None:
        self.folder = folder.with_name(f".{folder.name}.partial")
        self._index = self.folder / "parts.json"
        try:
            known = json.loads(self._index.read_bytes())
        except (OSError, ValueError):
            known = {}
        if known.get("stream") != stream:
            shutil.rmtree(self.folder, ignore_errors=True)
            known = {"stream": stream, "parts": {}}
        self._known = known
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write()

    def finished(self, path: Path, span: tuple[float, float]) -> Cut | None:
        """Return the part of this span if an earlier attempt finished it; else make room for it."""
        known = self._known["parts"].get(path.name)
        if known and known["span"] == list(span) and path.is_file():
            return Cut(path=path, start_s=known["start_s"], end_s=known["end_s"])
        path.unlink(missing_ok=True)
        return None

    def add(self, part: Cut, span: tuple[float, float]) -> None:
        """Record a finished part."""
        self._known["parts"][part.path.name] = {"span": span, "start_s": part.start_s, "end_s": part.end_s}
        self._write()

    def close(self, *, keep: bool) -> None:
        """Remove the folder, or keep what has been downloaded, if anything."""
        if not keep or {path.name for path in self.folder.iterdir()} <= {self._index.name}:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self) -> None:
        with atomic_file(self._index, overwrite=True) as file:
            file.write(json.dumps(self._known).encode())
