"""Videos are read by presentation time from any container."""

from collections import deque
from collections.abc import Callable
from fractions import Fraction
from itertools import count
from pathlib import Path

import av
import numpy as np
import pytest
from video_files import numbered, numbers_of, write_video

from wnv.ingest.clip.source_video import DamagedVideoError, SourceVideo, TimedFrame, constant_rate, on_grid
from wnv.ingest.tasks import StageError


def _numbers(source: SourceVideo, start_s: float = 0.0, end_s: float | None = None) -> list[int]:
    return numbers_of(timed.frame.to_ndarray(format="rgb24") for timed in source.frames(start_s, end_s))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_frames_between_two_times(tmp_path: Path, suffix: str) -> None:
    codec = {".avi": "mpeg4"}.get(suffix, "libx264")
    options = {"g": "10"} | ({"bf": "2"} if codec == "libx264" else {})
    source = SourceVideo(write_video(tmp_path / f"a{suffix}", numbered(range(60)), codec=codec, options=options))
    found = _numbers(source, 1.0, 1.5)
    assert found[-15:] == list(range(30, 45))
    assert found == list(range(found[0], 45))  # from the key frame before
    assert _numbers(source) == list(range(60))


@pytest.mark.parametrize("first", [-7, 12])
def test_edit_lists_are_applied(tmp_path: Path, first: int) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(range(40)), pts=count(first), options={"g": "40", "bf": "2"})
    times = [
        (timed.time_s, number) for timed, number in zip(SourceVideo(path).frames(), count(max(0, -first)), strict=False)
    ]
    assert times[0][0] == Fraction(max(0, first), 30)
    assert len(times) == 40 - max(0, -first)
    assert _numbers(SourceVideo(path))[0] == max(0, -first)
    assert SourceVideo(path).duration_s == pytest.approx((40 + first) / 30, abs=0.05)


def _timed(times: list[float]) -> list[TimedFrame]:
    frames = []
    for number, time in enumerate(times):
        frame = av.VideoFrame(16, 16, "gray")
        frame.pts = number
        frames.append(TimedFrame(time_s=Fraction(time).limit_denominator(10**6), frame=frame))
    return frames


@pytest.mark.parametrize("fps", [Fraction(30), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(25)])
@pytest.mark.parametrize("digits", [3, 6])
def test_a_constant_rate_is_unchanged(fps: Fraction, digits: int) -> None:
    times = [round(float(5 + i / fps), digits) for i in range(500)]  # Matroska rounds to milliseconds
    shown = list(on_grid(iter(_timed(times)), origin_s=Fraction(str(times[0])), fps=fps))
    assert [moment.frame.pts for moment in shown] == list(range(500))
    assert not any(moment.repeated for moment in shown)


def test_a_varying_rate_becomes_a_constant_one() -> None:
    shown = list(on_grid(iter(_timed([0, 0.1, 0.4, 0.42, 0.5])), origin_s=Fraction(0), fps=Fraction(10)))
    assert [moment.frame.pts for moment in shown] == [0, 1, 1, 1, 3, 4]
    assert [moment.repeated for moment in shown] == [False, False, True, True, False, False]


@pytest.mark.parametrize(
    ("average", "expected"),
    [
        (Fraction(2997, 100), Fraction(30000, 1001)),
        (Fraction(1454080, 72773), Fraction(20)),
        (Fraction(60000, 1001), Fraction(30000, 1001)),
        (Fraction(120), Fraction(30)),
        (Fraction(24000, 1001), Fraction(24000, 1001)),
        (Fraction(2735, 100), Fraction(27)),
        (Fraction(40), Fraction(30)),
        (Fraction(1, 2), Fraction(1)),
    ],
)
def test_the_rate_of_a_clip(average: Fraction, expected: Fraction) -> None:
    assert constant_rate(average, 30) == expected


def test_the_duration_of_a_container_that_starts_late(tmp_path: Path) -> None:
    made = write_video(tmp_path / "a.mp4", numbered(range(60)), fps=20)
    late = tmp_path / "late.mkv"
    with av.open(str(made)) as source, av.open(str(late), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                shift = int(10 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                target.mux(packet)
    video = SourceVideo(late)
    assert video.duration_s == pytest.approx(13.0, abs=0.05)
    assert len(list(video.frames())) == 60


def test_frames_before_damage_are_intact(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "a.mp4", numbered(range(90)), options={"g": "10", "bf": "0"}, muxer={"movflags": "faststart"}
    )
    data = path.read_bytes()
    start = data.index(b"mdat")
    path.write_bytes(data[: start + (len(data) - start) * 2 // 3])
    frames = []
    with pytest.raises(DamagedVideoError, match=r"a\.mp4"):
        deque((frames.append(timed.time_s) for timed in SourceVideo(path).frames()), maxlen=0)
    assert 30 <= len(frames) <= 75
    assert frames == [Fraction(i, 30) for i in range(len(frames))]


def _audio(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("make", "state", "reason"),
    [
        (lambda path: path.write_bytes(b""), "refused", "corrupt"),
        (lambda path: path.write_bytes(b"hello" * 999), "refused", "corrupt"),
        (lambda path: path.write_bytes(b"ffconcat version 1.0\nfile b.mp4\n"), "refused", "corrupt"),
        (_audio, "refused", "no_video"),
        (lambda path: None, "failed", "missing_file"),
    ],
)
def test_files_that_are_not_a_video(tmp_path: Path, make: Callable, state: str, reason: str) -> None:
    write_video(tmp_path / "b.mp4", numbered(range(4)))
    make(tmp_path / "a.mp4")
    with pytest.raises(StageError, match=r"a\.mp4") as caught:
        SourceVideo(tmp_path / "a.mp4")
    assert (caught.value.outcome.state, caught.value.outcome.reason) == (state, reason)


def test_interlaced_video_is_deinterlaced(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "a.mpg",
        numbered(range(30)),
        codec="mpeg2video",
        fps=25,
        options={"flags": "+ildct+ilme", "top": "1"},
    )
    first = next(SourceVideo(path).frames()).frame
    assert not first.interlaced_frame
    assert _numbers(SourceVideo(path))[:28] == list(range(28))


def test_key_frames_before_given_times(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(range(90)), options={"g": "30", "sc_threshold": "0"})
    frames = SourceVideo(path).key_frames([0.5, 1.2, 2.9])
    assert numbers_of(frame.to_ndarray(format="rgb24") for frame in frames) == [0, 30, 60]
