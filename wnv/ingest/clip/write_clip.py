"""Write clips: H.264 in MP4 at a constant frame rate with frequent key frames; frame `i` has time `i / fps`."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from jaxtyping import UInt8

from wnv.runtime.atomic import atomic_file

Images = Iterable[UInt8[np.ndarray, "height width 3"]]


def write_clip(
    path: Path, images: Images, *, fps: Fraction, gop: int, crf: int, preset: str, threads: int
) -> tuple[int, int, int]:
    """Write RGB images of one even size atomically as a clip; return their width, height and number.

    There are no B-frames, so that decoding order is presentation order. The file is tagged BT.709, limited range, so
    that every decoder produces the same colors.

    Raises:
        OSError: If the disk is full or fails, with its errno.
        ValueError: If there are no images.
    """
    count = 0
    with atomic_file(path, overwrite=True) as file:
        # By name, since FFmpeg opens the file again to move the index to its front.
        with av.open(file.name, "w", format="mp4", options={"movflags": "faststart"}) as container:
            stream: av.VideoStream | None = None
            for image in images:
                stream = stream or _add_stream(container, image, fps, gop, crf, preset, threads)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
                    format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, threads=1
                )
                frame.pts, frame.time_base = count, 1 / fps
                container.mux(stream.encode(frame))
                count += 1
            if stream is None:
                raise ValueError(f"no images for clip {path}")
            container.mux(stream.encode())
    return stream.width, stream.height, count


def _add_stream(
    container: OutputContainer,
    image: np.ndarray,
    fps: Fraction,
    gop: int,
    crf: int,
    preset: str,
    threads: int,
) -> av.VideoStream:
    options = {"crf": str(crf), "g": str(gop), "bf": "0", "preset": preset, "threads": str(threads)}
    stream = container.add_stream("libx264", rate=fps, options=options)
    stream.height, stream.width = image.shape[:2]
    stream.pix_fmt = "yuv420p"
    codec = stream.codec_context
    codec.time_base = 1 / fps
    codec.colorspace, codec.color_range = Colorspace.ITU709, ColorRange.MPEG
    codec.color_primaries, codec.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    return stream
