"""`wnv-bench`: measures one claim on this machine."""

import sys

from wnv.cli import commands

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
    arguments = sys.argv[1:]
    if arguments and arguments[0] in ("-h", "--help"):
        lines = [f"  {name:11}{summary}" for name, summary in BENCHMARKS.items()]
        print("\n".join(["usage: wnv-bench NAME [setting=value ...]", "", *lines, "", "wnv-bench NAME --cfg job"]))
        return
    if not arguments or arguments[0] not in BENCHMARKS:
        found = f"got {arguments[0]!r}" if arguments else "none was given"
        sys.stderr.write(
            f"wnv-bench: error: the first argument names a benchmark ({', '.join(BENCHMARKS)}), {found}; "
            "see wnv-bench --help\n"
        )
        raise SystemExit(2)
    sys.argv = ["wnv-bench", f"bench={arguments[0]}", *arguments[1:]]
    commands.bench()


if __name__ == "__main__":
    main()
