"""The settings in which runs differ, and labels made of them."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from wnv.pages.runs.run import Run
from wnv.training.run_folder import flatten_config

ABSENT = "–"
# Paths and resume settings: always different, and irrelevant for a comparison.
_IGNORED = ("run_dir", "resume", "paths.", "trainer.default_root_dir")
_MAX_LABEL = 48


def config_differences(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Setting -> its value per run, for settings in which runs differ; `ABSENT` where a run lacks it.

    Runs of which only the model's settings are known are compared by those.
    """
    configs = [flatten_config(run.config) for run in runs]
    is_complete = [run.training is not None and bool(run.config) for run in runs]
    rows: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for config in configs for name in config):
        values = [_text(config.get(name, ABSENT)) for config in configs]
        known = {
            value
            for value, config, complete in zip(values, configs, is_complete, strict=True)
            if complete or name in config
        }
        if len(known) > 1 and not name.startswith(_IGNORED) and not name.endswith(".folder"):
            rows[name] = values
    return rows


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Shorten settings to the end of their name, as far as they stay distinct."""
    short = {}
    for name in names:
        parts = name.split(".")
        ends = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        is_unique = [sum(other == end or other.endswith(f".{end}") for other in names) == 1 for end in ends]
        short[name] = next(end for end, unique in zip(ends, [*is_unique[:-1], True], strict=True) if unique)
    return short


def labels(runs: Sequence[Run], differences: Mapping[str, Sequence[str]]) -> list[str]:
    """Label runs by the end of their name, followed by the settings in which they differ if that is short."""
    parts = [run.name.split(os.sep) for run in runs]
    shared, least = 0, min(map(len, parts), default=0)
    while shared < least - 1 and len({part[shared] for part in parts}) == 1:
        shared += 1
    short = short_names([*differences])
    found = []
    for index, part in enumerate(parts):
        end = os.sep.join(part[shared:])
        settings = [f"{short[name]}={values[index]}" for name, values in differences.items() if values[index] != ABSENT]
        full = f"{end} · {', '.join(settings)}" if settings and len(runs) > 1 else end
        found.append(full if len(full) <= _MAX_LABEL else end)
    return found


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value)
