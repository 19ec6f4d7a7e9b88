"""`wnv-bench`: measures one claim on this machine."""

import sys
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from wnv.benchmarks.tables import Table, describe_machine
from wnv.cli.app import hydra_main

BENCHMARKS = {
    "attention": "cached against joint attention: drawing a view, a training step, and what the camera encoding costs",
    "encodings": "none, plucker, gta and geope after equal training, cached against joint attention (most of an hour)",
    "ingest": "rows of a list repaired a second, and updates of the ledger, beside the bare work",
    "loader": "examples a second from scene files and from clips, against decoding the same JPEGs in a bare loop",
}


@hydra_main(config_name="bench", prog="wnv-bench")
def run(cfg: DictConfig) -> None:
    """Run the benchmark and print its table."""
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    out = None if cfg.out is None else Path(cfg.out).expanduser()
    if out is not None:
        if out.exists():
            raise FileExistsError(f"{out} exists; choose another out=")
        out.parent.mkdir(parents=True, exist_ok=True)  # now, and not after an hour of measuring
    table: Table = instantiate(cfg.bench, _convert_="all")
    print(f"{table.to_markdown()}\n\n{describe_machine()}")
    if out is not None:
        table.write_json(out)


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
    run()


if __name__ == "__main__":
    main()
