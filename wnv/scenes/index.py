"""The index of a folder of scene files: `index.jsonl`, one line per scene, which can always be rebuilt."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import fsspec

from wnv.runtime.atomic import atomic_file
from wnv.scenes.archive import is_url
from wnv.scenes.json_fields import JsonObject
from wnv.scenes.scene_file import SceneFile
from wnv.scenes.schema import INDEX_FILE, SceneError, SceneKind, check_kind, check_member_name

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SceneRecord:
    """One line of the index.

    Attributes:
        id: The scene's id, unique in the data set.
        file: Path of the scene file, relative to the folder.
        kind: `static` or `dynamic`.
        num_frames: Number of frames.
        width: Width of the images in pixels.
        height: Height of the images in pixels.
    """

    id: str
    file: str
    kind: SceneKind
    num_frames: int
    width: int
    height: int


_FIELDS = {"id": str, "file": str, "kind": str, "num_frames": int, "width": int, "height": int}


def find_scenes(folder: str | Path) -> list[Path]:
    """Find the scene files (`*.zip`) in a local folder and its subfolders, sorted; hidden ones are left out.

    Raises:
        FileNotFoundError: If there is no such folder, or no scene file in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder of scene files")
    found = [path for path in sorted(root.rglob("*.zip")) if not _is_hidden(path.relative_to(root))]
    if not found:
        raise FileNotFoundError(f"{root} holds no scene file (*.zip); make some with `wnv-data import`")
    return found


@dataclass(frozen=True)
class BuiltIndex:
    """Outcome of `build_index`: the records of the index, and one message per scene that is left out."""

    records: list[SceneRecord]
    rejected: list[str]


def build_index(folder: str | Path) -> BuiltIndex:
    """Index a local folder of scene files: write `index.jsonl`, sorted by file.

    Every scene is opened, which checks all of it but the pixels (`validate_scene` checks those). Invalid scenes, and
    those with the id of an earlier one, are left out and logged with their reasons.

    Raises:
        FileNotFoundError: If there is no such folder, or no scene file in it.
        SceneError: If every scene is invalid; an existing index is kept.
    """
    root = Path(folder)
    records: list[SceneRecord] = []
    rejected: list[str] = []
    first_with_id: dict[str, str] = {}
    for path in find_scenes(root):
        file = path.relative_to(root).as_posix()
        try:
            check_member_name(file, "scene file")
            info = SceneFile(path).info
        except SceneError as error:
            rejected.append(f"{file}: {error}")
            continue
        if info.id in first_with_id:
            rejected.append(f"{file}: its id '{info.id}' is also that of {first_with_id[info.id]}; remove one of them")
            continue
        first_with_id[info.id] = file
        records.append(
            SceneRecord(
                id=info.id, file=file, kind=info.kind, num_frames=len(info.frames), width=info.width, height=info.height
            )
        )
    if rejected:
        message = rejection_message(root, rejected, total=len(records) + len(rejected))
        if not records:
            raise SceneError(message)
        logger.warning("left out of the index: %s", message)
    with atomic_file(root / INDEX_FILE, overwrite=True) as index:
        index.write("".join(json.dumps(asdict(record)) + "\n" for record in records).encode())
    return BuiltIndex(records, rejected)


def rejection_message(folder: str | Path, rejected: Sequence[str], *, total: int) -> str:
    """Message that names every invalid scene of a folder."""
    head = f"{folder}: {len(rejected)} of {total} scenes are invalid; repair or remove them:"
    return "\n  ".join([head, *rejected])


def read_index(folder: str | Path) -> list[SceneRecord]:
    """Read the index of a folder; scene files of a local folder that it does not name are reported as a warning.

    Args:
        folder: A local folder, or any URL that fsspec understands.

    Raises:
        FileNotFoundError: If there is no index, or it names a missing file (local folders only).
        ValueError: If a line is not a record, or two name one scene.
    """
    text = _read_text(folder)
    records = [
        _parse(line, f"{folder}/{INDEX_FILE}:{number}")
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip()
    ]
    if not records:
        raise ValueError(f"{folder}/{INDEX_FILE} names no scene; {_rebuild(folder)}")
    for name, count in Counter(record.id for record in records).items():
        if count > 1:
            raise ValueError(f"{folder}/{INDEX_FILE} names scene '{name}' {count} times; {_rebuild(folder)}")
    if not is_url(str(folder)):
        _compare_with_folder(Path(folder), records)
    return records


def _compare_with_folder(root: Path, records: list[SceneRecord]) -> None:
    present = {path.relative_to(root).as_posix() for path in root.rglob("*.zip")}
    for record in records:
        if record.file not in present:
            raise FileNotFoundError(
                f"{root / record.file} is in the index but missing; restore it, or {_rebuild(root)}"
            )
    extra = sorted(file for file in present - {record.file for record in records} if not _is_hidden(Path(file)))
    if extra:
        message = "%s: %d scene files are not in the index and not used (first: %s); %s"
        logger.warning(message, root, len(extra), extra[0], _rebuild(root))


def _read_text(folder: str | Path) -> str:
    try:
        if is_url(str(folder)):
            files, path = fsspec.core.url_to_fs(f"{str(folder).rstrip('/')}/{INDEX_FILE}")
            return files.cat_file(path).decode("utf-8")
        return (Path(folder) / INDEX_FILE).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"{folder} has no {INDEX_FILE}; {_rebuild(folder)}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{folder}/{INDEX_FILE} is not UTF-8 text ({error}); {_rebuild(folder)}") from error


def _parse(line: str, where: str) -> SceneRecord:
    try:
        fields = JsonObject(json.loads(line), where=where)
        values = {name: fields.read(name, kind) for name, kind in _FIELDS.items()}
        check_kind(values["kind"], where)
        check_member_name(values["file"], f"{where}: file")
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, SceneError) else f"{where}: not a line of JSON ({error})"
        raise ValueError(f"{reason}; rebuild it with `wnv-data index`") from error
    return SceneRecord(**values)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _rebuild(folder: str | Path) -> str:
    return f"run `wnv-data index path={folder}`"
