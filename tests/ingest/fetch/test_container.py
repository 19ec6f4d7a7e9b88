"""Cutting keeps every frame of a span, at its time, regardless of the container's time base."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from loopback.videos import frames_by_time, make_video

from wnv.ingest.fetch import container
from wnv.ingest.fetch.container import MediaError, UncuttableError, check_ends, cut, open_video

MOV: dict[str, dict[str, Any]] = {
    "plain": {},
    "faststart": {"movflags": "faststart"},
    "dash": {"movflags": "frag_keyframe+empty_moov+default_base_moof+global_sidx+dash"},
    "late": {"first_pts_s": 1.48},
    "ntsc": {"fps": Fraction(30000, 1001), "gop": 45},
    "open_gop": {"codec_options": {"x264-params": "open-gop=1:keyint=25:min-keyint=25:scenecut=0"}},
    "one_keyframe": {"gop": 1000},
}


def assert_holds_span(source: Path, part: container.Cut, start_s: float, end_s: float) -> None:
    original = frames_by_time(source)
    copied = frames_by_time(part.path, start_s=part.start_s)
    wanted = [time for time in original if start_s <= time < end_s]
    assert len(wanted) > 10
    for time in wanted:
        near = min(copied, key=lambda found: abs(found - time))
        assert abs(near - time) <= 0.0015
        np.testing.assert_array_equal(copied[near], original[time])
    # The cut starts at a keyframe and ends a few frames late; these frames equal the source's, too.
    assert part.end_s >= end_s - 0.05
    last_s = max(copied)
    assert last_s < part.end_s <= last_s + 0.05


@pytest.mark.parametrize("name", [*MOV, "matroska"])
def test_cut_is_exact(name: str, tmp_path: Path) -> None:
    suffix = ".mkv" if name == "matroska" else ".mp4"
    source = make_video(tmp_path / f"source{suffix}", num_frames=150, width=96, height=64, **MOV.get(name, {}))
    for index, span in enumerate([(3.3, 4.1), (0.0, 2.5)]):
        with open_video(source) as opened:
            part = cut(opened, *span, tmp_path / f"{index:02d}.mp4")
        assert part is not None
        assert_holds_span(source, part, *span)
        check_ends(part.path)


@pytest.mark.slow
def test_several_cuts_of_one_source_in_any_order(pattern_video: Path, tmp_path: Path) -> None:
    with open_video(pattern_video) as opened:
        for index, span in enumerate([(15.0, 16.5), (2.0, 3.0), (15.0, 16.5)]):
            part = cut(opened, *span, tmp_path / f"{index:02d}.mp4")
            assert part is not None
            assert_holds_span(pattern_video, part, *span)
            assert part.end_s < span[1] + 0.25  # few frames more than requested


def test_rotation_and_size_are_kept(tmp_path: Path) -> None:
    source = make_video(tmp_path / "source.mp4", num_frames=60, width=128, height=72)
    data = bytearray(source.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # version 0: the matrix lies 40 bytes into the box
    one, minus = (1 << 16).to_bytes(4, "big"), (2**32 - (1 << 16)).to_bytes(4, "big")
    zero = bytes(4)
    data[matrix : matrix + 36] = zero + one + zero + minus + zero + zero + zero + zero + (1 << 30).to_bytes(4, "big")
    source.write_bytes(data)
    with open_video(source) as opened:
        part = cut(opened, 1.0, 2.0, tmp_path / "00.mp4")
    assert part is not None
    rotations = []
    for path in (source, part.path):
        with av.open(str(path)) as reader:
            rotations.append(next(reader.decode(video=0)).rotation)
    assert abs(rotations[0]) == 90
    assert rotations[0] == rotations[1]


def test_containers_without_an_index_are_not_cut(tmp_path: Path) -> None:
    for suffix in (".ts", ".flv"):
        source = make_video(tmp_path / f"source{suffix}", num_frames=60, width=128, height=72)
        with open_video(source) as opened, pytest.raises(UncuttableError, match="no index"):
            cut(opened, 0.5, 1.0, tmp_path / "00.mp4")


def test_non_video_files_are_detected(tmp_path: Path, pattern_video: Path) -> None:
    empty, junk, broken, one = (tmp_path / name for name in ("empty.mp4", "junk.mp4", "broken.mp4", "one.mp4"))
    empty.touch()
    junk.write_bytes(b"<html>" * 500)
    data = pattern_video.read_bytes()
    middle = len(data) // 2
    broken.write_bytes(data[:middle])  # the index lies at the end
    make_video(one, num_frames=1, width=128, height=72)
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as output:
        stream = output.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)
    expected = {empty: "empty_file", junk: "corrupt", broken: "corrupt", one: "few_frames", sound: "no_video"}
    for path, reason in expected.items():
        with pytest.raises(MediaError) as caught:
            check_ends(path)
        assert caught.value.reason == reason, path


def test_the_end_of_a_transport_stream_with_one_keyframe(tmp_path: Path) -> None:
    source = make_video(tmp_path / "one_gop.ts", num_frames=80, width=96, height=64, gop=1000, first_pts_s=1.5)
    assert check_ends(source) == pytest.approx(80 / 25, abs=0.05)


def test_playlists_that_name_other_files_are_not_opened(pattern_video: Path, tmp_path: Path) -> None:
    playlist = tmp_path / "video.mp4"
    playlist.write_text(f"#EXTM3U\n#EXTINF:20,\nfile://{pattern_video}\n#EXT-X-ENDLIST\n")
    concat = tmp_path / "concat.mp4"
    concat.write_text(f"ffconcat version 1.0\nfile {pattern_video}\n")
    for path in (playlist, concat):
        with pytest.raises(MediaError, match="no video container"):
            check_ends(path)
