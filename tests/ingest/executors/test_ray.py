"""The Ray executor: one node, two nodes, and a node that is killed; each test starts its own cluster."""

import importlib.util
import logging
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from fake_stages import FakeStage, written

from wnv.ingest.executors.ray import RayExecutor
from wnv.ingest.ledger import Ledger
from wnv.ingest.outputs import files_of
from wnv.ingest.tasks import Outcome, Task

BEGIN = """
import os, signal, sys, threading, time
sys.path[:] = {path!r}
from pathlib import Path
from fake_stages import FakeStage, manifest
from test_ray import ReportsNode
from wnv.ingest.driver import run
from wnv.ingest.executors.ray import RayExecutor
from wnv.ingest.gate import Gate
from wnv.ingest.ledger import Ledger
from wnv.ingest.retries import TRIES, Retries
from wnv.ingest.tasks import STAGES

ROOT = {root!r}
RETRIES = Retries(wait_s=0.05, tries={{**TRIES, "timeout": 1}})

def go(executor, num_videos, **settings):
    with executor, Ledger.open(ROOT, val_fraction=0.2, test_fraction=0.1) as ledger:
        ledger.add_videos(manifest(num_videos))
        stages = {{name: ReportsNode(name=name, **settings) for name in STAGES}}
        summary = run(ledger, stages, executor, gate=Gate(parallel=8, pause_s=0.0), retries=RETRIES)
        print("SUMMARY", summary.text().replace("\\n", "; "))
"""

ONE_NODE = """
executor = RayExecutor(num_workers=2, num_fetchers=2, task_timeout_s=6.0)
go(executor, 4, failures={"url:001": ["SIGKILL"], "url:002": ["exit"] * 9, "url:003": ["hang"] * 9})
"""

TWO_NODES = """
from ray.cluster_utils import Cluster

# Detect a lost node within two seconds instead of half a minute.
health = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
size = {"num_cpus": 2, "memory": 10 * 10**9, "object_store_memory": 80 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={**size, "_system_config": health, "include_dashboard": False})
second = cluster.add_node(**size)
executor = RayExecutor(address=cluster.address, num_fetchers=2)
assert executor.room("pose") == 4

def kill_half_way():
    num_done = num_there = 0
    # The second node may start late: it is killed after some work.
    while num_done < NUM_VIDEOS * 6 // 2 or num_there <= 6:
        time.sleep(0.05)
        with Ledger.read(ROOT) as ledger:
            nodes = [row.result["node"] for row in ledger.rows(state="done")]
        num_done, num_there = len(nodes), nodes.count(second.node_id)
    raylet = second.all_processes["raylet"][0].process
    (Path(ROOT) / "killed").write_text(f"{second.node_id} {num_done}")
    os.kill(raylet.pid, signal.SIGKILL)

NUM_VIDEOS = 12
threading.Thread(target=kill_half_way, daemon=True).start()
go(executor, NUM_VIDEOS, seconds=0.3)
cluster.shutdown()
"""


needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray")


class ReportsNode(FakeStage):
    """Returns the node it ran on."""

    def __call__(self, task: Task) -> Outcome:
        import ray

        logging.getLogger("stage").warning("注意")
        outcome = super().__call__(task)
        return replace(outcome, result={**outcome.result, "node": ray.get_runtime_context().get_node_id()})


def run_script(script: str, root: Path) -> str:
    path = [str(Path(__file__).parent), *sys.path]
    code = BEGIN.format(path=path, root=str(root)) + script
    # A new session, all of which is killed when the test ends.
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=300)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    assert process.returncode == 0, output
    return output


@needs_ray
@pytest.mark.slow
def test_deaths_and_hangs_on_one_node(tmp_path: Path) -> None:
    assert "fetch url:000: 注意" in run_script(ONE_NODE, tmp_path)
    with Ledger.read(tmp_path) as ledger:
        fetch = {row.item: (row.state, row.reason, row.tries) for row in ledger.rows("fetch")}
        assert fetch == {
            "url:000": ("done", "ok", 1),
            "url:001": ("done", "ok", 2),
            "url:002": ("failed", "crashed", 2),
            "url:003": ("failed", "timeout", 1),
        }
        assert ledger.counts()["pack"] == {"done": 4}
        assert {file for row in ledger.rows(state="done") for file in files_of(row.result)} == written(tmp_path)


@needs_ray
@pytest.mark.slow
def test_a_node_of_two_is_killed(tmp_path: Path) -> None:
    output = run_script(TWO_NODES, tmp_path)
    killed, num_done = (tmp_path / "killed").read_text().split()
    num_items = {"fetch": 12, "clip": 12, "pose": 24, "pack": 24}
    assert sum(num_items.values()) // 2 <= int(num_done) < sum(num_items.values())
    assert "SUMMARY fetch: 12 done; clip: 12 done; pose: 24 done; pack: 24 done" in output
    with Ledger.read(tmp_path) as ledger:
        assert ledger.counts() == {stage: {"done": number} for stage, number in num_items.items()}
        rows = list(ledger.rows())
        nodes = Counter(row.result["node"] for row in rows)
        assert len(nodes) == 2
        assert min(nodes.values()) > 6
        assert killed in nodes
        last = max(row.updated for row in rows if row.result["node"] == killed)
        assert sum(row.updated > last for row in rows) > 6
        assert {file for row in rows for file in files_of(row.result)} == {
            file for file in written(tmp_path) if not Path(file).name.startswith(".")
        }
    made = Counter((tmp_path / "made.log").read_text().splitlines())
    # Only the running items of the killed node were redone.
    assert sum(number - 1 for number in made.values()) <= 4


@needs_ray
def test_a_cluster_that_does_not_answer_is_an_error() -> None:
    # Nothing listens on port 1.
    code = "from wnv.ingest.executors.ray import RayExecutor; RayExecutor(address='127.0.0.1:1')"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100).stderr
    assert re.search("ValueError: .*address=127.0.0.1:1 .*Connection refused", output)


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'wnv\[ray\]'"):
        RayExecutor()


@pytest.mark.parametrize("settings", [{"num_workers": 0}, {"num_fetchers": 0}, {"memory_per_worker_gb": 0.0}])
def test_invalid_settings_are_errors(settings: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        RayExecutor(**settings)
