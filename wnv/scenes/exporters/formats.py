"""The exporters by the name of the format they write."""

from collections.abc import Callable
from pathlib import Path

from wnv.scenes.exporters.colmap import export_colmap
from wnv.scenes.exporters.lvsm import export_lvsm
from wnv.scenes.exporters.nerfstudio import export_nerfstudio

EXPORTERS: dict[str, Callable[..., Path]] = {
    "nerfstudio": export_nerfstudio,
    "colmap": export_colmap,
    "lvsm": export_lvsm,
}
"""Each is called as `(scene_path, out, *, overwrite)` and returns what to open first."""
