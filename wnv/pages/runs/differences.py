"""In which settings runs differ, and what to call them by that."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from wnv.pages.runs.runs import Run
from wnv.training.run_folder import flatten_config

ABSENT = "–"
# Where a run is and whence it goes on: different for each, and nothing that it was made by.
_OF_THE_PLACE = ("run_dir", "resume", "paths.", "trainer.default_root_dir")
_MAX_LABEL = 48


def config_differences(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Setting -> its value in each run, for the settings in which runs differ; `ABSENT` where a run has none.

    A run that is known by its model alone takes part in what it tells.
    """
    configs = [flatten_config(run.config) for run in runs]
    whole = [run.training is not None and bool(run.config) for run in runs]
    names = dict.fromkeys(name for config in configs for name in config if not _is_of_the_place(name))
    rows: dict[str, list[str]] = {}
    for name in names:
        told = [
            _text(config.get(name, ABSENT))
            for config, is_whole in zip(configs, whole, strict=True)
            if is_whole or name in config
        ]
        if len({*told}) > 1:
            rows[name] = [_text(config.get(name, ABSENT)) for config in configs]
    return rows


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Settings by the end of their name, as far as it tells them apart."""
    short = {}
    for name in names:
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            end = ".".join(parts[-count:])
            if sum(other == end or other.endswith(f".{end}") for other in names) == 1:
                break
        short[name] = end
    return short


def labels(runs: Sequence[Run], differences: Mapping[str, Sequence[str]]) -> list[str]:
    """What the runs are called in charts: the end of their name, and in what they differ where that is short."""
    parts = [run.name.split(os.sep) for run in runs]
    shared, least = 0, min(map(len, parts), default=0)
    while shared < least - 1 and len({part[shared] for part in parts}) == 1:
        shared += 1
    ends = [os.sep.join(part[shared:]) for part in parts]
    short = short_names([*differences])
    found = []
    for number, end in enumerate(ends):
        told = [f"{short[name]}={values[number]}" for name, values in differences.items() if values[number] != ABSENT]
        words = f"{end} · {', '.join(told)}" if told and len(runs) > 1 else end
        found.append(words if len(words) <= _MAX_LABEL else end)
    return found


def _is_of_the_place(name: str) -> bool:
    return name.startswith(_OF_THE_PLACE) or name.endswith(".folder")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value)
