"""`wnv-data`: from lists of videos, or posed captures of others, to scene files."""

import sys
from dataclasses import dataclass

from wnv.cli.app import CONFIG_PATH, choose, hydra_command, report_errors

INGEST = "pkg://wnv.conf.ingest"


@dataclass(frozen=True)
class Stage:
    """One stage of `wnv-data`.

    Attributes:
        task: What it runs, `module:function`; see `hydra_command`.
        summary: What it does, in a line.
        example: A command that shows it.
        config_path: Package of its configuration.
        config_name: Its configuration there; None for the stage's own name.
    """

    task: str
    summary: str
    example: str
    config_path: str = INGEST
    config_name: str | None = None

    def run(self, name: str) -> None:
        """Run the stage."""
        hydra_command(
            self.task, config_name=self.config_name or name, prog=f"wnv-data {name}", config_path=self.config_path
        )()


STAGES = {
    "manifest": Stage(
        "wnv.cli.data_ingest:manifest",
        "clean lists of videos and write one JSON line per video",
        "wnv-data manifest source=static.csv out=static.jsonl",
    ),
    "run": Stage(
        "wnv.cli.data_ingest:run_all",
        "fetch, clip, pose and pack; run the same command again to resume",
        "wnv-data run source=phone_videos root=mine",
    ),
    "fetch": Stage(
        "wnv.cli.data_ingest:fetch",
        "download the videos of a list, only the marked segments if it has marks",
        "wnv-data fetch source=static.jsonl root=kokoni limit=20",
    ),
    "clip": Stage(
        "wnv.cli.data_ingest:clip",
        "cut fetched videos into clips of one shot, at one size and a constant frame rate",
        "wnv-data clip root=kokoni clip.short_side=360",
    ),
    "pose": Stage(
        "wnv.cli.data_ingest:pose",
        "estimate the cameras of every clip by structure from motion",
        "wnv-data pose root=kokoni",
    ),
    "pack": Stage(
        "wnv.cli.data_ingest:pack",
        "write posed clips as scene files, and index them",
        "wnv-data pack root=kokoni",
    ),
    "status": Stage(
        "wnv.cli.data_ingest:status",
        "list items that are done, pending, failed and refused, with reasons",
        "wnv-data status root=kokoni",
    ),
    "report": Stage(
        "wnv.cli.data_ingest:report",
        "write one HTML page with counts, reasons, and scenes with their camera paths",
        "wnv-data report root=kokoni",
    ),
    "forget": Stage(
        "wnv.cli.data_ingest:forget",
        "delete everything made from videos, and reject the videos from now on",
        "wnv-data forget root=kokoni keys=[bv:BV1xx411c7mD:p1]",
    ),
    "import": Stage(
        "wnv.cli.data_scenes:import_captures",
        "turn posed captures of other formats into scene files",
        "wnv-data import format=nerfstudio source=captures/fox out=data/fox max_side=480",
        config_path=CONFIG_PATH,
        config_name="data_import",
    ),
    "export": Stage(
        "wnv.cli.export:export",
        "write scene files in the formats of other tools",
        "wnv-data export format=colmap scene=data/fox out=exports",
        config_path=CONFIG_PATH,
        config_name="data_export",
    ),
    "verify": Stage(
        "wnv.cli.data_scenes:verify_scenes",
        "check scene files including their pixels",
        "wnv-data verify path=data/fox",
        config_path=CONFIG_PATH,
        config_name="data_verify",
    ),
    "index": Stage(
        "wnv.cli.data_scenes:index_scenes",
        "rebuild the index of a folder of scene files",
        "wnv-data index path=data/fox",
        config_path=CONFIG_PATH,
        config_name="data_index",
    ),
}


def main() -> None:
    """Run the stage that the first argument names."""
    choice = report_errors(lambda: choose(STAGES, prog="wnv-data", word="stage", usage=_usage()), prog="wnv-data")
    if choice is not None:
        sys.argv[:2] = [f"wnv-data {choice}"]
        STAGES[choice].run(choice)


def _usage() -> str:
    lines = ["Usage: wnv-data STAGE [KEY=VALUE ...]", ""]
    for name, stage in STAGES.items():
        lines += [f"  {name:10}{stage.summary}", f"            {stage.example}"]
    return "\n".join([*lines, "", "wnv-data STAGE --help lists the settings of a stage."])


if __name__ == "__main__":
    main()
