"""Images are upright, with square pixels, even sides and correct colors."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from video_files import write_video

from wnv.ingest.clip.frame_converter import FrameConverter
from wnv.ingest.clip.source_video import SourceVideo

# Red, green, blue and white corners: top left, top right, bottom left, bottom right.
_CORNERS = np.array([[[200, 30, 30], [30, 200, 30]], [[30, 30, 200], [200, 200, 200]]], dtype=np.uint8)


def _corners(height: int, width: int, count: int = 3) -> Iterator[np.ndarray]:
    image = _CORNERS.repeat(-(-height // 2), axis=0)[:height].repeat(-(-width // 2), axis=1)[:, :width]
    yield from [np.ascontiguousarray(image)] * count


def _first(path: Path, short_side: int = 360) -> tuple[FrameConverter, np.ndarray]:
    source = SourceVideo(path)
    frame = next(source.frames()).frame
    convert = FrameConverter(source, frame, short_side=short_side)
    return convert, convert(frame)


@pytest.mark.parametrize(
    ("rotation", "hflip", "expected"),
    [
        (0, False, _CORNERS),
        (90, False, np.rot90(_CORNERS)),
        (-90, False, np.rot90(_CORNERS, -1)),
        (180, False, np.rot90(_CORNERS, 2)),
        (0, True, _CORNERS[:, ::-1]),
    ],
)
def test_phone_videos_are_upright(tmp_path: Path, rotation: int, hflip: bool, expected: np.ndarray) -> None:
    path = write_video(tmp_path / "a.mp4", _corners(108, 192), rotation=rotation, hflip=hflip)
    convert, image = _first(path, short_side=54)
    assert image.shape == ((54, 96, 3) if rotation in (0, 180) else (96, 54, 3))
    assert (convert.height, convert.width) == image.shape[:2]
    height, width = image.shape[:2]
    found = image[height // 4 :: height // 2, width // 4 :: width // 2]
    assert np.abs(found.astype(int) - expected).max() < 12


@pytest.mark.parametrize(
    ("size", "aspect", "short_side", "expected"),
    [
        ((109, 193), None, 360, (108, 192)),  # odd: cropped
        ((109, 193), None, 54, (54, 96)),
        ((108, 144), Fraction(4, 3), 360, (108, 192)),  # wide pixels are stretched, never squeezed
        ((96, 192), Fraction(8, 9), 360, (108, 192)),
        ((720, 1280), None, 360, (360, 640)),
    ],
)
def test_image_size(
    tmp_path: Path, size: tuple[int, int], aspect: Fraction | None, short_side: int, expected: tuple[int, int]
) -> None:
    odd = size[0] % 2 == 1
    path = write_video(
        tmp_path / "a.mkv",
        _corners(*size, count=1),
        aspect=aspect,
        codec="ffv1" if odd else "libx264",
        pix_fmt="yuv444p" if odd else "yuv420p",
    )
    convert, image = _first(path, short_side)
    assert image.shape[:2] == (convert.height, convert.width) == expected


@pytest.mark.parametrize("colour_space", [1, 5])
@pytest.mark.parametrize("colour_range", [1, 2])
def test_colors_do_not_depend_on_their_encoding(tmp_path: Path, colour_space: int, colour_range: int) -> None:
    colours = {"colorspace": colour_space, "color_range": colour_range}
    path = write_video(tmp_path / "a.mp4", _corners(108, 192), colours=colours, options={"crf": "5"})
    _, image = _first(path)
    assert np.abs(image[27::54, 48::96].astype(int) - _CORNERS).max() <= 4
