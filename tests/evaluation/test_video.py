from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from PIL import Image

from wnv.evaluation.images import to_u8
from wnv.evaluation.video import write_gif, write_mp4


def moving_bar(*, num_frames: int, height: int, width: int) -> np.ndarray:
    """A white bar that walks over a gradient, so that every frame differs and the path has an order."""
    x = torch.linspace(0, 1, width).expand(height, width)
    y = torch.linspace(0, 1, height)[:, None].expand(height, width)
    images = torch.stack([x, y, 1 - x]).mul(0.6).expand(num_frames, 3, height, width).clone()
    for i in range(num_frames):
        left = i * width // num_frames
        images[i, :, :, left : left + max(width // num_frames, 2)] = 1.0
    return to_u8(images)


def decode(path) -> tuple[np.ndarray, av.video.stream.VideoStream]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    return frames, stream


@pytest.mark.parametrize(("height", "width"), [(48, 80), (33, 47), (33, 48)])
def test_mp4_decodes_to_the_same_frames_padded_to_even_sizes(tmp_path, height, width):
    images = moving_bar(num_frames=7, height=height, width=width)
    frames, stream = decode(write_mp4(tmp_path / "a.mp4", images, fps=12, min_side=1))
    assert (stream.codec_context.name, stream.codec_context.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 12)
    assert frames.shape == (7, height + height % 2, width + width % 2, 3)
    error = np.abs(frames[:, :height, :width].astype(float) - images.astype(float)).mean()
    assert error < 4  # 4:2:0 colour loses a little at the bar's edges


def test_gif_has_every_frame_its_size_rate_and_no_end(tmp_path):
    images = moving_bar(num_frames=6, height=33, width=47)
    with Image.open(write_gif(tmp_path / "a.gif", images, fps=10, min_side=1)) as gif:
        assert (gif.n_frames, gif.size, gif.info["loop"]) == (6, (47, 33), 0)
        assert gif.info["duration"] == 100
        shown = []
        for i in range(gif.n_frames):
            gif.seek(i)
            shown.append(np.asarray(gif.convert("RGB")).astype(float))
    truth = images.astype(float)
    for picture, frame in zip(shown, truth, strict=True):
        assert np.abs(picture - frame).mean() < 12
    assert all(np.abs(a - b).mean() > 1 for a, b in pairwise(shown))


@pytest.mark.parametrize("write", [write_mp4, write_gif])
def test_faults_are_refused_and_leave_nothing_behind(tmp_path, write):
    images = moving_bar(num_frames=2, height=16, width=32)
    with pytest.raises(ValueError, match="at least one frame"):
        write(tmp_path / "a", images[:0])
    for fps in (0, -1, 1e-4):
        with pytest.raises(ValueError, match=rf"fps .*{fps}"):
            write(tmp_path / "a", images, fps=fps)
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "a", images, min_side=1)
    before = (tmp_path / "a").read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=true"):
        write(tmp_path / "a", images, min_side=1)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == before
