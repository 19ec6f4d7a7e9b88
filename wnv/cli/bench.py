"""`wnv-bench`: measures one claim on this machine."""

import sys

from wnv.cli import commands
from wnv.cli.app import choose, report_errors

BENCHMARKS = {
    "attention": "cached against joint attention: drawing a view, a training step, and what the camera encoding costs",
    "encodings": "none, plucker, gta and geope after equal training, cached against joint attention (most of an hour)",
    "ingest": "rows of a list repaired a second, and updates of the ledger, beside the bare work",
    "loader": "examples a second from scene files and from clips, against decoding the same JPEGs in a bare loop",
    "startup": "seconds until --help of each command, and from starting a training to its first step",
    "viewer": "pictures a second of the viewer while its camera moves and at rest, and where the time goes",
}


def main() -> None:
    """Run the benchmark that the first argument names."""
    lines = [f"  {name:11}{summary}" for name, summary in BENCHMARKS.items()]
    usage = "\n".join(
        ["Usage: wnv-bench NAME [KEY=VALUE ...]", "", *lines, "", "wnv-bench NAME --help lists its settings."]
    )
    choice = report_errors(
        lambda: choose(BENCHMARKS, prog="wnv-bench", word="benchmark", usage=usage), prog="wnv-bench"
    )
    if choice is not None:
        sys.argv[1] = f"bench={choice}"
        commands.bench()


if __name__ == "__main__":
    main()
