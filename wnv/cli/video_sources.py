"""The lists and folders of videos that `source` names."""

import os
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from wnv.cli.settings import check_setting, path_setting, plain, switch
from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.manifest.manifest import Times, make_manifest
from wnv.ingest.manifest.published import PublishedFile, download_published
from wnv.ingest.manifest.short_links import LocationOpener
from wnv.ingest.manifest.videos import PHOTO_SUFFIXES, SUFFIXES
from wnv.scenes.schema import SceneKind


def resolve_sources(cfg: DictConfig) -> tuple[list[Path | str], list[SceneKind | None]]:
    """Return the lists, videos and addresses of `source`, published lists downloaded, and their kinds where known."""
    check_setting("kind", plain(cfg, "kind"), SceneKind | None)
    paths: list[Path | str] = []
    kinds: list[SceneKind | None] = []
    for name in _named(cfg):
        published = files("wnv.conf.ingest") / "sources" / f"{name}.yaml"
        # A folder of that name is likely the root; as a source it is ./kokoni.
        if re.fullmatch(r"\w+", name) and published.is_file():
            lists = instantiate(OmegaConf.create(published.read_text(encoding="utf-8")).files, _convert_="all")
            paths += _download(lists, Path(path_setting(cfg, "cache")) / name)
            kinds += [file.kind for file in lists]
        else:
            path = Path(os.path.expanduser(name))
            is_url = re.match("https?://", name) is not None
            if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file():
                raise ValueError(f"source={path} is a photograph; name the folder of the photographs of a place")
            paths.append(name if is_url else path)
            # Single videos usually show a static place; a list states its kind by its name.
            kinds.append(cfg.kind or ("static" if is_url or path.is_dir() or _is_video(path) else None))
    return paths, kinds


def time_format(cfg: DictConfig) -> Times:
    """Return the setting `times`, checked."""
    check_setting("times", cfg.times, Times)
    return cfg.times


def short_link_settings(cfg: DictConfig, lock_file: Path) -> dict[str, Any]:
    """Return the arguments of `make_manifest` for short links: the file of known targets, and a resolver."""
    if not switch(cfg, "resolve"):
        return {"lock_file": lock_file if lock_file.exists() else None}
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    return {"lock_file": lock_file, "opener": LocationOpener()}


def read_sources(cfg: DictConfig, root: Path) -> list[ManifestLine]:
    """Return the videos of `source`."""
    sources, kinds = resolve_sources(cfg)
    return make_manifest(
        sources,
        kind=kinds,
        times=time_format(cfg),
        follow_links=switch(cfg, "follow_links"),
        **short_link_settings(cfg, root / "links.json"),
    ).lines


def videos_folder(cfg: DictConfig) -> str | None:
    """Return the folder of local videos that `fetch.videos` or `source` names, if any."""
    named = [*_named(cfg), *([] if cfg.fetch.videos is None else [str(cfg.fetch.videos)])]
    paths = [Path(os.path.expanduser(name)).absolute() for name in named]
    folders = {str(path) for path in paths if path.is_dir()} | {str(path.parent) for path in paths if _is_video(path)}
    if len(folders) > 1:
        raise ValueError(
            f"a root takes local videos from one folder, got {', '.join(sorted(folders))}; use a root for each"
        )
    return next(iter(folders), cfg.fetch.videos)


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _named(cfg: DictConfig) -> list[str]:
    sources = plain(cfg, "source")
    return [str(name) for name in (sources if isinstance(sources, list) else [sources]) if name is not None]


def _download(lists: Sequence[PublishedFile], cache: Path) -> list[Path]:
    try:
        return download_published(lists, cache)
    except OSError as error:
        raise ValueError(
            f"{error}; or put {' and '.join(file.name for file in lists)} into {cache} yourself"
        ) from error
