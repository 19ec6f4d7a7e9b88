"""The stages of `wnv-data` that make scene files of videos: manifest, run and its parts, status, report."""

import logging
import os
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from wnv.cli.settings import check_setting, path_setting, plain, switch
from wnv.ingest.database import RootError
from wnv.ingest.driver import run
from wnv.ingest.layout import LEDGER_FILE, REPORT_FILE
from wnv.ingest.ledger import Ledger
from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.manifest.manifest import make_manifest
from wnv.ingest.manifest.published import PublishedFile, download_published
from wnv.ingest.manifest.short_links import LocationOpener
from wnv.ingest.manifest.videos import SUFFIXES
from wnv.ingest.progress import Progress
from wnv.ingest.scene_index import index_scenes
from wnv.ingest.selection import Selection
from wnv.ingest.status import status_text
from wnv.ingest.tasks import STAGES, StageName
from wnv.pages.ingest.write import write_ingest_report
from wnv.scenes.schema import SceneError, SceneKind

_log = logging.getLogger(__name__)

DEFAULT_FRACTION = 0.02


def manifest(cfg: DictConfig) -> None:
    """Repair lists of videos and write one canonical line a video."""
    out = Path(path_setting(cfg, "out"))
    sources, kinds = _sources(cfg)
    result = make_manifest(
        sources,
        kind=kinds,
        out=out,
        json_out=None if cfg.json is None else Path(path_setting(cfg, "json")),
        overwrite=switch(cfg, "overwrite"),
        **_short_links(cfg, out.with_name(f"{out.name}.links.json")),
    )
    report = result.report
    print(
        f"{out}: {report['num_keys']} videos ({report['num_segments']} marked segments, "
        f"{report['marked_s'] / 3600:.1f} h) from {report['num_rows']} rows; "
        f"{report['num_without_key']} rows name no video"
    )
    for code, number in sorted(report["codes"].items(), key=lambda entry: -entry[1]):
        print(f"  {number:6} {code}")


def _run(cfg: DictConfig, names: Sequence[StageName]) -> None:
    root = Path(path_setting(cfg, "root")).absolute()
    selection = _selection(cfg)
    if "fetch" in names:
        cfg.fetch.videos = _folder_of_videos(cfg)
    # Before the root is made: a mistake in a setting or in the source leaves nothing behind.
    stages = {name: instantiate(cfg[name], _convert_="all") for name in names}
    retries = instantiate(cfg.retries, _convert_="all")
    gate = instantiate(cfg.gate, _convert_="all") if "fetch" in names else None
    fractions = _fractions(cfg, root)
    lines = None if cfg.get("source") is None else _lines(cfg, root)
    with Ledger.open(root, **fractions) as ledger:
        if lines is not None:
            counts = ledger.add_videos(lines)
            print("manifest: " + ", ".join(f"{number} {name}" for name, number in counts.items() if number))
        if "fetch" in names and cfg.fetch.videos is None:
            _refuse_lost_videos(ledger)
        try:
            with instantiate(cfg.executor, _convert_="all") as executor:
                summary = run(
                    ledger,
                    stages,
                    executor,
                    gate=gate,
                    retries=retries,
                    selection=selection,
                    progress=Progress(),
                )
        except (KeyboardInterrupt, RootError) as error:
            _index_what_is_there(root)
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt("(the same command goes on where it stopped)") from error
            raise
        print(summary.text())
        changed = any(summary.counts[stage] for stage in ("clip", "pose", "pack"))
        for folder, number in index_scenes(root, changed=changed).items():
            print(f"{root / folder}: {number} scenes")


def _index_what_is_there(root: Path) -> None:
    """Name the scenes of a run that was broken off, if the root still lets itself be written to."""
    try:
        index_scenes(root)
    except (OSError, SceneError) as error:  # what ended the run is what has to be told
        _log.warning("the scenes of %s could not be indexed: %s; the next run does", root, error)


def _sources(cfg: DictConfig) -> tuple[list[Path], list[SceneKind | None]]:
    """The lists and folders that `source` names, published ones downloaded, and the kind of each where it is told."""
    check_setting("kind", plain(cfg, "kind"), SceneKind | None)
    named = plain(cfg, "source")
    paths: list[Path] = []
    kinds: list[SceneKind | None] = []
    for name in named if isinstance(named, list) else [named]:
        published = files("wnv.conf.ingest") / "sources" / f"{name}.yaml"
        # A folder of that name is likely the root; as a source it is ./kokoni.
        if re.fullmatch(r"\w+", str(name)) and published.is_file():
            lists = instantiate(OmegaConf.create(published.read_text(encoding="utf-8")).files, _convert_="all")
            paths += _downloaded(lists, Path(path_setting(cfg, "cache")) / str(name))
            kinds += [file.kind for file in lists]
        else:
            path = Path(os.path.expanduser(str(name)))
            if path.suffix.lower() in SUFFIXES and path.is_file():
                raise ValueError(f"source: {path} is a video; name the folder that it lies in, or a list of videos")
            paths.append(path)
            # One's own videos, as a rule of a place that stands still; a list says what it holds by its name.
            kinds.append(cfg.kind or ("static" if path.is_dir() else None))
    return paths, kinds


def _downloaded(lists: Sequence[PublishedFile], cache: Path) -> list[Path]:
    try:
        return download_published(lists, cache)
    except OSError as error:
        raise ValueError(
            f"{error}; or put {' and '.join(file.name for file in lists)} into {cache} yourself"
        ) from error


def _short_links(cfg: DictConfig, lock_file: Path) -> dict[str, Any]:
    """Where the answers of the short-link host are kept, and whether it is to be asked."""
    if not switch(cfg, "resolve"):
        return {"lock_file": lock_file if lock_file.exists() else None}
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    return {"lock_file": lock_file, "opener": LocationOpener()}


def _lines(cfg: DictConfig, root: Path) -> list[ManifestLine]:
    sources, kinds = _sources(cfg)
    return make_manifest(sources, kind=kinds, **_short_links(cfg, root / "links.json")).lines


def _folder_of_videos(cfg: DictConfig) -> str | None:
    """The folder of one's own videos: the one that `fetch.videos` or `source` names; None without any."""
    sources = plain(cfg, "source")
    named = [cfg.fetch.videos, *(sources if isinstance(sources, list) else [sources])]
    paths = [Path(os.path.expanduser(str(name))).absolute() for name in named if name is not None]
    folders = sorted({str(path) for path in paths if path.is_dir()})
    if len(folders) > 1:
        raise ValueError(
            f"a root holds the videos of one folder, got {', '.join(folders)}; give each folder a root of its own"
        )
    return folders[0] if folders else cfg.fetch.videos


def _refuse_lost_videos(ledger: Ledger) -> None:
    """Without their folder, one's own videos would be refused one by one, for a mistake in the command."""
    waiting = [item for item in ledger.pending("fetch") if item.startswith("file:")]
    if waiting:
        raise ValueError(
            f"{len(waiting)} videos of your own wait to be read ({waiting[0]} first); name their folder with source= "
            "or fetch.videos="
        )


def _selection(cfg: DictConfig) -> Selection:
    for name, kind in (("start", int | None), ("end", int | None), ("limit", int | None)):
        check_setting(name, cfg[name], kind)
    keys, retry, redo = (plain(cfg, name) for name in ("keys", "retry", "redo"))
    return Selection(
        keys=[keys] if isinstance(keys, str) else keys,
        start=cfg.start or 0,
        end=cfg.end,
        limit=cfg.limit,
        retry="none" if retry is None else retry,
        redo=[redo] if isinstance(redo, str) else redo or [],
    )


def _fractions(cfg: DictConfig, root: Path) -> dict[str, float]:
    """The shares of validation and test: those told; else those of the root; else, for a new root, the default."""
    known: dict[str, float] = {}
    try:
        with Ledger.read(root) as ledger:
            known = ledger.fractions()
    except FileNotFoundError:
        if "source" not in cfg:
            raise FileNotFoundError(
                f"{root} has no {LEDGER_FILE}; begin with wnv-data run or fetch, source=... root={root}"
            ) from None
        if cfg.source is None:
            raise ValueError(f"{root} is new and has no videos yet; name some with source=") from None
    told = {name: cfg.get(name) for name in ("val_fraction", "test_fraction")}
    for name, value in told.items():
        check_setting(name, value, float | int | None)
    return {name: float(known.get(name, DEFAULT_FRACTION) if value is None else value) for name, value in told.items()}


def forget(cfg: DictConfig) -> None:
    """Delete all that was made of videos, and keep them out."""
    root = Path(path_setting(cfg, "root")).absolute()
    keys = plain(cfg, "keys")
    with Ledger.open(root, **_fractions(cfg, root)) as ledger:
        for file in ledger.take_out([keys] if isinstance(keys, str) else keys):
            print(f"deleted {root / file}")
        index_scenes(root)


def status(cfg: DictConfig) -> None:
    """Print how far everything is."""
    print(status_text(Path(path_setting(cfg, "root"))))


def report(cfg: DictConfig) -> None:
    """Write one page about everything."""
    root = Path(path_setting(cfg, "root"))
    out = root / REPORT_FILE if cfg.out is None else Path(path_setting(cfg, "out"))
    if cfg.out is not None and out.exists():
        raise FileExistsError(f"{out} exists; choose another out=")
    check_setting("num_scenes", cfg.num_scenes, int)
    print(write_ingest_report(root, out, num_scenes=cfg.num_scenes))


def run_all(cfg: DictConfig) -> None:
    """Take every video through all stages, as far as it can go."""
    _run(cfg, STAGES)


def fetch(cfg: DictConfig) -> None:
    """Download."""
    _run(cfg, ["fetch"])


def clip(cfg: DictConfig) -> None:
    """Cut into clips."""
    _run(cfg, ["clip"])


def pose(cfg: DictConfig) -> None:
    """Recover cameras."""
    _run(cfg, ["pose"])


def pack(cfg: DictConfig) -> None:
    """Write scene files."""
    _run(cfg, ["pack"])
