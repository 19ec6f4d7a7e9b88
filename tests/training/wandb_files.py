"""Read the file of an offline W&B run."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def wandb_records(path: Path) -> Iterator[Any]:
    """Yield the protobuf records of a file: in blocks of 32 KiB, as in LevelDB's logs."""
    from wandb.proto import wandb_internal_pb2

    data, at, parts = path.read_bytes(), 7, []  # after a header of 7 bytes
    while at + 7 <= len(data):
        if 2**15 - at % 2**15 < 7:  # the rest of a block, too short for a record
            at += 2**15 - at % 2**15
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        parts.append(data[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(b"".join(parts))
            parts = []


def wandb_history(path: Path) -> list[dict[str, object]]:
    """Return the logged rows of a run."""
    items = [record.history.item for record in wandb_records(path) if record.WhichOneof("record_type") == "history"]
    return [{item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row} for row in items]


def wandb_run(path: Path) -> tuple[Any, dict[str, Any]]:
    """Return a run (with `run_id`, `display_name`, `run_group`) and its configuration."""
    config, run = {}, None
    for record in wandb_records(path):
        kind = record.WhichOneof("record_type")
        run = record.run if kind == "run" else run
        for item in (record.run if kind == "run" else record).config.update:
            config[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    return run, config
