"""The console commands: the function that each runs, and its configuration.

What the functions need is imported when they run, so `--help` and mistyped settings are answered at once.
"""

import os
from datetime import datetime

from omegaconf import OmegaConf

from wnv.cli.app import hydra_command

_LAUNCHERS = ("TORCHELASTIC", "WORLD_SIZE", "SLURM", "SUBMITIT")


def _run_stamp(pattern: str) -> str:
    if not any(name.startswith(_LAUNCHERS) for name in os.environ):
        return datetime.now().strftime(pattern)  # without importing torch
    from wnv.training.processes import run_stamp

    return run_stamp(pattern)


OmegaConf.register_new_resolver("wnv.run_stamp", _run_stamp, use_cache=True, replace=True)

bench = hydra_command("wnv.cli.bench_run:run", config_name="bench", prog="wnv-bench")
demo = hydra_command("wnv.cli.demo:run", config_name="demo", prog="wnv-demo")
evaluate = hydra_command("wnv.cli.eval:run", config_name="eval", prog="wnv-eval")
export = hydra_command("wnv.cli.export:export", config_name="export", prog="wnv-export")
render = hydra_command("wnv.cli.render:run", config_name="render", prog="wnv-render")
report = hydra_command("wnv.cli.report_run:run", config_name="report", prog="wnv-report")
train = hydra_command(
    "wnv.cli.train:run", config_name="train", prog="wnv-train", complete="wnv.cli.resume:with_own_overrides"
)
view = hydra_command("wnv.cli.view:run", config_name="view", prog="wnv-view")
