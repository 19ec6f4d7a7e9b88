"""The importers by the name of the format they read."""

from collections.abc import Callable
from pathlib import Path

from wnv.scenes.importers.colmap import import_colmap
from wnv.scenes.importers.lvsm import import_lvsm
from wnv.scenes.importers.nerfstudio import import_nerfstudio
from wnv.scenes.importers.pixelsplat import import_pixelsplat
from wnv.scenes.importers.re10k import import_re10k

IMPORTERS: dict[str, Callable[..., list[Path]]] = {
    "nerfstudio": import_nerfstudio,
    "colmap": import_colmap,
    "re10k": import_re10k,
    "lvsm": import_lvsm,
    "pixelsplat": import_pixelsplat,
}
"""Each is called as `(source, out, *, max_side, overwrite, image_format, quality, ...)` and returns the scene files."""
