"""Runs started by torchrun."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from together import free_ports

SETTINGS = ["experiment=smoke", "device=cpu", "trainer.max_steps=2", "optim.warmup_steps=1"]
SETTINGS += ["trainer.val_check_interval=2", "callbacks.images=null"]
LAUNCHER_VARIABLES = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED")


@pytest.mark.slow
def test_two_machines_share_the_default_run_folder(tmp_path: Path) -> None:
    """Two torchrun agents on this machine."""
    (port,) = free_ports(1)
    torchrun = [Path(sys.executable).with_name("torchrun"), "--nnodes=2", "--nproc-per-node=1"]
    torchrun += ["--master-addr=127.0.0.1", f"--master-port={port}"]
    kept = {name: value for name, value in os.environ.items() if name not in LAUNCHER_VARIABLES}
    environment = kept | {"OMP_NUM_THREADS": "1"}
    agents = []
    for rank in range(2):
        command = [*torchrun, f"--node-rank={rank}", "-m", "wnv.cli.train", *SETTINGS, "trainer.num_nodes=2"]
        file = (tmp_path / f"{rank}.txt").open("w")
        agents.append(subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=file, stderr=subprocess.STDOUT))
        file.close()
    try:
        codes = [agent.wait(timeout=200) for agent in agents]
    finally:
        for agent in agents:
            agent.kill()
    output = "".join((tmp_path / f"{rank}.txt").read_text() for rank in range(2))
    assert codes == [0, 0], output
    (run_dir,) = (tmp_path / "runs" / "smoke").iterdir()
    (start,) = (run_dir / "starts.jsonl").read_text().splitlines()
    assert json.loads(start)["devices"] == 2
    with (run_dir / "metrics.csv").open(newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]] == [0, 1]
