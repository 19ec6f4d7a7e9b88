"""`wnv-bench`: measure one claim on this machine."""

import sys

from wnv.cli import commands
from wnv.cli.app import choose, report_errors

BENCHMARKS = {
    "attention": "cached and joint attention: time per rendered view and training step, cost of the camera encoding",
    "encodings": "none, plucker, gta and geope after equal training, cached and joint attention (most of an hour)",
    "hotpath": "bytes, kernels and memory of a training step, counted without running it, eager and compiled",
    "ingest": "list rows cleaned and ledger updates per second, beside minimal baselines",
    "loader": "examples per second from scene files and from clips, beside decoding the same JPEGs in a loop",
    "startup": "seconds until --help of each command, and until the first step of a training",
    "viewer": "images per second of the viewer, with the camera moving and at rest",
}


def main() -> None:
    """Run the benchmark that the first argument names."""
    choice = report_errors(
        lambda: choose(BENCHMARKS, prog="wnv-bench", word="benchmark", usage=_usage), prog="wnv-bench"
    )
    if choice is not None:
        sys.argv[1] = f"bench={choice}"
        commands.bench()


def _usage() -> str:
    lines = [f"  {name:11}{summary}" for name, summary in BENCHMARKS.items()]
    usage = ["Usage: wnv-bench NAME [KEY=VALUE ...]", "", *lines, "", "wnv-bench NAME --help lists its settings."]
    return "\n".join(usage)


if __name__ == "__main__":
    main()
