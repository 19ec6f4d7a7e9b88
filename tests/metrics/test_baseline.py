import pytest
import torch

from wnv.metrics.baseline import copy_nearest
from wnv.types import Batch, Cameras, Views


def make_views(positions, height=4, width=6):
    """Views of one scene with parallel cameras on a line; the value of an image is its index."""
    camtoworld = torch.eye(4).repeat(1, len(positions), 1, 1)
    camtoworld[0, :, 0, 3] = torch.tensor(positions)
    numbers = torch.arange(len(positions), dtype=torch.float32) / 10
    return Views(
        images=numbers[None, :, None, None, None].expand(1, -1, 3, height, width),
        cameras=Cameras(
            K=torch.eye(3).expand(1, len(positions), 3, 3), camtoworld=camtoworld, width=width, height=height
        ),
        times=torch.zeros(1, len(positions)),
    )


def test_copies_the_view_from_the_nearest_place():
    batch = Batch(scenes=("line",), context=make_views([0.0, 1.0, 3.0]), target=make_views([2.9, -1.0, 0.8]))
    assert copy_nearest(batch)[0, :, 0, 0, 0].tolist() == pytest.approx([0.2, 0.0, 0.1])


def test_rejects_images_of_two_sizes():
    batch = Batch(scenes=("line",), context=make_views([0.0]), target=make_views([1.0], height=6, width=4))
    with pytest.raises(ValueError, match=r"\(4, 6\) and \(6, 4\)"):
        copy_nearest(batch)
