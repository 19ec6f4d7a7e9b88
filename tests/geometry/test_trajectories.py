import math
from dataclasses import replace

import pytest
import torch

from wnv.geometry.cameras import K_from_fov, project
from wnv.geometry.focus import focus_point
from wnv.geometry.poses import (
    WorldFrame,
    invert_se3,
    is_rigid,
    look_at,
    mean_pose,
    nearest_pose,
    pose_spread,
    random_se3,
    rotation_angle,
)
from wnv.geometry.trajectories import (
    TRAJECTORIES,
    around,
    dolly,
    interpolate,
    make_trajectory,
    orbit,
    spiral,
    still,
    wobble,
)
from wnv.types import Cameras

EXACT = {"rtol": 0, "atol": 1e-10}
CENTER = torch.tensor([3.0, -2.0, 5.0], dtype=torch.float64)
UP = torch.tensor([0.2, -1.0, 0.1], dtype=torch.float64)


def looking_at_center(eyes: torch.Tensor) -> Cameras:
    K = K_from_fov(fov_y_deg=torch.linspace(40, 60, len(eyes), dtype=torch.float64), width=44, height=30)
    return Cameras(K=K, camtoworld=look_at(eyes, CENTER, UP), width=44, height=30)


@pytest.fixture
def arc() -> Cameras:
    """Four cameras on one side of the centre, at different distances, all aimed at it."""
    offsets = torch.tensor([[-2, 0.3, -4], [-0.5, 0, -5], [1, 0.2, -4.5], [2, -0.4, -4]], dtype=torch.float64)
    return looking_at_center(CENTER + offsets)


@pytest.fixture
def ring() -> Cameras:
    """Twelve cameras around the centre and above it."""
    angles = torch.arange(12, dtype=torch.float64) * math.pi / 6
    up = UP / UP.norm()
    side = torch.linalg.cross(up, torch.tensor([0, 0, 1.0], dtype=torch.float64))
    side = side / side.norm()
    circle = angles.cos()[:, None] * side + angles.sin()[:, None] * torch.linalg.cross(up, side)
    return looking_at_center(CENTER + 3 * circle + up)


def centers(cameras: Cameras) -> torch.Tensor:
    return cameras.camtoworld[:, :3, 3]


def closes(path: Cameras) -> bool:
    """Whether the step from the last camera to the first is like any other, and no camera is repeated."""
    steps = (centers(path).roll(-1, dims=0) - centers(path)).norm(dim=-1)
    return bool(steps[-1] < 1.5 * steps[:-1].max() and steps[-1] > 0)


@pytest.mark.parametrize("name", TRAJECTORIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_context", [1, 2, 4])
@pytest.mark.parametrize("num_views", [1, 7])
def test_every_path_has_rigid_poses_and_the_size_of_its_contexts(arc, name, dtype, num_context, num_views):
    path = make_trajectory(name, arc[:num_context].to(dtype), num_views=num_views)
    assert path.camtoworld.shape == (num_views, 4, 4)
    assert path.K.shape == (num_views, 3, 3)
    assert path.camtoworld.dtype == path.K.dtype == dtype
    assert (path.width, path.height) == (44, 30)
    assert is_rigid(path.camtoworld).all()
    assert path.K.isfinite().all()


@pytest.mark.parametrize("name", TRAJECTORIES)
@pytest.mark.parametrize("contexts", ["arc", "ring"])
def test_every_path_moves_with_the_world_and_grows_with_it(request, generator, name, contexts):
    cameras = request.getfixturevalue(contexts)
    rigid = random_se3((), generator=generator, dtype=torch.float64)
    change = WorldFrame(newfromold=rigid, scale=torch.tensor(4.0, dtype=torch.float64))
    moved = replace(cameras, camtoworld=change.apply(cameras.camtoworld))
    path, moved_path = (make_trajectory(name, c, num_views=9) for c in (cameras, moved))
    torch.testing.assert_close(moved_path.camtoworld, change.apply(path.camtoworld), **EXACT)
    torch.testing.assert_close(moved_path.K, path.K, **EXACT)


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_cameras_in_one_place_have_paths(arc, generator, name):
    """Contexts that only turn: no spread and no point where the axes meet."""
    one_place = arc.camtoworld.to(torch.float32).clone()
    one_place[:, :3, 3] = torch.tensor([100.0, 200.0, 300.0])
    cameras = replace(arc.to(torch.float32), camtoworld=one_place)
    path = make_trajectory(name, cameras, num_views=8)
    assert is_rigid(path.camtoworld).all()
    if name not in ("interpolate", "around", "still"):
        assert 0.05 < (centers(path) - centers(path).mean(dim=0)).norm(dim=-1).max() < 2


def test_focus_point_is_where_the_axes_meet(arc, ring):
    torch.testing.assert_close(focus_point(arc), CENTER, **EXACT)
    torch.testing.assert_close(focus_point(ring), CENTER, **EXACT)
    torch.testing.assert_close(focus_point(arc.to(torch.float32)), CENTER.float(), rtol=0, atol=1e-4)


def test_focus_point_of_skew_axes_is_the_least_squares_point(cameras, generator):
    eyes, targets = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64)
    skew = looking_at_center(eyes)
    skew = replace(skew, camtoworld=look_at(eyes, targets + torch.tensor([0, 0, 9.0], dtype=torch.float64), UP))
    point, forward = focus_point(skew), skew.camtoworld[:, :3, 2]
    from_axes = (point - eyes) - ((point - eyes) * forward).sum(-1, keepdim=True) * forward
    torch.testing.assert_close(from_axes.sum(dim=0), torch.zeros(3, dtype=torch.float64), **EXACT)  # zero gradient


def test_the_focus_of_near_context_cameras_is_what_all_frames_look_at(ring):
    """Two context cameras side by side, aimed a little past each other: their own axes meet far from the center."""
    turned = ring[:2].camtoworld.clone()
    turned[1, :3, 3] = turned[0, :3, 3] + 0.02 * turned[0, :3, 0]
    turned[1, :3, :3] = turned[0, :3, :3] @ torch.linalg.matrix_exp(
        torch.tensor([[0, 0, -0.02], [0, 0, 0], [0.02, 0, 0]], dtype=torch.float64)
    )
    pair = replace(ring[:2], camtoworld=turned)
    assert (focus_point(pair) - CENTER).norm() > 1
    assert (focus_point(pair, scene_poses=ring.camtoworld) - CENTER).norm() < 1e-10
    path = orbit(pair, num_views=3, scene_poses=ring.camtoworld)
    pixels, _ = project(CENTER[None], path.K, invert_se3(path.camtoworld))
    torch.testing.assert_close(pixels[:, 0], path.K[:, :2, 2], **EXACT)
    # A context that looks elsewhere keeps its own focus.
    away = replace(ring[:2], camtoworld=ring.camtoworld[:2] @ torch.diag(torch.tensor([-1.0, 1, -1, 1]).double()))
    torch.testing.assert_close(focus_point(away, scene_poses=ring.camtoworld), focus_point(away), **EXACT)


def test_an_orbit_spans_the_arc_of_its_context_by_default(ring):
    """Their mean up direction is not quite that of the ring."""
    path, context = centers(orbit(ring[2:5], num_views=7)), centers(ring[2:5])
    assert torch.cdist(path[[0, -1]], context[[0, 2]]).amin(dim=0).max() < 0.4
    assert (path[3] - context[1]).norm() < 0.4


@pytest.mark.parametrize("forward", [1.0, -1.0])
def test_focus_point_falls_back_to_a_point_ahead(forward):
    """Parallel axes, and axes that meet behind the cameras."""
    eyes = torch.tensor([[-1, 0, 0], [1, 0, 0]], dtype=torch.float64)
    outward = eyes * (0.0 if forward > 0 else 1.0)
    target = eyes + outward + torch.tensor([0, 0, 3.0], dtype=torch.float64)
    cameras = replace(looking_at_center(eyes), camtoworld=look_at(eyes, target, -UP.abs() * torch.tensor([0, 1, 0])))
    torch.testing.assert_close(focus_point(cameras), torch.tensor([0, 0, 4.0], dtype=torch.float64), **EXACT)
    torch.testing.assert_close(focus_point(cameras, depth=7), torch.tensor([0, 0, 7.0], dtype=torch.float64), **EXACT)


def test_orbit_is_a_level_circle_about_the_point_looked_at(ring):
    path = orbit(ring, num_views=24)
    up = UP / UP.norm()
    offsets = centers(path) - CENTER
    height = (offsets * up).sum(-1)
    torch.testing.assert_close(height, torch.ones(24, dtype=torch.float64), **EXACT)
    radius = (offsets - height[:, None] * up).norm(dim=-1)
    torch.testing.assert_close(radius, torch.full((24,), 3.0, dtype=torch.float64), **EXACT)
    torch.testing.assert_close(path.camtoworld[0], ring.camtoworld[0], **EXACT)
    pixels, depth = project(CENTER[None], path.K, invert_se3(path.camtoworld))
    torch.testing.assert_close(pixels[:, 0], path.K[:, :2, 2], **EXACT)
    assert (depth > 0).all()
    assert closes(path)
    turning = torch.linalg.cross(offsets[0], offsets[1])
    assert (turning * up).sum() > 0
    assert torch.equal(path.K, ring.K[:1].expand(24, 3, 3))


def test_an_orbit_arc_is_centred_on_the_contexts_and_has_both_ends(arc):
    path = orbit(arc, num_views=11, degrees=60, radius=2, lift=0.5)
    up = -arc.camtoworld[:, :3, 1].mean(dim=0)
    up = up / up.norm()

    def split(cameras):
        offsets = centers(cameras) - CENTER
        heights = offsets @ up
        return heights, offsets - heights[:, None] * up

    context_heights, context_level = split(arc)
    heights, level = split(path)
    radius = context_level.norm(dim=-1).mean()
    torch.testing.assert_close(level.norm(dim=-1), (2 * radius).expand(11), **EXACT)
    torch.testing.assert_close(heights, (context_heights.mean() + 0.5 * radius).expand(11), **EXACT)
    mean = context_level.mean(dim=0)
    torch.testing.assert_close(level[5] / (2 * radius), mean / mean.norm(), **EXACT)
    assert math.degrees(math.acos(level[0] @ level[10] / (2 * radius) ** 2)) == pytest.approx(60)


def test_orbit_of_a_single_camera_starts_at_it(arc):
    path = orbit(arc[:1], num_views=8, depth=2, degrees=360)
    torch.testing.assert_close(path.camtoworld[0], arc.camtoworld[0], **EXACT)
    torch.testing.assert_close((centers(path)[0] - centers(path)[4]).norm().item(), 4.0)


def test_spiral_goes_round_the_mean_camera_and_keeps_its_aim(arc):
    path = spiral(arc, num_views=40)
    pixels, depth = project(CENTER[None], path.K, invert_se3(path.camtoworld))
    torch.testing.assert_close(pixels[:, 0], path.K[:, :2, 2], **EXACT)
    assert (depth > 0).all()
    assert closes(path)
    torch.testing.assert_close(centers(path).mean(dim=0), centers(arc).mean(dim=0), **EXACT)
    doubled = spiral(arc, num_views=40, radius=0.5)
    assert pose_spread(doubled.camtoworld) < pose_spread(path.camtoworld)


def test_interpolation_meets_every_context_camera_in_order(arc):
    path = interpolate(arc, num_views=3 * 5 + 1)
    torch.testing.assert_close(path.camtoworld[::5], arc.camtoworld, **EXACT)
    torch.testing.assert_close(path.K[::5], arc.K, **EXACT)
    assert nearest_pose(path.camtoworld, arc.camtoworld).diff().ge(0).all()


def test_interpolation_is_smooth_at_the_context_cameras(arc):
    """The change of step at a knot shrinks with the step squared: no kink in position, rotation or focal length."""
    kinks = []
    for steps in (50, 100):
        path = interpolate(arc, num_views=3 * steps + 1)
        knot = [steps - 1, steps, steps + 1]
        positions, rotations = centers(path)[knot], path.camtoworld[knot, :3, :3]
        before, after = rotations[0].T @ rotations[1], rotations[1].T @ rotations[2]
        kinks.append(
            torch.stack(
                [
                    (positions[2] - 2 * positions[1] + positions[0]).norm(),
                    rotation_angle(before, after),
                    path.K[knot, 0, 0].diff(n=2).abs()[0],
                ]
            )
        )
    assert (kinks[1] < 0.3 * kinks[0]).all()


def test_interpolation_of_two_is_a_line_and_a_slerp_with_geometric_focal_lengths(arc):
    pair = arc[[0, 3]]
    path = interpolate(pair, num_views=5)
    torch.testing.assert_close(centers(path)[2], centers(pair).mean(dim=0), **EXACT)
    angles = rotation_angle(pair.camtoworld[0, :3, :3], path.camtoworld[:, :3, :3])
    torch.testing.assert_close(angles, torch.linspace(0, 1, 5, dtype=torch.float64) * angles[-1], **EXACT)
    torch.testing.assert_close(path.K[2, 0, 0], pair.K[:, 0, 0].prod().sqrt(), **EXACT)


def test_focal_lengths_stay_positive_between_extremes(arc):
    K = arc.K.clone()
    K[:, 0, 0] = torch.tensor([10.0, 3000.0, 10.0, 3000.0], dtype=torch.float64)
    assert (interpolate(replace(arc, K=K), num_views=50).K[:, 0, 0] > 0).all()


def test_dolly_goes_forward_and_back_along_the_axis(arc):
    path = dolly(arc, num_views=8, distance=0.5, anchor=2)
    base = arc.camtoworld[2]
    offsets = (centers(path) - base[:3, 3]) @ base[:3, :3]
    torch.testing.assert_close(offsets[:, :2], torch.zeros(8, 2, dtype=torch.float64), **EXACT)
    reach = 0.5 * pose_spread(arc.camtoworld)
    torch.testing.assert_close(offsets[[0, 2, 4, 6], 2], torch.stack([0 * reach, reach, 0 * reach, -reach]), **EXACT)
    assert torch.equal(path.K, arc.K[2:3].expand(8, 3, 3))
    torch.testing.assert_close(path.camtoworld[:, :3, :3], base[:3, :3].expand(8, 3, 3), **EXACT)


@pytest.mark.parametrize("depth", [None, 6.0])
def test_dolly_zoom_keeps_the_size_of_what_is_looked_at(arc, depth):
    path = dolly(arc, num_views=8, dolly_zoom=True, anchor=1, depth=depth)
    base = arc.camtoworld[1]
    ahead = depth or (CENTER - base[:3, 3]).norm()
    plane = base[:3, 3] + ahead * base[:3, 2] + torch.tensor([[0.4], [-0.3]], dtype=torch.float64) * base[:3, :2].T
    pixels, _ = project(plane, path.K, invert_se3(path.camtoworld))
    torch.testing.assert_close(pixels, pixels[:1].expand(8, 2, 2), **EXACT)
    assert path.K[:, 0, 0].unique().numel() > 3


def test_wobble_is_a_circle_in_the_image_plane(arc):
    path = wobble(arc, num_views=12, anchor=0, radius=0.25)
    base = arc.camtoworld[0]
    offsets = (centers(path) - base[:3, 3]) @ base[:3, :3]
    radius = 0.25 * pose_spread(arc.camtoworld)
    torch.testing.assert_close(offsets[:, 2], torch.zeros(12, dtype=torch.float64), **EXACT)
    torch.testing.assert_close(offsets.norm(dim=-1), radius.expand(12), **EXACT)
    assert offsets[3, 1] > 0  # from the right downwards: clockwise as seen in the image
    torch.testing.assert_close(path.camtoworld[:, :3, :3], base[:3, :3].expand(12, 3, 3), **EXACT)
    assert closes(path)


def test_still_stands_still(arc):
    path = still(arc, num_views=4, anchor=2)
    assert torch.equal(path.camtoworld, arc.camtoworld[2:3].expand(4, 4, 4))
    assert torch.equal(path.K, arc.K[2:3].expand(4, 3, 3))
    torch.testing.assert_close(still(arc, num_views=1).camtoworld[0], mean_pose(arc.camtoworld), **EXACT)


def test_around_turns_on_the_spot_about_up(arc):
    path = around(arc, num_views=5, degrees=40, anchor=1)
    base = arc.camtoworld[1]
    torch.testing.assert_close(centers(path), base[:3, 3].expand(5, 3), **EXACT)
    torch.testing.assert_close(path.camtoworld[2], base, **EXACT)
    angles = rotation_angle(path.camtoworld[0, :3, :3], path.camtoworld[:, :3, :3])
    expected = torch.linspace(0, math.radians(40), 5, dtype=torch.float64)
    torch.testing.assert_close(angles, expected, **EXACT)
    up = -arc.camtoworld[:, :3, 1].mean(dim=0)
    heights = path.camtoworld[:, :3, 2] @ (up / up.norm())
    torch.testing.assert_close(heights, heights[:1].expand(5), **EXACT)
    assert (path.camtoworld[4, :3, 2] @ base[:3, 0]) < 0  # it has turned to the left


def test_a_whole_turn_around_closes_and_starts_ahead(arc):
    path = around(arc, num_views=12, degrees=360, anchor=0)
    torch.testing.assert_close(path.camtoworld[0], arc.camtoworld[0], **EXACT)
    step = rotation_angle(path.camtoworld[11, :3, :3], path.camtoworld[0, :3, :3])
    torch.testing.assert_close(step.item(), math.radians(30))


@pytest.mark.parametrize(
    ("name", "options", "kind", "message"),
    [
        ("or", dict(), ValueError, "orbit.*'or'"),
        ("wobble", dict(degrees=90), TypeError, "wobble.*degrees.*radius, turns, anchor, depth"),
        ("orbit", dict(degrees="abc"), TypeError, "degrees.*'abc'"),
        ("wobble", dict(anchor=4), ValueError, "anchor.*3.*4"),
        ("dolly", dict(distance=10, dolly_zoom=True), ValueError, "dolly_zoom.*distance"),
        ("spiral", dict(depth=0), ValueError, "depth.*0"),
        ("still", dict(num_views=0), ValueError, "num_views.*0"),
    ],
)
def test_invalid_arguments(arc, name, options, kind, message):
    with pytest.raises(kind, match=message):
        make_trajectory(name, arc, **{"num_views": 3, **options})


def test_the_unit_of_a_single_camera_is_a_tenth_of_the_depth(arc):
    for depth, unit in ((None, 0.1), (5.0, 0.5)):
        path = wobble(arc[:1], num_views=4, radius=1, depth=depth)
        torch.testing.assert_close((centers(path) - centers(arc)[0]).norm(dim=-1), torch.full((4,), unit).double())
