"""Trouble of a disk: that of the root concerns all items; that of one file or machine is the item's."""

import errno
import shutil
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_stages import FakeStage, InlineExecutor, fake_stages, manifest, written

from wnv.ingest import tasks
from wnv.ingest.driver import run
from wnv.ingest.layout import ROOT_ID_FILE
from wnv.ingest.ledger import Ledger
from wnv.ingest.retries import Retries
from wnv.ingest.tasks import Outcome, Task, run_task

Usage = namedtuple("Usage", "free")


@dataclass(kw_only=True)
class _Troubled(FakeStage):
    error: OSError

    def __call__(self, task: Task) -> Outcome:
        raise self.error


def outcome_of(error: OSError, root: Path) -> Outcome:
    return run_task(_Troubled(name="clip", error=error), Task(stage="clip", item="a", root=root, payload={}))


@pytest.mark.parametrize(
    ("number", "state", "in_root", "elsewhere"),
    [
        (errno.ENOSPC, "pending", "no_space", "no_space_elsewhere"),
        (errno.EDQUOT, "pending", "no_space", "no_space_elsewhere"),
        (errno.EROFS, "pending", "read_only", "no_access"),
        (errno.EACCES, "pending", "denied", "no_access"),
    ],
)
def test_a_file_in_the_root_ends_the_run_and_another_one_fails_its_item(
    number: int, state: str, in_root: str, elsewhere: str, tmp_path: Path
) -> None:
    outcome = outcome_of(OSError(number, "trouble", str(tmp_path / "clips" / "a.mp4")), tmp_path)
    assert (outcome.state, outcome.reason) == (state, in_root)
    outcome = outcome_of(OSError(number, "trouble", "/somewhere/a.mp4"), tmp_path)
    assert (outcome.state, outcome.reason) == ("failed", elsewhere)
    assert "/somewhere/a.mp4" in outcome.message


@pytest.mark.parametrize(("free", "reason"), [(0, "no_space"), (10**12, "no_space_elsewhere")])
def test_a_write_that_names_no_file_blames_the_fuller_disk(
    free: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tmp_path.stat().st_dev == Path("/dev").stat().st_dev:
        pytest.skip("needs two file systems")
    monkeypatch.setattr(tasks, "_temporary_folder", lambda stage: Path("/dev"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(free if path == tmp_path else 10**9))
    outcome = outcome_of(OSError(errno.ENOSPC, "No space left on device"), tmp_path)
    assert outcome.reason == reason
    assert (str(tmp_path) if free == 0 else "/dev: ") in outcome.message


def test_a_machine_without_the_root_writes_nothing(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "root", val_fraction=0.0, test_fraction=0.0) as ledger:
        ledger.add_videos(manifest(1))
        task = ledger.start("fetch", "url:000")
    for root in (tmp_path / "not_mounted", tmp_path / "another"):
        if root.name == "another":
            with Ledger.open(root, val_fraction=0.0, test_fraction=0.0):
                pass
        outcome = run_task(FakeStage(name="fetch"), Task(stage="fetch", item="a", root=root, payload={}, root_id="1"))
        assert (outcome.state, outcome.reason) == ("failed", "node_without_root")
        assert str(root / ROOT_ID_FILE) in outcome.message
        assert written(root) == set()
    assert not (tmp_path / "not_mounted").exists()
    assert run_task(FakeStage(name="fetch"), task).state == "done"


def test_a_root_of_an_earlier_version_gets_an_identity_and_keeps_it(tmp_path: Path) -> None:
    for _ in range(2):
        with Ledger.open(tmp_path, val_fraction=0.0, test_fraction=0.0) as ledger:
            ledger._connection.execute("DELETE FROM meta WHERE name = 'root_id'")
    found = set()
    for _ in range(2):
        with Ledger.open(tmp_path, val_fraction=0.0, test_fraction=0.0) as ledger:
            ledger.add_videos(manifest(1))
            found.add(ledger.start("fetch", "url:000").root_id)
        (tmp_path / ROOT_ID_FILE).unlink()
    assert len(found) == 1


def test_a_full_temporary_folder_is_tried_again_while_others_continue(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, val_fraction=0.0, test_fraction=0.0) as ledger:
        ledger.add_videos(manifest(3))
        stages = fake_stages(failures={"url:001": ["no_space_elsewhere"]})
        run(ledger, stages, InlineExecutor(), retries=Retries(wait_s=0.001))
        assert ledger.counts()["pack"] == {"done": 6}
        assert next(ledger.rows("fetch", key="url:001")).tries == 2
