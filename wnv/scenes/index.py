"""The index of a data set: a folder of scene files and `index.jsonl`, a line a scene, which can always be rebuilt."""

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import fsspec

from wnv.runtime.atomic import atomic_file
from wnv.scenes.archive import is_url
from wnv.scenes.scene_file import SceneFile
from wnv.scenes.schema import INDEX_FILE, SceneError, SceneInfo, SceneKind, check_member_name

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SceneRecord:
    """One line of the index.

    Attributes:
        id: The scene's id, unique in the data set.
        file: Path of the scene file, relative to the folder.
        kind: `static` or `dynamic`.
        num_frames: How many frames it has.
        width: Width of its images in pixels.
        height: Height of its images in pixels.
    """

    id: str
    file: str
    kind: SceneKind
    num_frames: int
    width: int
    height: int


def find_scenes(folder: str | Path) -> list[Path]:
    """The scene files (`*.zip`) of a local folder and of the folders in it, sorted; hidden ones are left out.

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


def build_index(folder: str | Path) -> list[SceneRecord]:
    """Index a local folder of scene files anew, write `index.jsonl`, and return its records, sorted by file.

    Every scene is opened, which checks all of it but the pixels (`validate_scene` checks those).

    Raises:
        FileNotFoundError: If there is no such folder, or no scene file in it.
        SceneError: If any scene is refused or two have one id. All of them are named with their reasons, and
            the index is left as it was.
    """
    root = Path(folder)
    records: list[SceneRecord] = []
    refusals: list[str] = []
    first_with_id: dict[str, str] = {}
    for path in find_scenes(root):
        file = path.relative_to(root).as_posix()
        try:
            info = SceneFile(path).info
            check_member_name(file, "scene file")
        except SceneError as error:
            refusals.append(f"{file}: {error}")
            continue
        if info.id in first_with_id:
            refusals.append(f"{file}: its id '{info.id}' is also that of {first_with_id[info.id]}; remove one of them")
            continue
        first_with_id[info.id] = file
        records.append(_record(file, info))
    if refusals:
        raise SceneError(refusal_message(root, refusals, total=len(records) + len(refusals)))
    with atomic_file(root / INDEX_FILE, overwrite=True) as index:
        index.write("".join(json.dumps(asdict(record)) + "\n" for record in records).encode())
    return records


def refusal_message(folder: str | Path, refusals: Iterable[str], *, total: int) -> str:
    """The message of an error that names every refused scene of a folder."""
    lines = list(refusals)
    return "\n  ".join(
        [f"{folder}: {len(lines)} of {total} scenes are refused; repair them or move them away:", *lines]
    )


def read_index(folder: str | Path) -> list[SceneRecord]:
    """The records of a data set, in the order of its index.

    Scene files of a local folder that the index does not name are warned about.

    Args:
        folder: A local folder, or any URL that fsspec understands.

    Raises:
        FileNotFoundError: If there is no index, or it names a file that is not there (local folders only).
        ValueError: If a line is not a record, or two name one scene; the message has the line's number.
    """
    text = _read_text(folder)
    records = [
        _parse(line, f"{folder}/{INDEX_FILE}:{number}")
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip()
    ]
    if not records:
        raise ValueError(f"{folder}/{INDEX_FILE} names no scene; {_rebuild(folder)}")
    seen: set[str] = set()
    for record in records:
        if record.id in seen:
            raise ValueError(f"{folder}/{INDEX_FILE} names scene '{record.id}' twice; {_rebuild(folder)}")
        seen.add(record.id)
    if not is_url(str(folder)):
        _compare_with_folder(Path(folder), records)
    return records


def _compare_with_folder(root: Path, records: list[SceneRecord]) -> None:
    present = {path.relative_to(root).as_posix() for path in root.rglob("*.zip")}
    for record in records:
        if record.file not in present:
            raise FileNotFoundError(
                f"{root / record.file} is in the index but not in the folder; restore it, or {_rebuild(root)}"
            )
    extra = sorted(file for file in present - {record.file for record in records} if not _is_hidden(Path(file)))
    if extra:
        logger.warning(
            "%s holds %d scene files that its index does not name (%s first), so they are not used; %s",
            root,
            len(extra),
            extra[0],
            _rebuild(root),
        )


def _read_text(folder: str | Path) -> str:
    try:
        if is_url(str(folder)):
            with fsspec.open(f"{str(folder).rstrip('/')}/{INDEX_FILE}", "rt", encoding="utf-8") as file:
                return file.read()
        return (Path(folder) / INDEX_FILE).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"{folder} has no {INDEX_FILE}; {_rebuild(folder)}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{folder}/{INDEX_FILE} is not UTF-8 text ({error}); {_rebuild(folder)}") from error


def _parse(line: str, where: str) -> SceneRecord:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not a line of JSON ({error}); rebuild it with `wnv-data index`") from error
    hints = get_type_hints(SceneRecord)
    if not isinstance(data, dict) or not set(hints) <= set(data):
        raise ValueError(f"{where}: a record has the fields {', '.join(hints)}; rebuild it with `wnv-data index`")
    for name, hint in hints.items():
        allowed = get_args(hint)
        if data[name] not in allowed if allowed else type(data[name]) is not hint:
            raise ValueError(f"{where}: field {name!r} cannot be {data[name]!r}; rebuild it with `wnv-data index`")
    check_member_name(data["file"], f"{where}: file")
    return SceneRecord(**{name: data[name] for name in hints})


def _record(file: str, info: SceneInfo) -> SceneRecord:
    return SceneRecord(
        id=info.id, file=file, kind=info.kind, num_frames=len(info.frames), width=info.width, height=info.height
    )


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _rebuild(folder: str | Path) -> str:
    return f"run `wnv-data index path={folder}`"
