"""The stages of `wnv-data` that turn videos into scene files: manifest, run and its stages, status, report, forget."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast

from hydra.utils import instantiate
from omegaconf import DictConfig

from wnv.cli.app import JobFailed
from wnv.cli.settings import check_setting, path_setting, plain, switch
from wnv.cli.video_sources import read_sources, resolve_sources, short_link_settings, time_format, videos_folder
from wnv.ingest.database import RootError
from wnv.ingest.driver import run
from wnv.ingest.layout import LEDGER_FILE, REPORT_FILE
from wnv.ingest.ledger import Ledger
from wnv.ingest.manifest.manifest import make_manifest
from wnv.ingest.photos.photo_set import PHOTOS_PREFIX
from wnv.ingest.progress import Progress
from wnv.ingest.scene_index import index_scenes
from wnv.ingest.selection import Selection
from wnv.ingest.status import status_text
from wnv.ingest.tasks import STAGES, Stage, StageName
from wnv.pages.ingest.report import write_ingest_report
from wnv.scenes.schema import SceneError

_log = logging.getLogger(__name__)

DEFAULT_FRACTION = 0.02


def manifest(cfg: DictConfig) -> None:
    """Clean lists of videos and write one JSON line per video."""
    out = Path(path_setting(cfg, "out"))
    sources, kinds = resolve_sources(cfg)
    result = make_manifest(
        sources,
        kind=kinds,
        times=time_format(cfg),
        out=out,
        json_out=None if cfg.json is None else Path(path_setting(cfg, "json")),
        overwrite=switch(cfg, "overwrite"),
        follow_links=switch(cfg, "follow_links"),
        **short_link_settings(cfg, out.with_name(f"{out.name}.links.json")),
    )
    report = result.report
    print(
        f"{out}: {report['num_keys']} videos ({report['num_segments']} marked segments, "
        f"{report['marked_s'] / 3600:.1f} h) from {report['num_rows']} rows; "
        f"{report['num_without_key']} rows without a video"
    )
    for code, number in sorted(report["codes"].items(), key=lambda entry: -entry[1]):
        print(f"  {number:6} {code}")


def _run(cfg: DictConfig, names: Sequence[StageName]) -> None:
    """Run stages on the videos of a root."""
    root = _root(cfg)
    selection = _selection(cfg)
    fractions = _fractions(cfg, root)
    if "fetch" in names:
        folder = videos_folder(cfg)
        cfg.fetch.videos = folder or _known_videos_folder(root)
    if "pose" in names:
        estimator = cfg.pose.estimator
        estimator = estimator.get("estimator", estimator)  # one whose cameras are refined
        if estimator.get("folder", "") is None:  # its cameras lie beside the videos
            estimator.folder = cfg.fetch.videos if "fetch" in names else _known_videos_folder(root)
    # Before the root is created: an invalid setting or source leaves nothing behind.
    stages: dict[StageName, Stage] = {name: instantiate(cfg[name], _convert_="all") for name in names}
    retries = instantiate(cfg.retries, _convert_="all")
    gate = instantiate(cfg.gate, _convert_="all") if "fetch" in names else None
    lines = None if cfg.get("source") is None else read_sources(cfg, root)
    with Ledger.open(root, **fractions) as ledger:
        if lines is not None:
            counts = ledger.add_videos(lines)
            print("manifest: " + ", ".join(f"{number} {name}" for name, number in counts.items() if number))
        if "fetch" in names:
            if folder is not None:
                ledger.set_videos_folder(folder)
            elif cfg.fetch.videos is None:
                _check_local_videos(ledger)
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
            _index_after_stop(root)
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt("(run the same command to resume)") from error
            raise
        print(summary.text())
        changed = any(summary.counts.get(stage) for stage in ("clip", "pose", "pack"))
        for place, number in index_scenes(root, changed=changed).items():
            print(f"{root / place}: {number} scenes")
    if summary.nothing_succeeded():
        raise JobFailed("no item of this run succeeded; wnv-data status lists the reasons", code=1)


def _root(cfg: DictConfig) -> Path:
    root = path_setting(cfg, "root")
    if "://" in root:
        raise ValueError(f"root must be a local folder, got {root}; copy ROOT/scenes to object storage afterwards")
    return Path(root).absolute()


def _index_after_stop(root: Path) -> None:
    """Index the scenes of a run that ended early, if the root can still be written to."""
    try:
        index_scenes(root)
    except (OSError, SceneError) as error:  # must not hide the error that ended the run
        _log.warning("the scenes of %s could not be indexed: %s; the next run indexes them", root, error)


def _known_videos_folder(root: Path) -> str | None:
    """Return the folder of local videos that an earlier run was given, if it exists."""
    try:
        with Ledger.read(root) as ledger:
            folder = ledger.videos_folder()
    except FileNotFoundError:
        return None
    if folder is not None and not Path(folder).is_dir():
        _log.warning("the folder of local videos, %s, does not exist; set source= if it has moved", folder)
        return None
    return folder


def _check_local_videos(ledger: Ledger) -> None:
    """Stop before every local video is rejected because its folder is not set."""
    waiting = [item for item in ledger.pending("fetch") if item.startswith(("file:", PHOTOS_PREFIX))]
    if waiting:
        raise ValueError(
            f"{len(waiting)} local videos or photographs are pending ({waiting[0]}, ...) but their folder is not set; "
            "pass source=FOLDER"
        )


def _selection(cfg: DictConfig) -> Selection:
    for name, kind in (("start", int | None), ("end", int | None), ("limit", int | None)):
        check_setting(name, cfg[name], kind)
    keys, retry, redo = plain(cfg, "keys"), plain(cfg, "retry"), plain(cfg, "redo")
    return Selection(
        keys=[keys] if isinstance(keys, str) else keys,
        start=cfg.start or 0,
        end=cfg.end,
        limit=cfg.limit,
        retry="none" if retry is None else retry,
        redo=cast(list[StageName], [redo] if isinstance(redo, str) else redo or []),
    )


def _fractions(cfg: DictConfig, root: Path) -> dict[str, float]:
    """Return the shares of validation and test: as set, else those of the root, else the default."""
    known: dict[str, float] = {}
    try:
        with Ledger.read(root) as ledger:
            known = ledger.fractions()
    except FileNotFoundError:
        if "source" not in cfg:
            raise FileNotFoundError(
                f"{root} has no {LEDGER_FILE}; start with wnv-data run source=... root={root}"
            ) from None
        if cfg.source is None:
            raise ValueError(f"root={root} is new and has no videos; set source=") from None
    fractions = {}
    for name in ("val_fraction", "test_fraction"):
        check_setting(name, cfg.get(name), float | int | None)
        fractions[name] = float(known.get(name, DEFAULT_FRACTION) if cfg.get(name) is None else cfg[name])
    return fractions


def forget(cfg: DictConfig) -> None:
    """Delete everything made from videos, and reject the videos from now on."""
    root = _root(cfg)
    keys = plain(cfg, "keys")
    with Ledger.open(root, **_fractions(cfg, root)) as ledger:
        for file in ledger.forget([keys] if isinstance(keys, str) else keys):
            print(f"deleted {root / file}")
        index_scenes(root)


def status(cfg: DictConfig) -> None:
    """Print the number of items per stage and state, and the reasons."""
    print(status_text(_root(cfg)))


def report(cfg: DictConfig) -> None:
    """Write the report page."""
    root = _root(cfg)
    out = root / REPORT_FILE if cfg.out is None else Path(path_setting(cfg, "out"))
    if cfg.out is not None and out.exists():
        raise FileExistsError(f"{out} exists; choose another out=")
    check_setting("num_scenes", cfg.num_scenes, int)
    print(write_ingest_report(root, out, num_scenes=cfg.num_scenes))


run_all = partial(_run, names=STAGES)
fetch = partial(_run, names=("fetch",))
clip = partial(_run, names=("clip",))
pose = partial(_run, names=("pose",))
pack = partial(_run, names=("pack",))
