"""Convert frames of any video to upright RGB images with square pixels, even sides and standard dynamic range."""

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from jaxtyping import UInt8

from wnv.ingest.clip.source_video import SourceVideo
from wnv.ingest.clip.tone_mapping import needs_tone_mapping, tone_map

# Untagged videos: standard definition is taken as BT.601, larger ones as BT.709.
_HD_HEIGHT = 720
_UNSPECIFIED = 2
_INTERPOLATION = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


class FrameConverter:
    """Converts the frames of one video to images of one size.

    Args:
        source: The video.
        first: Its first frame, which sets size, display matrix and color transfer.
        short_side: Shorter side of the images in pixels; smaller frames keep their size.

    Attributes:
        width: Width of the images in pixels, even.
        height: Height of the images in pixels, even.
        tone_mapped: Whether the video is HDR or wide gamut and is mapped to BT.709.
    """

    def __init__(self, source: SourceVideo, first: VideoFrame, *, short_side: int) -> None:
        if short_side < 16:
            raise ValueError(f"short_side must be at least 16 pixels, got {short_side}")
        self._matrix = _display_matrix(first)
        self.tone_mapped = needs_tone_mapping(first.color_trc, first.color_primaries)
        aspect = source.pixel_aspect
        width, height = (first.width * aspect, first.height) if aspect >= 1 else (first.width, first.height / aspect)
        scale = min(1, short_side / min(width, height))
        # Unscaled sides are cropped to even ones, scaled ones are rounded to them.
        self._width, self._height = (
            int(own) if scale == 1 and aspect == 1 else max(2, 2 * round(side * scale / 2))
            for own, side in ((first.width, width), (first.height, height))
        )
        sides = (self._width // 2 * 2, self._height // 2 * 2)
        self.width, self.height = sides[::-1] if self._is_transposed() else sides

    def __call__(self, frame: VideoFrame) -> UInt8[np.ndarray, "height width 3"]:
        """Convert a frame to an image in BT.709."""
        if frame.colorspace == _UNSPECIFIED and not frame.format.is_rgb:
            extended = Colorspace.BT2020 if self.tone_mapped else None
            by_size = Colorspace.ITU709 if frame.height >= _HD_HEIGHT else Colorspace.ITU601
            frame.colorspace = extended or by_size
        scaled = frame.reformat(
            self._width,
            self._height,
            "rgb48le" if self.tone_mapped else "rgb24",
            interpolation=_INTERPOLATION,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
        image = scaled.to_ndarray()
        if self.tone_mapped:
            image = tone_map(image, frame.color_trc)
        return self._upright(image[: self._height // 2 * 2, : self._width // 2 * 2])

    def _is_transposed(self) -> bool:
        (a, b), _ = self._matrix
        return abs(b) > abs(a)

    def _upright(self, image: np.ndarray) -> np.ndarray:
        """Apply the display matrix: column x, row y moves to (a x + c y, b x + d y)."""
        (a, b), (c, d) = self._matrix
        if self._is_transposed():
            image, a, d = image.transpose(1, 0, 2), c, b
        return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _display_matrix(frame: VideoFrame) -> tuple[tuple[int, int], tuple[int, int]]:
    data = frame.side_data.get(Type.DISPLAYMATRIX)  # pyright: ignore[reportCallIssue, reportArgumentType] takes both
    if data is None:
        return (1, 0), (0, 1)
    entries = np.frombuffer(bytes(data), dtype=np.dtype("=i4")).tolist()
    return (entries[0], entries[1]), (entries[3], entries[4])
