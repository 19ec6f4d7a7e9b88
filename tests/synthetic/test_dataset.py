import math

import pytest
import torch

from wnv.geometry.poses import is_rigid
from wnv.synthetic.cameras import sample_cameras
from wnv.synthetic.dataset import SyntheticDataset
from wnv.synthetic.places import sample_worlds
from wnv.synthetic.random import UniformStream, hsv_to_rgb
from wnv.synthetic.world import OBJECTS, clearance, top
from wnv.types import Example, collate


def tensors(example: Example) -> list[torch.Tensor]:
    views = (example.context, example.target)
    return [x for v in views for x in (v.images, v.cameras.K, v.cameras.camtoworld, v.times)]


def same(a: Example, b: Example) -> bool:
    return a.scene == b.scene and all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))


def test_an_example_depends_on_its_key_alone() -> None:
    settings = {"image_size": (12, 20), "num_target": 2, "kind": "mixed", "seed": 5, "zoom_range": (1.0, 2.0)}
    endless = SyntheticDataset(num_scenes=None, **settings)
    together = endless.__getitems__([(0, 4), (0, 9), (2, 4), (0, 11)])
    for key, example in zip([4, 9, (2, 4), 11], together, strict=True):
        assert same(endless[key], example)
    # The number of scenes, the order and the rest of the batch do not matter.
    finite = SyntheticDataset(num_scenes=12, **settings)
    assert same(finite.__getitems__([11, 4])[1], together[0])
    assert not same(SyntheticDataset(num_scenes=12, **{**settings, "seed": 6})[4], together[0])


def test_each_epoch_walks_through_the_same_place_differently() -> None:
    data = SyntheticDataset(num_scenes=3, image_size=(16, 24))
    first, second = data.sample([(0, 1)]), data.sample([(1, 1)])
    assert torch.equal(first.world.centre, second.world.centre)
    assert torch.equal(first.world.textures.colours, second.world.textures.colours)
    assert not torch.equal(first.cameras.context.camtoworld, second.cameras.context.camtoworld)
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
    zoom = torch.cat([sampled.cameras.context.K[..., 0, 0], sampled.cameras.target.K[..., 0, 0]], dim=1) / focal
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
    torch.testing.assert_close(raw, sample.cameras.target.camtoworld, atol=1e-4, rtol=0)
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
    bound, free = (SyntheticDataset(**settings, free_time=free).sample([2]).cameras for free in (False, True))
    assert torch.equal(bound.context_times, free.context_times)
    assert not torch.equal(bound.target_times, free.target_times)
    assert 0 <= free.target_times.min() <= free.target_times.max() <= 1


def test_no_camera_is_inside_anything() -> None:
    indices = list(range(150))
    world = sample_worlds(seed=2, indices=indices, kind="mixed")
    sampled = sample_cameras(
        world,
        seed=2,
        indices=indices,
        epochs=[3] * len(indices),
        image_size=(32, 48),
        num_context=2,
        num_target=6,
        extrapolate=0.3,
    )
    for cameras, times in ((sampled.context, sampled.context_times), (sampled.target, sampled.target_times)):
        free = clearance(world, cameras.camtoworld[..., None, :3, 3], times)
        assert free.min() > 0.1
        assert free.median() > 0.3


def test_clearance_is_the_distance_to_the_nearest_surface() -> None:
    world = sample_worlds(seed=0, indices=[0])
    body = int(world.present[0, OBJECTS].nonzero()[0]) + OBJECTS.start
    times = torch.zeros(1, 1)
    centre = world.centre[:, None, None, body]
    assert clearance(world, centre, times).item() < 0
    assert clearance(world, torch.tensor([[[[0.0, 0.0, -1.0]]]]), times).item() == pytest.approx(-1.0)
    room = world.half[0, 0]
    near_corner = torch.tensor([room[0] - 0.05, room[1] - 0.3, 2 * room[2] - 0.4])
    assert clearance(world, near_corner[None, None, None], times).item() == pytest.approx(0.05, abs=1e-5)


def test_the_uppermost_part_of_a_room_stays_free() -> None:
    world = sample_worlds(seed=4, indices=list(range(200)), kind="dynamic")
    assert (top(world) <= 2 * world.half[:, 0, 2] - 0.6).all()


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


def test_random_numbers_cover_their_range_and_run_out_with_an_error() -> None:
    random = UniformStream(seed=0, stream="place", keys=[(i,) for i in range(50)], count=100)
    numbers = random.uniform(2, 5, 8)
    assert 2 <= numbers.min() < 2.2
    assert 4.8 < numbers.max() < 5
    assert torch.equal(random.choice(torch.tensor([0.0, 1.0, 0.0])), torch.ones(50, dtype=torch.long))
    torch.testing.assert_close(torch.linalg.vector_norm(random.direction(4), dim=-1), torch.ones(50, 4))
    with pytest.raises(RuntimeError, match="count"):
        random.unit(100)


def test_hsv_to_rgb_of_known_colours() -> None:
    hue = torch.tensor([0.0, 1 / 3, 2 / 3, 1.0, 0.25])
    rgb = hsv_to_rgb(hue, torch.tensor([1.0, 1.0, 1.0, 0.0, 0.5]), torch.tensor([1.0, 1.0, 0.5, 0.7, 1.0]))
    expected = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 0.5], [0.7, 0.7, 0.7], [0.75, 1, 0.5]])
    torch.testing.assert_close(rgb, expected)
