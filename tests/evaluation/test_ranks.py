"""Several processes give the scores of one, to the last digit; after a kill the evaluation resumes."""

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from together import free_ports

from wnv.evaluation.ranks import Ranks, joined_ranks, own_device
from wnv.evaluation.records import read_records
from wnv.evaluation.summary import read_summary

PROGRAM = Path(__file__).with_name("shared_evaluation.py")


def start(*arguments: str | Path, world_size: int) -> list[subprocess.Popen]:
    """The processes as torchrun would start them."""
    (port,) = free_ports(1)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world_size)}
    return [
        subprocess.Popen(
            [sys.executable, PROGRAM, *arguments],
            env=os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world_size)
    ]


def run_alone(out: Path, *, resume: bool) -> None:
    spec = importlib.util.spec_from_file_location("shared_evaluation", PROGRAM)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    before = torch.get_num_threads()
    try:
        program.run(str(out), resume=resume, dies=False)
    finally:
        torch.set_num_threads(before)


def scores(out: Path) -> list:
    return [replace(record, encode_ms=0.0, render_ms=0.0) for record in read_records(out)]


@pytest.mark.slow
def test_two_processes_score_what_one_does_and_one_goes_on_where_two_were_killed(tmp_path):
    run_alone(tmp_path / "one", resume=False)
    expected = scores(tmp_path / "one")
    assert len(expected) == 9

    two = start(tmp_path / "two", world_size=2)
    said = [process.communicate(timeout=100)[0].split() for process in two]
    assert [process.returncode for process in two] == [0, 0]
    assert scores(tmp_path / "two") == expected, "no example is lost, none is counted twice, no digit differs"
    one_summary, two_summary = read_summary(tmp_path / "one"), read_summary(tmp_path / "two")
    assert two_summary.main.model == one_summary.main.model
    assert (one_summary.num_processes, two_summary.num_processes) == (1, 2)
    assert [rank for rank, *_ in said] == ["0", "1"]
    assert said[0][1:] == said[1][1:] == [str(one_summary.main.model["psnr"].mean), "2"]

    again = start(tmp_path / "two", world_size=2)
    for process in again:
        assert "FileExistsError" in process.communicate(timeout=100)[1].splitlines()[-1], "every rank reports the error"
    assert scores(tmp_path / "two") == expected

    killed = start(tmp_path / "killed", "die", world_size=2)
    assert killed[1].wait(timeout=100) == 9
    killed[0].kill()  # as torchrun does with the others
    for process in killed:
        process.communicate()
    assert not (tmp_path / "killed" / "summary.json").exists()
    left = scores(tmp_path / "killed")
    assert 0 < len(left) < 9
    run_alone(tmp_path / "killed", resume=True)
    assert scores(tmp_path / "killed") == expected
    assert not list((tmp_path / "killed").glob("records.rank*"))


def test_a_process_by_itself_waits_for_nobody():
    with joined_ranks() as ranks:
        assert ranks == Ranks(rank=0, world_size=1)
        assert ranks.gather("a") == ["a"]
        ranks.wait()
    assert own_device(torch.device("cpu")) == torch.device("cpu")


def test_a_number_of_processes_without_a_launcher_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=r"WORLD_SIZE=2 .*RANK, MASTER_ADDR, MASTER_PORT"):
        with joined_ranks():
            pass
