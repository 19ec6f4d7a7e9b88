import math

import pytest
import torch

from wnv.geometry.poses import is_rigid
from wnv.synthetic.cameras import sample_cameras
from wnv.synthetic.dataset import SyntheticDataset
from wnv.synthetic.places import sample_worlds
from wnv.synthetic.world import clearance
from wnv.types import Example, collate


def tensors(example: Example) -> list[torch.Tensor]:
    views = (example.context, example.target)
    return [x for v in views for x in (v.images, v.cameras.K, v.cameras.camtoworld, v.times)]


def same(a: Example, b: Example) -> bool:
    return a.scene == b.scene and all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))


# Mean colors of the first context view and the target; the weights in the repository were trained on these places.
MEAN_COLORS = {
    (0, 0): [[0.4728, 0.3802, 0.4032], [0.5252, 0.4114, 0.4802]],
    (1, 1): [[0.3420, 0.3264, 0.3554], [0.3864, 0.3303, 0.3028]],
    (0, 2): [[0.5302, 0.4956, 0.4459], [0.5355, 0.5033, 0.4830]],
    (2, 3): [[0.4316, 0.3892, 0.3518], [0.4144, 0.3685, 0.3500]],
}


def test_the_world_never_changes_and_an_example_depends_on_its_key_alone() -> None:
    settings = {"image_size": (24, 36), "num_target": 1, "kind": "mixed", "zoom_range": (1.0, 2.0)}
    endless = SyntheticDataset(num_scenes=None, seed=3, **settings)
    together = endless.__getitems__(list(MEAN_COLORS))
    means = [[views.images[0].mean(dim=(-1, -2)) for views in (e.context, e.target)] for e in together]
    expected = torch.tensor(list(MEAN_COLORS.values()))
    torch.testing.assert_close(torch.stack([torch.stack(pair) for pair in means]), expected, rtol=0, atol=3e-4)
    for key, example in zip([0, (1, 1), 2, (2, 3)], together, strict=True):
        assert same(endless[key], example)
    # The number of scenes, the order and the rest of the batch do not matter.
    finite = SyntheticDataset(num_scenes=12, seed=3, **settings)
    assert same(finite.__getitems__([11, 0])[1], together[0])
    assert not same(SyntheticDataset(num_scenes=12, seed=4, **settings)[0], together[0])


def test_each_epoch_walks_through_the_same_place_differently() -> None:
    data = SyntheticDataset(num_scenes=3, image_size=(16, 24))
    first, second = data.sample([(0, 1)]), data.sample([(1, 1)])
    assert torch.equal(first.world.centre, second.world.centre)
    assert torch.equal(first.world.textures.colours, second.world.textures.colours)
    assert not torch.equal(first.cameras.camtoworld, second.cameras.camtoworld)
    assert data[(0, 1)].scene == data[(1, 1)].scene


def test_shapes_and_ranges_of_examples() -> None:
    data = SyntheticDataset(
        num_scenes=4, image_size=(24, 56), num_context=3, num_target=5, kind="dynamic", zoom_range=(1.0, 3.0)
    )
    assert len(data) == 4
    batch = collate(data.__getitems__([0, 1, 2, 3]))
    assert batch.context.images.shape == (4, 3, 3, 24, 56)
    assert batch.target.images.shape == (4, 5, 3, 24, 56)
    for views in (batch.context, batch.target):
        assert views.images.dtype == torch.float32
        assert views.images.min() >= 0
        assert views.images.max() <= 1
        assert views.images.flatten(2).std(-1).min() > 0.02, "a view shows something"
        assert views.times.min() >= 0
        assert views.times.max() <= 1
        assert is_rigid(views.cameras.camtoworld).all()
        assert (views.cameras.width, views.cameras.height) == (56, 24)
    assert (batch.context.times.diff(dim=1) > 0).all()
    assert (SyntheticDataset(num_scenes=1, image_size=(16, 16))[0].target.times == 0).all()


def test_mixed_has_both_kinds_and_dynamic_only_adds_motion() -> None:
    indices = list(range(32))
    mixed = sample_worlds(seed=0, indices=indices, kind="mixed")
    assert 8 <= mixed.is_dynamic.sum() <= 24
    static, dynamic = (sample_worlds(seed=0, indices=indices, kind=kind) for kind in ("static", "dynamic"))
    assert torch.equal(static.centre, dynamic.centre)
    assert not static.is_dynamic.any()
    assert (static.sway == 0).all()
    assert (static.spin == 0).all()
    assert 4 <= static.is_table.sum() <= 24, "there are rooms and tables"


def test_focal_lengths_follow_the_zoom() -> None:
    settings = {"num_scenes": None, "image_size": (32, 32), "num_target": 3}
    plain = SyntheticDataset(**settings)[0].context.cameras.K
    focal = 16 / math.tan(math.radians(30))
    expected = torch.tensor([[focal, 0, 16], [0, focal, 16], [0, 0, 1]])
    torch.testing.assert_close(plain, expected.expand(2, 3, 3))

    sampled = SyntheticDataset(**settings, zoom_range=(1.0, 3.0)).sample(list(range(64)))
    zoom = sampled.cameras.K[..., 0, 0] / focal
    assert torch.equal(zoom[:, :1].expand_as(zoom), zoom), "one focal length a scene"
    assert 0.999 <= zoom.min() < 1.2
    assert 2.5 < zoom.max() <= 3.001
    per_view = SyntheticDataset(**settings, zoom_range=(1.0, 3.0), zoom_per_view=True)[0].target.cameras.K[:, 0, 0]
    assert len(per_view.unique()) == 3

    # A long image has square pixels and the field of view of the square with its area.
    wide = SyntheticDataset(num_scenes=None, image_size=(32, 72))[0].context.cameras.K[0]
    assert wide[0, 0].item() == pytest.approx(wide[1, 1].item())
    assert wide[0, 0].item() == pytest.approx(24 / math.tan(math.radians(30)), rel=1e-5)
    assert (wide[0, 2], wide[1, 2]) == (36, 16)


def test_cameras_are_normalised_by_the_context_and_the_world_frame_undoes_it() -> None:
    data = SyntheticDataset(num_scenes=None, image_size=(16, 24), num_context=3)
    example, sample = data[7], data.sample([7])
    centers = example.context.cameras.camtoworld[:, :3, 3]
    assert centers.abs().max().item() == pytest.approx(1 / 1.35, rel=1e-4)
    raw = sample.frame.undo(example.target.cameras.camtoworld[None])
    torch.testing.assert_close(raw, sample.cameras.camtoworld[:, 3:], atol=1e-4, rtol=0)
    first = SyntheticDataset(num_scenes=None, image_size=(16, 24), pose_normalization="first")[7]
    torch.testing.assert_close(first.context.cameras.camtoworld[0], torch.eye(4), atol=1e-5, rtol=0)


def test_a_place_is_rendered_from_any_camera() -> None:
    data = SyntheticDataset(num_scenes=None, image_size=(24, 40), kind="dynamic", supersample=2)
    example = data[(1, 3)]
    again = data.render((1, 3), example.target.cameras, example.target.times)
    assert (again - example.target.images).abs().mean() < 1e-3
    earlier = data.render((1, 3), example.target.cameras)
    assert (earlier - example.target.images).abs().mean() > 1e-3


def test_free_time_separates_time_from_position() -> None:
    settings = {"num_scenes": None, "image_size": (16, 24), "kind": "dynamic"}
    bound, free = (SyntheticDataset(**settings, free_time=free).sample([2]).times for free in (False, True))
    assert torch.equal(bound[:, :2], free[:, :2])
    assert not torch.equal(bound[:, 2:], free[:, 2:])
    assert 0 <= free.min() <= free.max() <= 1


def test_no_camera_is_inside_anything() -> None:
    indices = list(range(150))
    world = sample_worlds(seed=2, indices=indices, kind="mixed")
    cameras, times = sample_cameras(
        world,
        seed=2,
        indices=indices,
        epochs=[3] * len(indices),
        image_size=(32, 48),
        num_context=2,
        num_target=6,
        extrapolate=0.3,
    )
    free = clearance(world, cameras.camtoworld[..., None, :3, 3], times)
    assert free.min() > 0.1
    assert free.median() > 0.3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_scenes": 0}, "num_scenes.*0"),
        ({"num_context": 0}, "num_context.*0"),
        ({"image_size": (0, 8)}, r"image_size.*\[0, 8\]"),
        ({"zoom_range": (3.0, 1.0)}, "zoom_range"),
        ({"kind": "still"}, "static, dynamic or mixed.*'still'"),
        ({"fov_deg": 180}, "fov_deg.*180"),
        ({"extrapolate": -1}, "extrapolate.*-1"),
    ],
)
def test_settings_out_of_range_are_errors(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticDataset(**{"num_scenes": 2, **settings})


def test_indices_out_of_range_are_errors() -> None:
    data = SyntheticDataset(num_scenes=2, image_size=(8, 8))
    with pytest.raises(IndexError, match=r"0\.\.1, got 2"):
        data[2]
    endless = SyntheticDataset(num_scenes=None, image_size=(8, 8))
    with pytest.raises(IndexError, match="-1"):
        endless[(0, -1)]
    with pytest.raises(TypeError, match="endless"):
        len(endless)
    with pytest.raises(ValueError, match="seed"):
        sample_worlds(seed=-1, indices=[0])
