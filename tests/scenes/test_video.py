"""Clips: frames by index, the same from both decoders; invalid files are named."""

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from wnv.scenes.schema import SceneError
from wnv.scenes.video import open_video

_HEIGHT, _WIDTH, _COUNT = 54, 96, 50


def _has_decord() -> bool:
    try:
        import decord  # noqa: F401
    except ImportError:
        return False
    return True


_DECODERS = [
    "pyav",
    pytest.param("decord", marks=pytest.mark.skipif(not _has_decord(), reason="no decord")),
]


def _image(number: int) -> np.ndarray:
    """An image whose right half is brighter for larger numbers."""
    image = np.full((_HEIGHT, _WIDTH, 3), 60, dtype=np.uint8)
    image[:, _WIDTH // 2 :] = 30 + 4 * number
    image[: _HEIGHT // 2, :, 0] = 200
    return image


def _write(path: Path) -> Path:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "12", "bf": "0", "preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = _HEIGHT, _WIDTH, "yuv420p"
        codec = stream.codec_context
        codec.colorspace = codec.color_primaries = codec.color_trc = codec.color_range = 1
        for number in range(_COUNT):
            frame = av.VideoFrame.from_ndarray(_image(number), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=1, dst_color_range=1)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("clips") / "雪夜 🎬 a:b.mp4")


@pytest.fixture
def damage(clip: Path, tmp_path: Path) -> Callable[[Callable[[bytes], bytes]], Path]:
    def make(change: Callable[[bytes], bytes]) -> Path:
        path = tmp_path / "damaged.mp4"
        path.write_bytes(change(clip.read_bytes()))
        return path

    return make


@pytest.mark.parametrize("decoder", _DECODERS)
def test_frames_are_in_the_requested_order(clip: Path, decoder: str) -> None:
    with open_video(clip, decoder=decoder) as reader:
        assert (reader.num_frames, reader.width, reader.height, reader.fps) == (_COUNT, _WIDTH, _HEIGHT, 25)
        for indices in ([0], [49, 0, 24, 24, 1], range(10, 40), [23], []):
            frames = reader.read(indices)
            assert frames.shape == (len(indices), _HEIGHT, _WIDTH, 3)
            for index, frame in zip(indices, frames, strict=True):
                assert np.abs(frame[2:-2, 2:-2].astype(int) - _image(index)[2:-2, 2:-2]).mean() < 3


def test_both_decoders_give_the_same_pixels(clip: Path) -> None:
    pytest.importorskip("decord")
    with open_video(clip, decoder="decord") as one, open_video(clip, decoder="pyav") as other:
        np.testing.assert_array_equal(one.read(range(_COUNT)), other.read(range(_COUNT)))


def test_auto_uses_the_installed_decoder(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_video(clip) as reader:
        expected = "_DecordReader" if _has_decord() else "_PyavReader"
        assert type(reader).__name__ == expected
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with open_video(clip) as reader:
        assert type(reader).__name__ == "_PyavReader"


@pytest.mark.parametrize("decoder", _DECODERS)
@pytest.mark.parametrize("index", [-1, _COUNT])
def test_indices_out_of_range(clip: Path, decoder: str, index: int) -> None:
    with open_video(clip, decoder=decoder) as reader, pytest.raises(IndexError, match=f"0 to 49.*{index}"):
        reader.read([0, index])


@pytest.mark.parametrize("decoder", _DECODERS)
def test_broken_files_are_named(damage: Callable, tmp_path: Path, decoder: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.mp4"):
        open_video(tmp_path / "nothing.mp4", decoder=decoder)
    for content in (b"", b"no video" * 100, b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"):
        with pytest.raises(SceneError, match=r"damaged\.mp4"):
            open_video(damage(lambda data, content=content: content), decoder=decoder)

    def overwritten(data: bytes) -> bytes:
        start = data.index(b"mdat") + 4
        return data[: start + 2000] + bytes(1500) + data[start + 3500 :]

    path = damage(overwritten)
    with pytest.raises(SceneError, match=r"damaged\.mp4 is damaged"):  # decord may see it when it opens the file
        _read_all(path, decoder)


def _read_all(path: Path, decoder: str) -> np.ndarray:
    with open_video(path, decoder=decoder) as reader:
        return reader.read(range(reader.num_frames))


@pytest.mark.slow
def test_opening_a_clip_needs_no_torch(clip: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from wnv.scenes.video import open_video\n"
        "with open_video(Path(sys.argv[1])) as reader: reader.read([5])\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, str(clip)], check=True)
