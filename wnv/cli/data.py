"""`wnv-data`: from lists of videos, or posed captures of others, to scene files."""

import sys
from dataclasses import dataclass
from importlib.resources import files

import yaml

from wnv.cli.app import CONFIG_PATH, choose, hydra_command, report_errors


@dataclass(frozen=True)
class Stage:
    """One stage of `wnv-data`.

    Attributes:
        task: What it runs, `module:function`; see `hydra_command`.
        config_name: Its configuration.
        config_path: Package of its configuration.
    """

    task: str
    config_name: str
    config_path: str

    def run(self, name: str) -> None:
        """Run the stage."""
        hydra_command(self.task, config_name=self.config_name, prog=f"wnv-data {name}", config_path=self.config_path)()

    def summary(self) -> tuple[str, str]:
        """Return what it does and a command that shows it, from the help in its configuration."""
        file = files(self.config_path.removeprefix("pkg://")) / f"{self.config_name}.yaml"
        lines = yaml.safe_load(file.read_text(encoding="utf-8"))["hydra"]["help"]["header"].splitlines()
        return lines[0].partition(": ")[2], lines[2]


def _ingest(name: str, task: str) -> Stage:
    return Stage(f"wnv.cli.data_ingest:{task}", name, "pkg://wnv.conf.ingest")


STAGES = {
    "manifest": _ingest("manifest", "manifest"),
    "run": _ingest("run", "run_all"),
    **{name: _ingest(name, name) for name in ("fetch", "clip", "pose", "pack", "status", "report", "forget")},
    "import": Stage("wnv.cli.data_scenes:import_captures", "data_import", CONFIG_PATH),
    "export": Stage("wnv.cli.export:export", "data_export", CONFIG_PATH),
    "verify": Stage("wnv.cli.data_scenes:verify_scenes", "data_verify", CONFIG_PATH),
    "index": Stage("wnv.cli.data_scenes:index_scenes", "data_index", CONFIG_PATH),
}


def main() -> None:
    """Run the stage that the first argument names."""
    choice = report_errors(lambda: choose(STAGES, prog="wnv-data", word="stage", usage=_usage), prog="wnv-data")
    if choice is not None:
        sys.argv[:2] = [f"wnv-data {choice}"]
        STAGES[choice].run(choice)


def _usage() -> str:
    lines = ["Usage: wnv-data STAGE [KEY=VALUE ...]", ""]
    for name, stage in STAGES.items():
        what, example = stage.summary()
        lines += [f"  {name:10}{what}", f"            {example}"]
    return "\n".join([*lines, "", "wnv-data STAGE --help lists the settings of a stage."])


if __name__ == "__main__":
    main()
