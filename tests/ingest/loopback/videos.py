"""Short videos of a moving pattern, for tests that need to know every frame."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def make_video(
    path: Path,
    *,
    num_frames: int = 500,
    fps: Fraction | int = 25,
    width: int = 128,
    height: int = 72,
    gop: int = 25,
    num_b_frames: int = 2,
    codec: str = "libx264",
    movflags: str | None = None,
    first_pts_s: float = 0.0,
    container_format: str | None = None,
    codec_options: dict[str, str] | None = None,
) -> Path:
    """Write a video in which every frame differs; closed groups of pictures of a fixed length.

    Args:
        path: The file; its suffix determines the container unless `container_format` is given.
        num_frames: Number of frames.
        fps: Frames per second.
        width: Pixels.
        height: Pixels.
        gop: Frames from one keyframe to the next.
        num_b_frames: B-frames between two other frames.
        codec: Encoder.
        movflags: As the mp4 muxer takes them, such as `frag_keyframe+empty_moov+global_sidx+dash`.
        first_pts_s: Time stamp of the first frame, seconds.
        container_format: Container.
        codec_options: Further options of the encoder.
    """
    options = {} if movflags is None else {"movflags": movflags}
    with av.open(str(path), "w", format=container_format, options=options) as output:
        stream: Any = output.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.gop_size = gop
        stream.codec_context.thread_count = 1
        if codec == "libx264":
            stream.max_b_frames = num_b_frames
            stream.options = {"preset": "ultrafast", "crf": "28", "bf": str(num_b_frames), "sc_threshold": "0"}
            stream.options |= codec_options or {}
        rows, columns = np.mgrid[0:height, 0:width]
        offset = round(first_pts_s * fps)
        for index in range(num_frames):
            waves = np.sin((columns + 3 * index) / 9.0) * np.cos((rows - 2 * index) / 7.0)
            picture = np.stack([waves, np.roll(waves, index, 1), -waves], axis=-1) * 100 + 128
            # The number of the frame, in eight blocks: black and white survive any encoding.
            for bit in range(10):
                picture[:8, bit * 8 : bit * 8 + 8] = 255 if index >> bit & 1 else 0
            frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = index + offset, Fraction(1) / Fraction(fps)
            for packet in stream.encode(frame):
                output.mux(packet)
        for packet in stream.encode(None):
            output.mux(packet)
    return path


def frames_by_time(path: Path, *, start_s: float = 0.0) -> dict[float, np.ndarray]:
    """Frames of a file by source time in whole milliseconds, as PyAV decodes them."""
    with av.open(str(path)) as container:
        return {
            round(start_s + float(frame.pts * frame.time_base), 3): frame.to_ndarray(format="rgb24")
            for frame in container.decode(video=0)
        }
