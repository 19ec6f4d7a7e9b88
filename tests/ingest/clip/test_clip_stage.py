"""The clip stage: videos in, clips and reasons out."""

import itertools
import json
import pickle
import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from video_files import moving, numbered, numbers_of, texture, write_video

from wnv.ingest.clip.clip_stage import ClipStage
from wnv.ingest.clip.segments import ClipRules
from wnv.ingest.layout import clip_id
from wnv.ingest.tasks import Outcome, Task, run_task
from wnv.scenes.video import open_video

_DATA = Path(__file__).parents[3].parent / "shared" / "data"
# Bars have no parallax, and bars that change look like cuts.
_ANYTHING = {"min_parallax": 0.0, "cut_detector": "none", "min_s": 0.5}


@pytest.fixture
def cut(tmp_path: Path) -> Callable[..., Outcome]:
    """Run the stage on files with these `rules` and `settings`."""

    def run(
        *files: Path | str,
        segments: Iterable[tuple[float, float]] = (),
        starts: Iterable[float] = (0.0,),
        ends: Iterable[float] = (1e6,),
        rules: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Outcome:
        stage = pickle.loads(pickle.dumps(ClipStage(rules=ClipRules(**(rules or {})), preset="ultrafast", **settings)))
        parts = [
            {"file": str(file), "start_s": start, "end_s": end}
            for file, start, end in zip(files, starts, ends, strict=True)
        ]
        fetch = {"duration_s": None, "segments": [list(segment) for segment in segments], "parts": parts}
        payload = {
            "key": "bv:BV1xx411c7mD:p1",
            "kind": "static",
            "split": "val",
            "title": "a",
            "url": None,
            "fetch": fetch,
        }
        outcome = run_task(stage, Task(stage="clip", item=payload["key"], root=tmp_path / "root", payload=payload))
        json.dumps(outcome.result)
        left = [path for path in (tmp_path / "root").rglob("*") if path.is_file()]
        assert {str(path.relative_to(tmp_path / "root")) for path in left} == {
            clip["file"] for clip in outcome.result.get("clips", [])
        }
        return outcome

    return run


def _shown(tmp_path: Path, clip: dict[str, Any]) -> list[int]:
    with open_video(tmp_path / "root" / clip["file"]) as reader:
        assert (reader.num_frames, reader.width, reader.height) == (clip["num_frames"], clip["width"], clip["height"])
        assert reader.fps == Fraction(clip["fps"])
        return numbers_of(reader.read(range(reader.num_frames)))


def _reasons(outcome: Outcome) -> list[str]:
    return [entry["reason"] for entry in outcome.result["dropped"]]


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001)])
def test_frames_show_their_time(tmp_path: Path, cut: Callable, fps: Fraction) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(range(150)), fps=fps, options={"bf": "2", "g": "50"})
    outcome = cut(path, segments=[(101.0, 103.5)], starts=[100.0], ends=[106.0], rules=_ANYTHING)
    (clip,) = outcome.result["clips"]
    shown = _shown(tmp_path, clip)
    assert [round((clip["start_s"] - 100 + i / Fraction(clip["fps"])) * fps) for i in range(len(shown))] == shown
    assert 101.3 <= clip["start_s"] < 101.4
    assert 103.1 < clip["end_s"] <= 103.2 + 1 / fps
    assert clip["end_s"] - clip["start_s"] == pytest.approx(clip["num_frames"] / fps)
    assert Fraction(clip["fps"]) == fps
    assert clip["id"] == clip_id(clip["key"], clip["start_s"])
    assert clip["file"] == f"clips/static/val/{clip['id']}.mp4"
    assert clip["stats"]["num_duplicated"] == 0
    assert outcome.num_bytes == (tmp_path / "root" / clip["file"]).stat().st_size


def test_a_varying_rate(tmp_path: Path, cut: Callable) -> None:
    rng = np.random.default_rng(0)
    ticks = np.cumsum(rng.choice([33, 33, 34, 50, 100], size=60)).tolist()  # milliseconds
    path = write_video(tmp_path / "a.mp4", numbered(range(60)), pts=ticks, time_base=Fraction(1, 1000))
    (clip,) = cut(path, segments=[(0.0, 99.0)], rules=_ANYTHING).result["clips"]
    fps = Fraction(clip["fps"])
    shown = _shown(tmp_path, clip)
    for index, number in enumerate(shown):
        moment = (clip["start_s"] + float(index / fps)) * 1000
        assert ticks[number] <= moment + 250 / fps + 1e-6
        assert number + 1 == len(ticks) or moment < ticks[number + 1]
    assert clip["stats"]["num_duplicated"] == sum(a == b for a, b in itertools.pairwise(shown)) > 0


def test_60_fps_become_30(tmp_path: Path, cut: Callable) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(range(100)), fps=60)
    (clip,) = cut(path, rules=_ANYTHING | {"trim_s": 0.2}).result["clips"]
    shown = _shown(tmp_path, clip)
    assert shown == list(range(shown[0], shown[-1] + 1, 2))
    assert clip["fps"] == "30"
    (clip,) = cut(path, rules=_ANYTHING | {"trim_s": 0.2}, fps="15").result["clips"]
    assert set(np.diff(_shown(tmp_path, clip))) == {4}


def test_shots_are_kept_or_dropped_with_a_reason(tmp_path: Path, cut: Callable) -> None:
    still = texture(9, height=108, width=192)
    rng = np.random.default_rng(0)
    tripod = (np.clip(still.astype(int) + rng.normal(0, 5, still.shape), 0, 255).astype(np.uint8) for _ in range(40))
    path = write_video(
        tmp_path / "a.mp4",
        itertools.chain(
            moving(40, seed=1, speeds=(1.0, 2.0, 4.0)),
            moving(20, seed=2, speeds=(1.0, 2.0, 4.0)),
            moving(40, seed=3, speeds=(2.0,)),
            tripod,
            [image // 16 for image in moving(40, seed=4, speeds=(1.0, 2.0, 4.0))],
            [texture(5, height=108, width=192)] * 40,
            moving(50, seed=6, speeds=(1.0, 2.0, 4.0)),
        ),
        fps=25,
    )
    outcome = cut(path, segments=[(0.0, 10.8)], rules={"min_s": 0.9})
    clips = outcome.result["clips"]
    assert [(clip["start_s"], clip["end_s"]) for clip in clips] == [
        (pytest.approx(0.32), pytest.approx(1.28)),
        (pytest.approx(9.12), pytest.approx(10.48)),
    ]
    assert _reasons(outcome) == ["too_short", "no_parallax", "no_parallax", "too_dark", "frozen"]
    assert [entry["start_s"] for entry in outcome.result["dropped"]] == pytest.approx([1.6, 2.72, 4.32, 5.92, 7.52])
    assert all(clip["stats"]["parallax"] > 0.2 for clip in clips)
    assert outcome.result["dropped"][1]["stats"]["parallax"] < 0.05
    assert outcome.message == "1 too_short, 2 no_parallax, 1 too_dark, 1 frozen"


def test_long_shots_are_divided_evenly(tmp_path: Path, cut: Callable) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(range(150)), fps=25)
    clips = cut(path, segments=[(0.0, 6.0)], rules=_ANYTHING | {"max_s": 2.0}).result["clips"]
    assert [clip["num_frames"] for clip in clips] == [44, 45, 45]
    assert [a["end_s"] - b["start_s"] for a, b in itertools.pairwise(clips)] == pytest.approx([0, 0])


def test_a_clip_is_replaced_by_an_equal_one_without_poses(tmp_path: Path, cut: Callable) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(range(40)), fps=25, rotation=90)
    (clip,) = cut(path, rules=_ANYTHING, short_side=64).result["clips"]
    assert (clip["width"], clip["height"]) == (64, 114)
    first = (tmp_path / "root" / clip["file"]).read_bytes()
    (tmp_path / "root" / clip["file"]).with_suffix(".json").write_text("{}")
    cut(path, rules=_ANYTHING, short_side=64)  # checks that no other file is left
    assert (tmp_path / "root" / clip["file"]).read_bytes() == first


@pytest.mark.parametrize(("number", "parts"), [(7, [7]), (70, [35, 35])])
def test_a_sequence_of_pictures_is_kept_whole(tmp_path: Path, cut: Callable, number: int, parts: list[int]) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(range(number)), fps=1)
    clips = cut(path, rules={"cut_detector": "none"}).result["clips"]
    assert [clip["num_frames"] for clip in clips] == parts
    assert [image for clip in clips for image in _shown(tmp_path, clip)] == list(range(number))


@pytest.mark.parametrize(
    ("number", "fps", "message"),
    [
        (5, 1, "few_frames: 5 frames, clip.rules.min_frames=6"),
        (30, 30, "too_short: 0.40 s, trimmed by clip.rules.trim_s=0.3 at both ends, clip.rules.min_s=2"),
        (90, 30, r"no_parallax: parallax 0\.\d+, clip.rules.min_parallax=0.08"),
    ],
)
def test_refusals_name_value_limit_and_setting(
    tmp_path: Path, cut: Callable, number: int, fps: int, message: str
) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(range(number)), fps=fps)
    outcome = cut(path, rules={"cut_detector": "none"})
    assert outcome.state == "refused"
    assert re.search(message, outcome.message)


def test_parts_and_missing_parts(tmp_path: Path, cut: Callable) -> None:
    one = write_video(tmp_path / "one.mp4", numbered(range(60)), fps=25)
    two = write_video(tmp_path / "two.mp4", numbered(range(100, 160)), fps=25)
    (tmp_path / "zero.mp4").write_bytes(b"")
    outcome = cut(
        one,
        two,
        tmp_path / "zero.mp4",
        segments=[(10.0, 12.0), (50.0, 52.0), (70.0, 75.0)],
        starts=[10.0, 50.0, 90.0],
        ends=[12.4, 52.4, 92.0],
        rules=_ANYTHING,
    )
    shown = [_shown(tmp_path, clip) for clip in outcome.result["clips"]]
    assert [numbers[0] for numbers in shown] == [8, 108]
    assert _reasons(outcome) == ["corrupt", "not_fetched"]


def test_frames_before_damage_are_used(tmp_path: Path, cut: Callable) -> None:
    path = write_video(
        tmp_path / "a.mp4", numbered(range(150)), fps=25, options={"g": "10"}, muxer={"movflags": "faststart"}
    )
    data = path.read_bytes()
    start = data.index(b"mdat")
    path.write_bytes(data[: start + (len(data) - start) * 2 // 3])
    outcome = cut(path, segments=[(0.0, 6.0)], rules=_ANYTHING)
    (clip,) = outcome.result["clips"]
    assert 2 < clip["end_s"] < 5
    (entry,) = outcome.result["dropped"]
    assert (entry["reason"], entry["end_s"]) == ("corrupt", 6.0)
    assert clip["end_s"] <= entry["start_s"] < 5


def test_frames_behind_damage_are_used_from_the_next_key_frame(tmp_path: Path, cut: Callable) -> None:
    path = write_video(tmp_path / "a.mp4", moving(150), fps=25, options={"g": "50", "bf": "0"})
    with av.open(str(path)) as container:
        damaged = next(packet for packet in container.demux(video=0) if packet.pts * packet.time_base >= 2.4)
    data = bytearray(path.read_bytes())
    data[damaged.pos + 20 : damaged.pos + damaged.size] = bytes(damaged.size - 20)
    path.write_bytes(data)
    for segments in ([(0.0, 6.0)], []):
        outcome = cut(path, segments=segments, rules=_ANYTHING)
        (entry,) = outcome.result["dropped"]
        assert (entry["reason"], entry["end_s"]) == ("corrupt", 4.0)
        assert 2.0 < entry["start_s"] < 2.6
        assert [round(clip["start_s"], 2) for clip in outcome.result["clips"]] == [0.32, 4.32]  # trimmed
        assert outcome.result["clips"][1]["end_s"] == pytest.approx(5.68, abs=0.1)


@pytest.mark.parametrize(("content", "reason"), [(b"html" * 99, "corrupt"), (1, "few_frames"), (30, "too_short")])
@pytest.mark.parametrize("segments", [(), ((0.0, 5.0),)])
def test_videos_without_clips(
    tmp_path: Path, cut: Callable, content: bytes | int, reason: str, segments: tuple
) -> None:
    if isinstance(content, bytes):
        (tmp_path / "a.mp4").write_bytes(content)
    else:
        write_video(tmp_path / "a.mp4", numbered(range(content)))
    outcome = cut(tmp_path / "a.mp4", segments=segments, rules={"cut_detector": "none"})  # bars look like cuts
    assert (outcome.state, outcome.reason) == ("refused", reason)
    assert outcome.message


def test_black_bars_are_cropped_and_the_picture_keeps_its_size(tmp_path: Path, cut: Callable) -> None:
    """A letterboxed video of 400 x 480, with a subtitle in the lower bar, gives a picture of at least 240 rows."""
    images = []
    for index, image in enumerate(moving(40, speeds=(1.0, 2.0, 4.0))):
        boxed = np.zeros((480, 400, 3), np.uint8)
        boxed[120:360] = cv2.resize(image, (400, 240))
        if index > 10:
            cv2.putText(boxed, "a line of text", (60, 430), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 2)
        images.append(boxed)
    outcome = cut(write_video(tmp_path / "a.mp4", images, fps=25), rules=_ANYTHING, short_side=200)
    (clip,) = outcome.result["clips"]
    assert 200 <= clip["height"] < clip["width"]
    assert clip["width"] / clip["height"] == pytest.approx(400 / 240, rel=0.03)
    assert clip["bars"]["left"] == clip["bars"]["right"] == 0
    with open_video(tmp_path / "root" / clip["file"]) as reader:
        assert reader.read([0, reader.num_frames - 1])[:, [0, -1]].mean() > 20


def test_high_dynamic_range(tmp_path: Path, cut: Callable) -> None:
    hdr = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1}
    images = (image.astype(np.uint16) * 166 for image in moving(30, speeds=(1.0, 2.0, 4.0)))  # up to 0.65: 380 cd/m2
    path = write_video(
        tmp_path / "a.mp4",
        images,
        fps=25,
        codec="libx265",
        pix_fmt="yuv420p10le",
        picture_format="rgb48le",
        colours=hdr,
        options={"x265-params": "log-level=none:pools=1:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"},
    )
    (clip,) = cut(path, rules=_ANYTHING | {"trim_s": 0.0}).result["clips"]
    assert clip["stats"]["tone_mapped"]
    with open_video(tmp_path / "root" / clip["file"]) as reader:
        image = reader.read([10])[0]
    assert 230 < np.percentile(image, 99) <= 255
    assert np.percentile(image, 1) < 20


@pytest.mark.slow
def test_long_video_without_marks(tmp_path: Path, cut: Callable) -> None:
    depth = {"speeds": (1.0, 2.0, 4.0)}
    shots = [moving(100, seed=1, **depth), [texture(2, height=108, width=192)] * 100]  # 4 s each
    path = write_video(
        tmp_path / "a.mp4",
        itertools.chain(*shots, moving(100, seed=3, **depth), moving(100, seed=4, **depth)),
        fps=25,
        options={"g": "12"},
    )
    outcome = cut(path, rules={"min_s": 1.0, "max_s": 2.0}, max_clips=2)
    clips = outcome.result["clips"]
    assert len(clips) == 2
    assert clips[0]["end_s"] < 4
    assert 8 < clips[1]["start_s"] < clips[1]["end_s"] < 16
    assert all(clip["end_s"] - clip["start_s"] <= 2 for clip in clips)


@pytest.mark.slow
def test_too_many_clips_of_a_short_video(tmp_path: Path, cut: Callable) -> None:
    shots = [moving(40, seed=seed, speeds=(1.0, 2.0, 4.0)) for seed in range(4)]
    path = write_video(tmp_path / "a.mp4", itertools.chain(*shots), fps=25)
    outcome = cut(path, rules={"min_s": 0.7, "max_s": 5.0}, max_clips=2)
    assert [clip["start_s"] for clip in outcome.result["clips"]] == [pytest.approx(1.92), pytest.approx(5.12)]
    assert _reasons(outcome) == ["surplus", "surplus"]


@pytest.mark.parametrize(
    "settings", [{"short_side": 361}, {"fps": 0.0}, {"preset": "best"}, {"crf": 60}, {"threads": 0}]
)
def test_invalid_settings_are_errors(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        ClipStage(rules=ClipRules(), **settings)


@pytest.mark.parametrize("rules", [{"min_s": 30.0}, {"trim_s": -1.0}, {"min_shift": 0.2}, {"min_frames": 1}])
def test_invalid_rules_are_errors(rules: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(rules))):
        ClipRules(**rules)


def test_the_configuration_has_the_defaults() -> None:
    config = OmegaConf.load(Path(__file__).parents[3] / "conf" / "ingest" / "clip" / "default.yaml")
    assert instantiate(config).versions() == ClipStage(rules=ClipRules()).versions()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "num_frames"), [("teddy", 120), ("bear", 60)])
def test_real_videos_with_depth_are_kept(cut: Callable, name: str, num_frames: int) -> None:
    path = _DATA / f"{name}.mp4"
    if not path.is_file():
        pytest.skip(f"../shared/data/{name}.mp4 is not on this machine")
    (clip,) = cut(path).result["clips"]
    assert clip["num_frames"] >= num_frames
    assert clip["stats"]["parallax"] > 0.1
