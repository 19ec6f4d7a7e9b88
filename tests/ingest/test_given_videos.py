"""Damaged and odd videos that are shared beside the project: what fetch and clip make of each."""

import re
from pathlib import Path

import pytest
from fake_stages import InlineExecutor

from wnv.ingest.clip.clip_stage import ClipStage
from wnv.ingest.clip.segments import ClipRules
from wnv.ingest.driver import run
from wnv.ingest.fetch.fetch_stage import FetchStage
from wnv.ingest.ledger import Ledger
from wnv.ingest.manifest.manifest import make_manifest
from wnv.ingest.records import Row
from wnv.ingest.tasks import Stage, StageName
from wnv.scenes.video import open_video

_GIVEN = Path(__file__).parents[2].parent / "shared" / "data" / "failing"

pytestmark = pytest.mark.skipif(not _GIVEN.is_dir(), reason="../shared/data is not on this machine")


def clip_one(name: str, root: Path) -> tuple[Row, Row]:
    """Return the rows of fetch and clip of one video."""
    stages: dict[StageName, Stage] = {
        "fetch": FetchStage(videos=_GIVEN),
        "clip": ClipStage(rules=ClipRules(min_parallax=0.0), preset="ultrafast"),
    }
    with Ledger.open(root, val_fraction=0.0, test_fraction=0.0) as ledger:
        ledger.add_videos(make_manifest([_GIVEN / name], kind="static").lines)
        run(ledger, stages, InlineExecutor())
        (fetched,), (clipped,) = ledger.rows("fetch"), ledger.rows("clip")
        return fetched, clipped


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "start_s"),
    [
        ("one_gop.ts", 0.0),  # MPEG-TS whose only key frame is the first frame
        ("start_offset.mkv", 10.0),  # the clock of its container starts at 10 s
    ],
)
def test_80_sound_frames_become_one_clip(name: str, start_s: float, tmp_path: Path) -> None:
    fetched, clipped = clip_one(name, tmp_path)
    assert (fetched.state, fetched.result["duration_s"]) == ("done", pytest.approx(start_s + 4.0))
    assert (clipped.state, clipped.message) == ("done", "")  # no false damage
    (clip,) = clipped.result["clips"]
    # 0.3 s are trimmed at both ends.
    assert (clip["start_s"], clip["end_s"]) == (pytest.approx(start_s + 0.3), pytest.approx(start_s + 3.7))
    with open_video(tmp_path / clip["file"]) as reader:
        assert reader.num_frames == clip["num_frames"] == 68


def test_damage_that_no_key_frame_follows_costs_the_rest(tmp_path: Path) -> None:
    _, clipped = clip_one("corrupt_mid.mp4", tmp_path)
    assert (clipped.state, clipped.reason) == ("refused", "corrupt")
    assert re.search(r"corrupt_mid\.mp4 is damaged after 0\.75 s.*clip\.rules\.min_s=2", clipped.message)
