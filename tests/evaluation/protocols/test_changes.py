"""Effects of zoom and moved worlds on cameras and images."""

import math

import pytest
import torch

from wnv.evaluation.protocols.changes import WorldChange, WorldMove, Zoom
from wnv.evaluation.protocols.protocol import check_numbers
from wnv.geometry.cameras import zoom_K
from wnv.geometry.poses import invert_se3, is_rigid, pose_spread, random_se3


def test_zoom_magnifies_about_the_centre_with_K_to_match(make_world, make_scenes) -> None:
    for data in (make_world(), make_scenes({"a": 40})):
        one, three = Zoom(zooms=(1, 3)).variants(data)
        assert one[0].target_frames == three[0].target_frames
        plain, zoomed = one[0].example, three[0].example
        torch.testing.assert_close(zoomed.target.cameras.camtoworld, plain.target.cameras.camtoworld)
        expected = zoom_K(plain.target.cameras.K, zoom=3, width=24, height=16)
        # The window starts at a whole pixel of the stored image: 1.33 (one picture's 20 rows on 16) times as fine.
        torch.testing.assert_close(zoomed.target.cameras.K, expected, rtol=1e-4, atol=2)
        assert zoomed.target.images.shape == plain.target.images.shape


def test_the_synthetic_world_is_rendered_at_each_zoom(make_world) -> None:
    """A quarter of the picture, at twice the size, has the mean colour of the quarter."""
    one, two = (variant[0].example.target.images for variant in Zoom(zooms=(1, 2)).variants(make_world()))
    centre = one[..., 4:12, 6:18]
    torch.testing.assert_close(two.mean((-1, -2)), centre.mean((-1, -2)), rtol=0, atol=0.05)
    halved = torch.nn.functional.avg_pool2d(two, 2)
    assert (halved - centre).abs().mean() < 0.05


def test_a_changed_world_is_the_same_to_the_model_if_poses_are_normalised_after_it(make_scenes) -> None:
    """The scenes lie 1000 units from the origin, where float32 is coarse: the change must be made before rounding."""
    plain, *changed = WorldChange(where=("before",), rolls_deg=(30, 90), shifts=(100,)).variants(make_scenes({"a": 40}))
    assert len(changed) == 5
    before = plain[0].example
    for variant in changed:
        after = variant[0].example
        for part in ("context", "target"):
            one, other = getattr(before, part), getattr(after, part)
            torch.testing.assert_close(one.cameras.camtoworld, other.cameras.camtoworld, rtol=0, atol=2e-6)
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.times, other.times)


def test_after_it_the_model_is_shown_the_changed_world(make_scenes) -> None:
    plain, half, rolled, shifted = WorldChange(where=("after",), scales=(0.5,), rolls_deg=(90,), shifts=(10,)).variants(
        make_scenes({"a": 40})
    )
    before = plain[0].example

    def positions(variant):
        return variant[0].example.target.cameras.camtoworld[:, :3, 3]

    old = before.target.cameras.camtoworld
    torch.testing.assert_close(positions(half), 0.5 * old[:, :3, 3])
    spread = pose_spread(before.context.cameras.camtoworld)
    torch.testing.assert_close(positions(shifted), old[:, :3, 3] + 10 * spread / math.sqrt(3))
    turned = rolled[0].example.target.cameras.camtoworld
    assert is_rigid(turned).all()
    torch.testing.assert_close(turned[:, :3, 3].norm(dim=-1), old[:, :3, 3].norm(dim=-1))
    # All cameras look along z here; a roll of 90 degrees about it takes x to y.
    torch.testing.assert_close(turned[:, :2, 3], torch.stack([-old[:, 1, 3], old[:, 0, 3]], dim=-1))


def test_a_move_keeps_what_cameras_see_of_each_other() -> None:
    generator = torch.Generator().manual_seed(0)
    poses = random_se3([4], generator=generator, dtype=torch.float64)
    moved = WorldMove(scale=2, roll_deg=40, shift=3)(poses, poses[:2])
    assert is_rigid(moved, atol=1e-9).all()
    one, other = (invert_se3(views[:1]) @ views for views in (poses, moved))
    torch.testing.assert_close(other[:, :3, :3], one[:, :3, :3])
    torch.testing.assert_close(other[:, :3, 3], 2 * one[:, :3, 3])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Zoom(zooms=(0.5, 1)), r"zooms .*\[0.5, 1\]"),
        (lambda: Zoom(zooms=()), r"zooms .*\[\]"),
        (lambda: WorldChange(scales=(0,)), r"scales .*\[0\]"),
        (lambda: WorldChange(scales=(), rolls_deg=(), shifts=()), "scales, rolls_deg and shifts"),
        (lambda: WorldChange(where=()), r"where .*\[\]"),
    ],
)
def test_settings_out_of_range_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("numbers", [3, "35", ["x"], [True], [1.0, float("nan")]])
def test_what_is_no_list_of_numbers_is_refused(numbers) -> None:
    with pytest.raises(ValueError, match=r"zooms .*list of numbers"):
        check_numbers("zooms", numbers)
    with pytest.raises(ValueError, match=r"views .*whole numbers.*2\.5"):
        check_numbers("views", [2.5, 4], whole=True)
