import pytest
import torch

from wnv.evaluation.rendering import draw_path, draw_views


def test_a_path_is_drawn_in_pieces_with_the_same_pixels(dataset, grey_model):
    example = dataset[0]
    together = draw_path(
        grey_model, example.context, example.target.cameras, device=torch.device("cpu"), views_per_call=8
    )
    apart = draw_path(grey_model, example.context, example.target.cameras, device=torch.device("cpu"), views_per_call=1)
    assert together.shape == (2, 3, 16, 24)
    torch.testing.assert_close(together, apart, rtol=0, atol=0)


def test_each_view_gets_its_own_time(dataset):
    class Clock(torch.nn.Module):
        def encode(self, context):
            return None

        def render(self, scene, cameras, times=None):
            return times[..., None, None, None].expand(*times.shape, 3, cameras.height, cameras.width)

    cameras = dataset[0].context.cameras
    times = torch.tensor([0.0, 0.25, 1.0])
    drawn = draw_path(Clock(), dataset[0].context, cameras, times, device=torch.device("cpu"), views_per_call=2)
    assert drawn[:, 0, 0, 0].tolist() == times.tolist()


def test_views_per_call_must_be_positive(dataset, grey_model):
    with pytest.raises(ValueError, match="views_per_call must be at least 1, got 0"):
        draw_views(grey_model, None, dataset[0].target.cameras[None], views_per_call=0)
