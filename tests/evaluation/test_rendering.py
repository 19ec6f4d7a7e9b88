from dataclasses import replace

import pytest
import torch
from paint_model import PaintModel

from wnv.evaluation.camera_path import resize_cameras
from wnv.evaluation.rendering import render_path

CPU = torch.device("cpu")


def test_views_per_call_does_not_change_pixels(dataset, grey_model):
    example = dataset[0]
    together = render_path(grey_model, example.context, example.target.cameras, device=CPU, views_per_call=8)
    apart = render_path(grey_model, example.context, example.target.cameras, device=CPU, views_per_call=1)
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
    images = render_path(Clock(), dataset[0].context, cameras, times, device=CPU, views_per_call=2)
    assert images[:, 0, 0, 0].tolist() == times.tolist()


@pytest.mark.parametrize(
    ("size", "views_per_call"), [((32, 48), 1), ((40, 40), 8), ((8, 12), 8), ((13, 37), 1), ((64, 24), 8)]
)
def test_supersampled_images_match_direct_rendering(dataset, size, views_per_call):
    context = dataset[0].context
    cameras = resize_cameras(context.cameras, height=size[0], width=size[1])
    off_centre = torch.tensor([[0.0, 0.0, 3.0], [0.0, 0.0, -2.0], [0.0, 0.0, 0.0]])
    cameras = replace(cameras, K=cameras.K + off_centre)
    times = torch.tensor([0.0, 0.3, 1.0])
    model = PaintModel()
    rendered_sizes = set()
    render = model.render

    def watch(scene, cameras, times):
        rendered_sizes.add((cameras.height, cameras.width))
        return render(scene, cameras, times)

    model.render = watch
    merged = render_path(
        model, context, cameras, times, device=CPU, render_size=(16, 24), views_per_call=views_per_call
    )
    assert rendered_sizes == {(16, 24)}
    direct = render_path(model, context, cameras, times, device=CPU)
    assert merged.shape == direct.shape == (3, 3, *size)
    assert (merged - direct).abs().mean() < 0.01
    shifted = torch.roll(direct, 1, dims=-1)
    assert (merged - direct)[..., 2:].abs().mean() < 0.6 * (merged - shifted)[..., 2:].abs().mean()


def test_images_of_the_render_size_are_not_changed(dataset):
    context = dataset[0].context
    direct = render_path(PaintModel(), context, context.cameras, torch.zeros(3), device=CPU)
    known = render_path(PaintModel(), context, context.cameras, torch.zeros(3), device=CPU, render_size=(16, 24))
    torch.testing.assert_close(known, direct, rtol=0, atol=0)


@pytest.mark.parametrize("render_size", [(16,), (20, 24), (0, 24), (-8, 24)])
def test_invalid_render_sizes(dataset, render_size):
    context = dataset[0].context
    with pytest.raises(ValueError, match=r"render_size .*patch_size=8"):
        render_path(PaintModel(), context, context.cameras, torch.zeros(3), device=CPU, render_size=render_size)
    with pytest.raises(ValueError, match=r"views_per_call .*0"):
        render_path(PaintModel(), context, context.cameras, device=CPU, views_per_call=0)
