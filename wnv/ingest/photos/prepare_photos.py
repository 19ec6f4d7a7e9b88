"""The clip stage of photographs: read, turn upright, scale down, and find out which share a camera."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from wnv.ingest.layout import clip_file, clip_id
from wnv.ingest.photos.photo_set import PHOTOS_SUFFIX, write_photos
from wnv.ingest.photos.read_photo import read_photo
from wnv.ingest.tasks import Outcome, StageError, Task

MIN_PHOTOS = 3
"""Fewest photographs that COLMAP can reconstruct a scene from."""
_NUM_NAMED = 5  # photographs named in a message


def prepare_photos(task: Task, *, short_side: int) -> Outcome:
    """Write the photographs of one folder as a set; those that cannot be read are left out and named.

    Raises:
        StageError: If fewer than `MIN_PHOTOS` can be read.
    """
    payload = task.payload
    about = {name: payload[name] for name in ("key", "kind", "split")}
    name = clip_id(about["key"], 0.0)
    file = clip_file(name, kind=about["kind"], split=about["split"], suffix=PHOTOS_SUFFIX)
    path = task.root / file
    path.with_suffix(".json").unlink(missing_ok=True)  # poses of an earlier run
    dropped: list[dict[str, str]] = []
    problems: dict[str, list[str]] = defaultdict(list)  # names of the photographs, by what is wrong with them
    parts = payload["fetch"]["parts"]
    with write_photos(path, short_side=short_side) as photos:
        for part in parts:
            try:
                photo = read_photo(task.root / part["file"])
            except StageError as error:
                dropped.append({"name": part["name"], "reason": error.outcome.reason})
                file_name = PurePosixPath(part["file"]).name
                problems[error.outcome.message.removeprefix(file_name)].append(file_name)
                continue
            photos.add(part["name"], photo.image, lens=photo.lens, focal=photo.focal)
        entries = photos.entries
        left_out = f"; left out: {_join(problems)}" if problems else ""
        if len(entries) < MIN_PHOTOS:
            reason = dropped[0]["reason"] if dropped else "few_photos"
            text = f"{len(entries)} of {len(parts)} photographs can be used, at least {MIN_PHOTOS} are needed{left_out}"
            raise StageError("refused", reason, text)
    sizes = Counter((entry.width, entry.height) for entry in entries)
    (width, height), _ = sizes.most_common(1)[0]
    stats = {
        "num_cameras": 1 + max(entry.camera for entry in entries),
        "num_sizes": len(sizes),
        "num_with_focal": sum(entry.focal is not None for entry in entries),
    }
    clip = {"id": name, "file": file, **about, "start_s": 0.0, "end_s": 0.0, "num_frames": len(entries)}
    return Outcome(
        state="done",
        message=f"{len(dropped)} of {len(parts)} photographs left out{left_out}" if dropped else "",
        result={"clips": [{**clip, "width": width, "height": height, "stats": stats}], "dropped": dropped},
        num_bytes=path.stat().st_size,
    )


def _join(problems: Mapping[str, Sequence[str]]) -> str:
    """Name the photographs of each problem; of many problems, the first ones."""
    texts = [
        f"{', '.join(names[:_NUM_NAMED])}{', ...' if len(names) > _NUM_NAMED else ''}{problem}"
        for problem, names in problems.items()
    ]
    return "; ".join(texts[:_NUM_NAMED])
