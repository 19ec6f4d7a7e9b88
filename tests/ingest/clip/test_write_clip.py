"""Clips: frame `i` at `i / fps`, equal pixels from both decoders, atomic writes."""

import errno
import os
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from video_files import moving

from wnv.ingest.clip.write_clip import write_clip
from wnv.scenes.video import open_video

_SETTINGS = {"gop": 12, "crf": 18, "preset": "veryfast", "threads": 1}


@pytest.mark.parametrize("fps", [Fraction(30000, 1001), Fraction(25, 2)])
def test_both_decoders_give_the_same_frames(tmp_path: Path, fps: Fraction) -> None:
    images = list(moving(40, speeds=(1.0, 2.0, 4.0)))
    path = tmp_path / "clips" / "a.mp4"
    assert write_clip(path, images, fps=fps, **_SETTINGS) == (192, 108, 40)
    indices = [3, 39, 0, 11, 12, 13, 3, 30]
    with open_video(path, decoder="pyav") as reader:
        assert (reader.num_frames, reader.width, reader.height, reader.fps) == (40, 192, 108, fps)
        frames = reader.read(indices)
    for index, frame in zip(indices, frames, strict=True):
        assert np.abs(frame.astype(int) - images[index]).mean() < 12
    pytest.importorskip("decord")
    with open_video(path, decoder="decord") as reader:
        assert (reader.num_frames, reader.width, reader.height, reader.fps) == (40, 192, 108, fps)
        np.testing.assert_array_equal(reader.read(indices), frames)


def test_frames_are_in_order_with_frequent_key_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_clip(path, moving(30), fps=Fraction(30), **_SETTINGS)
    with av.open(str(path)) as container:
        (stream,) = container.streams
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
        assert [packet.pts * packet.time_base for packet in packets] == [Fraction(i, 30) for i in range(30)]
        assert [packet.dts for packet in packets] == [packet.pts for packet in packets]
        keys = [number for number, packet in enumerate(packets) if packet.is_keyframe]
        assert max(np.diff([*keys, 30])) <= 12
        assert (stream.codec_context.colorspace, stream.codec_context.color_range) == (1, 1)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def images():
        yield from moving(3)
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        write_clip(tmp_path / "a.mp4", images(), fps=Fraction(30), **_SETTINGS)
    with pytest.raises(ValueError, match=r"a\.mp4"):
        write_clip(tmp_path / "a.mp4", [], fps=Fraction(30), **_SETTINGS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_full_disk_is_an_oserror(tmp_path: Path) -> None:
    """A limit on file sizes fails in the same calls as a full disk."""
    script = textwrap.dedent("""
        import resource, signal, sys
        from fractions import Fraction
        from pathlib import Path
        import numpy as np
        from wnv.ingest.clip.write_clip import write_clip

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        rng = np.random.default_rng(0)
        images = (rng.integers(0, 255, (108, 192, 3), dtype=np.uint8) for _ in range(int(sys.argv[2])))
        try:
            write_clip(Path(sys.argv[1]), images, fps=Fraction(30), gop=12, crf=18, preset="ultrafast", threads=1)
        except OSError as error:
            print(error.errno)
    """)
    for num_frames in ("1", "40"):  # fails when the file is closed, and while it is written
        result = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "a.mp4"), num_frames],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert result.stdout.strip() == str(errno.EFBIG), result.stderr
        assert list(tmp_path.iterdir()) == []
