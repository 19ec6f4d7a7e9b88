"""Implementation of `wnv-report`."""

import os
from pathlib import Path

from omegaconf import DictConfig

from wnv.cli.settings import check_setting, path_setting, plain, switch
from wnv.pages.runs.report import write_run_report


def run(cfg: DictConfig) -> None:
    """Write the page and print its path."""
    runs = plain(cfg, "runs")
    runs = [runs] if isinstance(runs, str) else runs
    if not isinstance(runs, list) or not runs:
        raise ValueError("runs is empty; name folders of runs, sweeps or evaluations: wnv-report runs/a runs/b")
    check_setting("title", cfg.title, str | None)
    folders = [os.path.expanduser(str(folder)) for folder in runs]
    overwrite = switch(cfg, "overwrite")
    print(write_run_report(folders, Path(path_setting(cfg, "out")), title=cfg.title, overwrite=overwrite))
