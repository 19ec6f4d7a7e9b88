import pytest
import torch

from wnv.models.camera_encoding import encode_cameras
from wnv.types import Cameras


@pytest.mark.parametrize("patch_encoding", ["rope2d", "quaternion"])
@pytest.mark.parametrize("head_dim", [16, 24, 48])
def test_outputs_undo_what_values_were_given(make_cameras, patch_encoding, head_dim):
    maps = encode_cameras(
        make_cameras(dtype=torch.float64),
        camera_encoding="geope",
        patch_encoding=patch_encoding,
        patch_size=8,
        head_dim=head_dim,
    )
    x = torch.randn(2, 3, 6, 4, head_dim, dtype=torch.float64)
    torch.testing.assert_close(maps.map_output(maps.map_key_value(x)), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("camera_encoding", ["gta", "prope"])
def test_camera_maps_are_not_rounded_where_matrix_products_are(make_cameras, camera_encoding):
    """Autocast also represents TF32, which rounds torch's products in the same way and needs a GPU."""
    options = dict(camera_encoding=camera_encoding, patch_encoding="rope2d", patch_size=8, head_dim=16)
    cameras = make_cameras()
    exact = encode_cameras(cameras.to(torch.float64), **options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = encode_cameras(cameras, **options)
    for name in ("query", "key_value", "output"):
        torch.testing.assert_close(getattr(maps, name).double(), getattr(exact, name), rtol=0, atol=1e-5)


@pytest.mark.parametrize("patch_encoding", ["rope2d", "quaternion"])
def test_patch_rotations_keep_lengths_and_leave_the_first_patch(make_cameras, patch_encoding):
    maps = encode_cameras(
        make_cameras(1, 1, dtype=torch.float64),
        camera_encoding="none",
        patch_encoding=patch_encoding,
        patch_size=8,
        head_dim=32,
    )
    x = torch.randn(1, 1, 6, 2, 32, dtype=torch.float64)
    turned = maps.map_query(x)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(turned[:, :, 0], x[:, :, 0])
    assert not torch.allclose(turned[:, :, 1], x[:, :, 1])
    torch.testing.assert_close(turned[..., :16], x[..., :16])


def test_rope2d_scores_depend_on_the_offset_of_patches_alone(make_cameras):
    maps = encode_cameras(
        make_cameras(1, 1, height=32, width=40, dtype=torch.float64),
        camera_encoding="none",
        patch_encoding="rope2d",
        patch_size=8,
        head_dim=32,
    )
    q, k = torch.randn(2, 32, dtype=torch.float64)
    everywhere = torch.ones(1, 1, 20, 1, 1, dtype=torch.float64)
    queries, keys = maps.map_query(q * everywhere)[0, 0, :, 0], maps.map_key_value(k * everywhere)[0, 0, :, 0]
    scores = (queries @ keys.T).view(4, 5, 4, 5)
    torch.testing.assert_close(scores[0, 1, 2, 3], scores[1, 2, 3, 4])
    assert not torch.isclose(scores[0, 1, 2, 3], scores[0, 1, 3, 2])


def test_quaternion_turns_columns_and_rows_about_orthogonal_axes(make_cameras):
    """Against scipy-free arithmetic: v' = r v r* with r = exp((log r_column + log r_row) / 2)."""
    maps = encode_cameras(
        make_cameras(1, 1, dtype=torch.float64),
        camera_encoding="none",
        patch_encoding="quaternion",
        patch_size=8,
        head_dim=16,
    )
    x = torch.randn(1, 1, 6, 1, 16, dtype=torch.float64)
    turned = maps.map_query(x)[0, 0, :, 0, 8:]

    def multiply(a, b):
        scalar = a[0] * b[0] - a[1:] @ b[1:]
        return torch.cat([scalar[None], a[0] * b[1:] + b[0] * a[1:] + torch.linalg.cross(a[1:], b[1:])])

    for token in range(6):
        column, row = token % 3, token // 3
        for triple in range(2):
            frequency = 100.0 ** (-triple / 2)
            log = torch.tensor([column, row, 0.0], dtype=torch.float64) * frequency / 2 / 2
            angle = log.norm()
            axis = log / angle if angle > 0 else log
            r = torch.cat([angle.cos()[None], angle.sin() * axis])
            v = torch.cat([torch.zeros(1, dtype=torch.float64), x[0, 0, token, 0, 8 + 3 * triple : 11 + 3 * triple]])
            conjugate = r * torch.tensor([1.0, -1, -1, -1], dtype=torch.float64)
            expected = multiply(multiply(r, v), conjugate)[1:]
            torch.testing.assert_close(turned[token, 3 * triple : 3 * triple + 3], expected, rtol=0, atol=1e-12)


def test_geope_sees_the_focal_length_and_gta_does_not(make_cameras):
    cameras = make_cameras(1, 1)
    zoomed = Cameras(
        K=cameras.K * torch.tensor([2.0, 2.0, 1.0])[:, None],
        camtoworld=cameras.camtoworld,
        width=cameras.width,
        height=cameras.height,
    )
    for encoding, same in (("gta", True), ("geope", False)):
        one, other = (
            encode_cameras(each, camera_encoding=encoding, patch_encoding="none", patch_size=8, head_dim=16).query
            for each in (cameras, zoomed)
        )
        assert torch.equal(one, other) == same


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(camera_encoding="rope"), "camera_encoding.*prope.*'rope'"),
        (dict(patch_encoding="rope3d"), "patch_encoding must be one of none, rope2d, quaternion, got 'rope3d'"),
        (dict(head_dim=12), "dim / num_heads must be a multiple of 8"),
    ],
)
def test_rejects(make_cameras, options, message):
    arguments = dict(camera_encoding="geope", patch_encoding="rope2d", patch_size=8, head_dim=16)
    with pytest.raises(ValueError, match=message):
        encode_cameras(make_cameras(), **{**arguments, **options})
