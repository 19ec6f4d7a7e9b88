"""The manifest stage: turns lists and folders into one canonical list and its report."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wnv.ingest.manifest.codes import LINE_CODES
from wnv.ingest.manifest.jsonl import read_lines, write_json, write_lines
from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.manifest.merge import mark_same_titles, merge_lines
from wnv.ingest.manifest.metadata import published_metadata
from wnv.ingest.manifest.short_links import Opener, resolve_short_links
from wnv.ingest.manifest.table import guess_kind, read_table
from wnv.ingest.manifest.times import TimeFormat
from wnv.ingest.manifest.videos import SUFFIXES, read_url, read_videos
from wnv.scenes.schema import SceneKind

Times = Literal["auto"] | TimeFormat


@dataclass(frozen=True, kw_only=True)
class ManifestResult:
    """Result of the manifest stage.

    Attributes:
        lines: One per video, and one per row without a video.
        report: The counts of `<out>.report.json`.
    """

    lines: list[ManifestLine]
    report: dict[str, Any]


def make_manifest(
    sources: Sequence[Path | str],
    *,
    kind: SceneKind | list[SceneKind | None] | None = None,
    times: Times = "auto",
    out: Path | None = None,
    json_out: Path | None = None,
    overwrite: bool = False,
    lock_file: Path | None = None,
    opener: Opener | None = None,
    follow_links: bool = False,
) -> ManifestResult:
    """Merge lists and folders into one canonical list, and write it.

    Args:
        sources: CSV files, canonical lists (`.jsonl`), videos, folders of videos, addresses (`str`), merged in order.
        kind: Kind of the videos, for all sources or one per source. None takes it from the names of CSV files; videos
            and addresses need it; canonical lists contain it.
        times: Meaning of times without colons in CSV files: `mmss`, `seconds`, or `auto` (see `read_table`).
        out: File of the canonical list, with `<out>.report.json` beside it; None writes neither.
        json_out: File of the rows in the format of the published script's `--save_json`; None writes none.
        overwrite: Replace existing files.
        lock_file: JSON file with known targets of short links; None keeps short links.
        opener: Resolves unknown short links, such as `LocationOpener()`; None stays offline.
        follow_links: Also read folders that are linked from a folder of videos.

    Raises:
        FileNotFoundError: If a source does not exist.
        FileExistsError: If an output exists and `overwrite` is not set.
        ValueError: If a source is invalid; names the line.
    """
    if not sources:
        raise ValueError("source must name a CSV, a canonical list, a video, a folder or an address, got none")
    kinds: list[SceneKind | None] = kind if isinstance(kind, list) else [kind for _ in sources]
    if len(kinds) != len(sources):
        raise ValueError(f"kind must be one value or one per source, got {len(kinds)} for {len(sources)} sources")
    if opener is not None and lock_file is None:
        raise ValueError("lock_file must be set to resolve short links")
    report_out = None if out is None else out.with_name(f"{out.name}.report.json")
    files_read = [source for source in sources if isinstance(source, Path)]
    _check_outputs([path for path in (out, report_out, json_out) if path is not None], files_read, overwrite)
    rows: list[ManifestLine] = []
    files: list[dict[str, Any]] = []
    num_of_name = Counter(path.name for path in files_read)
    for source, source_kind in zip(sources, kinds, strict=True):
        name = source.name if isinstance(source, Path) and num_of_name[source.name] == 1 else str(source)
        lines, about = _read(source, name, source_kind, times, follow_links)
        rows += lines
        counts = Counter(about.pop("codes", ()))
        counts.update(code for line in lines for code in line.codes if code not in LINE_CODES)
        files.append({**about, "num_rows": len(lines), "codes": dict(sorted(counts.items()))})
    lines = merge_lines(rows)
    if lock_file is not None:
        lines = resolve_short_links(lines, lock_file=lock_file, opener=opener)
    lines = mark_same_titles(lines)
    report = _report(lines, files)
    if out is not None and report_out is not None:
        write_lines(out, lines, overwrite=overwrite)
        write_json(report_out, report, overwrite=overwrite)
    if json_out is not None:
        write_json(json_out, published_metadata(rows), overwrite=overwrite)
    return ManifestResult(lines=lines, report=report)


def _read(
    source: Path | str, name: str, kind: SceneKind | None, times: Times, follow_links: bool
) -> tuple[list[ManifestLine], dict[str, Any]]:
    """Lines of a source, and facts about it; `codes` are its file codes."""
    if isinstance(source, Path) and not source.exists():
        raise FileNotFoundError(f"{source}: no such file or folder")
    if isinstance(source, str) or source.is_dir() or source.suffix.lower() in SUFFIXES:
        if kind is None:
            raise ValueError(f"kind must be set for {source}: kind=static or kind=dynamic")
        if isinstance(source, str):
            return read_url(source, kind=kind)
        return read_videos(source, kind=kind, follow_links=follow_links)
    if source.suffix.lower() == ".jsonl":
        return read_lines(source), {"file": str(source)}
    return read_table(source, kind=kind or guess_kind(source), name=name, times=times)


def _report(lines: list[ManifestLine], files: list[dict[str, Any]]) -> dict[str, Any]:
    """Count rows, lines, keys, segments, marked seconds and codes.

    Row codes count rows, file codes count files, line codes count lines.
    """
    keys = {line.key: line for line in lines if line.key is not None}
    spans = [span for line in keys.values() for span in line.segments]
    codes = Counter(code for line in lines for code in line.codes if code in LINE_CODES)
    for file in files:
        codes.update(file["codes"])
    return {
        "num_rows": sum(file["num_rows"] for file in files),
        "num_lines": len(lines),
        "num_keys": len(keys),
        "num_without_key": len(lines) - len(keys),
        "num_with_segments": sum(bool(line.segments) for line in keys.values()),
        "num_segments": len(spans),
        "marked_s": round(sum(end_s - start_s for start_s, end_s in spans), 3),
        "kinds": dict(sorted(Counter(line.kind for line in keys.values()).items())),
        "key_forms": dict(sorted(Counter(key.partition(":")[0] for key in keys).items())),
        "codes": dict(sorted(codes.items())),
        "files": files,
    }


def _check_outputs(paths: Sequence[Path], sources: Sequence[Path], overwrite: bool) -> None:
    resolved = [path.resolve() for path in (*paths, *sources)]
    for path in paths:
        if resolved.count(path.resolve()) > 1:
            raise ValueError(f"{path} would overwrite another output or a source; choose another file")
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists; set overwrite=true to replace it, or write to another file")
