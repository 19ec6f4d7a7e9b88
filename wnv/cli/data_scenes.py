"""The stages of `wnv-data` that deal with scene files: import, export, verify, index."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from wnv.cli.settings import check_setting, path_setting, plain
from wnv.scenes.importers.formats import IMPORTERS
from wnv.scenes.index import build_index, find_scenes, read_index, refusal_message
from wnv.scenes.scene_file import validate_scene
from wnv.scenes.schema import INDEX_FILE, SceneError

PATH_OPTIONS = ("images", "frames", "root")


def import_scenes(cfg: DictConfig) -> None:
    """Import posed captures of another format as scene files, and index the folder they lie in."""
    if cfg.format not in IMPORTERS:
        raise ValueError(f"format must be one of {', '.join(IMPORTERS)}, got {cfg.format}")
    importer = IMPORTERS[cfg.format]
    options = _import_options(cfg, importer)
    out = Path(path_setting(cfg, "out"))
    for path in importer(Path(path_setting(cfg, "source")), out, **options):
        print(path)
    records = build_index(out)
    print(f"{out / INDEX_FILE}: {len(records)} scenes, {sum(record.num_frames for record in records)} frames")


def _import_options(cfg: DictConfig, importer: Callable[..., list[Path]]) -> dict[str, Any]:
    """What the configuration sets of what this importer takes."""
    known = {
        name: parameter.annotation
        for name, parameter in inspect.signature(importer).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    options: dict[str, Any] = {}
    for name in cfg:
        if name in ("format", "source", "out") or cfg[name] is None:
            continue
        if name not in known:
            raise ValueError(f"format={cfg.format} has no option {name}; it has {', '.join(known)}")
        if name in PATH_OPTIONS:
            options[name] = Path(path_setting(cfg, name))
        elif name == "scene_id":
            options[name] = str(cfg[name])  # a name may look like a number
        else:
            options[name] = plain(cfg, name)
            check_setting(name, options[name], known[name])
    return options


def verify_scenes(cfg: DictConfig) -> None:
    """Check a scene file, or every one of a folder and the indices in it, to the last pixel."""
    path = path_setting(cfg, "path")
    folder = Path(path)
    if not folder.is_dir():
        _print_verified(path)  # as typed: a Path would spoil a URL
        return
    paths = find_scenes(folder)
    refusals: list[str] = []
    for path in paths:
        try:
            _print_verified(path)
        except SceneError as error:
            print(f"refused  {path}: {error}")
            refusals.append(path.relative_to(folder).as_posix())
    if refusals:
        raise SceneError(refusal_message(folder, refusals, total=len(paths)))
    for index in sorted(folder.rglob(INDEX_FILE)):
        read_index(index.parent)


def _print_verified(path: str | Path) -> None:
    info = validate_scene(path)
    print(f"ok  {path}: {info.kind}, {len(info.frames)} frames of {info.width} x {info.height}")


def index_scenes(cfg: DictConfig) -> None:
    """Index a folder of scene files anew."""
    folder = Path(path_setting(cfg, "path"))
    records = build_index(folder)
    print(f"{folder / INDEX_FILE}: {len(records)} scenes, {sum(record.num_frames for record in records)} frames")
