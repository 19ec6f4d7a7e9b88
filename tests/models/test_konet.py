import copy

import pytest
import torch
from torch.overrides import TorchFunctionMode

from wnv.geometry.poses import random_se3
from wnv.models.konet import KoNet
from wnv.types import Cameras, Views

ENCODINGS = [
    dict(camera_encoding="geope", ray_code="camray"),
    dict(camera_encoding="gta", ray_code="none"),
    dict(camera_encoding="none", ray_code="plucker"),
    dict(camera_encoding="none", patch_encoding="none", ray_code="raymap"),
    dict(camera_encoding="geope", patch_encoding="quaternion", ray_code="none", time_code=True),
    dict(camera_encoding="geope", ray_code="plucker", adaln_zero=True, time_code=True),
    dict(camera_encoding="geope", qk_norm=False),
    dict(ray_code="unit_camray", input_norm=True, activation="gelu", qk_norm_eps=1e-5),
    dict(ray_code="fixed", ray_size=[16, 24], input_norm=True, activation="relu", colour_range="unit"),
]


@pytest.mark.parametrize("attention", ["cached", "joint"])
@pytest.mark.parametrize("num_context", [1, 2, 8])
def test_rendering_an_encoded_scene_equals_the_whole_forward(
    make_model, make_views, make_cameras, attention, num_context
):
    model = make_model(attention=attention)
    context, targets = make_views(2, num_context), make_cameras(2, 3, seed=5)
    with torch.no_grad():
        whole = model(context, targets)
        scene = model.encode(context)
        together = model.render(scene, targets)
        alone = torch.cat([model.render(scene, targets[:, i : i + 1]) for i in range(3)], dim=1)
    assert whole.std() > 0.02
    torch.testing.assert_close(together, whole, rtol=0, atol=1e-5)
    torch.testing.assert_close(alone, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", ENCODINGS)
@pytest.mark.parametrize("attention", ["cached", "joint"])
def test_every_encoding_renders_what_it_trains(make_model, make_views, make_cameras, options, attention):
    model = make_model(attention=attention, **options).double()
    context = make_views(1, 2, dtype=torch.float64)
    targets = make_cameras(1, 2, seed=5, dtype=torch.float64)
    times = torch.tensor([[0.25, 0.75]], dtype=torch.float64)
    whole = model(context, targets, times)
    torch.testing.assert_close(model.render(model.encode(context), targets, times), whole, rtol=0, atol=1e-6)
    whole.mean().backward()
    unused = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert unused == []


@pytest.mark.parametrize("options", ENCODINGS[:2])
def test_rigid_change_of_world_changes_nothing(make_model, make_views, make_cameras, options):
    model = make_model(**options).double()
    context = make_views(2, 2, dtype=torch.float64)
    targets = make_cameras(2, 2, seed=5, dtype=torch.float64)
    change = random_se3((2, 1), generator=torch.Generator().manual_seed(8), dtype=torch.float64)

    def moved(cameras):
        return Cameras(K=cameras.K, camtoworld=change @ cameras.camtoworld, width=cameras.width, height=cameras.height)

    # The head ends in float32, which bounds how exactly pictures can agree; attention itself is tested to 1e-12.
    torch.testing.assert_close(
        model(Views(images=context.images, cameras=moved(context.cameras), times=context.times), moved(targets)),
        model(context, targets),
        rtol=0,
        atol=1e-12,
    )


def test_order_of_context_views_does_not_matter(make_model, make_views, make_cameras):
    model = make_model()
    context, targets = make_views(1, 4), make_cameras(1, 1, seed=5)
    torch.testing.assert_close(model(context[:, [2, 0, 3, 1]], targets), model(context, targets), rtol=0, atol=1e-5)


def test_targets_do_not_see_each_other_in_either_attention(make_model, make_views, make_cameras):
    for attention in ("cached", "joint"):
        model = make_model(attention=attention)
        context, targets, others = make_views(1, 2), make_cameras(1, 2, seed=5), make_cameras(1, 2, seed=6)
        mixed = Cameras(
            K=torch.stack([targets.K[:, 0], others.K[:, 1]], dim=1),
            camtoworld=torch.stack([targets.camtoworld[:, 0], others.camtoworld[:, 1]], dim=1),
            width=targets.width,
            height=targets.height,
        )
        torch.testing.assert_close(model(context, mixed)[:, 0], model(context, targets)[:, 0], rtol=0, atol=1e-6)


def test_attentions_share_weights_and_differ(make_model, make_views, make_cameras):
    cached, joint = make_model(), make_model(attention="joint")
    joint.load_state_dict(cached.state_dict())
    context, targets = make_views(1, 2), make_cameras(1, 2, seed=5)
    assert not torch.allclose(cached(context, targets), joint(context, targets), atol=1e-3)


def test_time_moves_the_picture_only_with_a_time_code(make_model, make_views, make_cameras):
    context, targets = make_views(1, 2), make_cameras(1, 1, seed=5)
    early, late = torch.zeros(1, 1), torch.ones(1, 1)
    static = make_model()
    torch.testing.assert_close(static(context, targets, early), static(context, targets, late))
    dynamic = make_model(time_code=True)
    assert not torch.allclose(dynamic(context, targets, early), dynamic(context, targets, late), atol=1e-4)


def test_target_size_may_differ_from_the_contexts(make_model, make_views, make_cameras):
    model = make_model()
    rendered = model(make_views(1, 2, height=16, width=24), make_cameras(1, 1, height=32, width=8))
    assert rendered.shape == (1, 1, 3, 32, 8)


@pytest.mark.parametrize("size", [(24, 16), (32, 24)])  # as many patches as the context's, and more
def test_joint_attention_rejects_targets_of_another_size(make_model, make_views, make_cameras, size):
    model = make_model(attention="joint")
    context, targets = make_views(1, 2, height=16, width=24), make_cameras(1, 1, height=size[0], width=size[1])
    for render in (model, lambda context, targets: model.render(model.encode(context), targets)):
        with pytest.raises(ValueError, match=f"joint.*16 x 24.*got {size[0]} x {size[1]}"):
            render(context, targets)


def test_activation_checkpointing_changes_no_gradient(make_model, make_views, make_cameras):
    plain = make_model()
    saving = copy.deepcopy(plain)
    saving.transformer.activation_checkpointing = True
    context, targets = make_views(1, 2), make_cameras(1, 2, seed=5)
    for model in (plain, saving):
        model.train()(context, targets).square().mean().backward()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_adaln_zero_starts_as_the_identity(make_views, make_cameras):
    model = KoNet(dim=64, num_layers=2, num_heads=2, mlp_dim=96, adaln_zero=True)
    tokens = torch.randn(1, 2, 6, 64)
    _, options = model._embed_context(make_views(1, 2))
    after, _, _ = model.transformer(tokens, None, keep_context=True, **options)
    torch.testing.assert_close(after, tokens)


def test_initial_spread_follows_the_layer():
    torch.manual_seed(0)
    model = KoNet(dim=256, num_layers=4, num_heads=4, mlp_dim=512)
    for layer, block in enumerate(model.transformer.blocks):
        expected = 0.02 / (2 * (layer + 1)) ** 0.5
        assert block.attention.query.weight.std().item() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("ray_code", ["camray", "plucker"])
def test_rays_are_not_rounded_before_the_first_layer(make_model, make_views, make_cameras, ray_code):
    model = make_model(ray_code=ray_code)
    context, targets = make_views(1, 2), make_cameras(1, 2, seed=5)

    def first_tokens():
        return model._embed_context(context)[0], model._embed_target(targets, None)[0]

    full = first_tokens()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = first_tokens()
    for one, other in zip(full, low, strict=True):
        assert torch.equal(other, one.bfloat16())


def test_a_model_on_meta_counts_without_computing(make_model, make_views, make_cameras):
    model = make_model(adaln_zero=True, input_norm=True).to("meta")
    assert model(make_views(1, 2).to("meta"), make_cameras(1, 3).to("meta")).shape == (1, 3, 3, 16, 24)


class HostConstants(TorchFunctionMode):
    """Counts tensors that are made from Python numbers, which a GPU copies from the host."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (torch.tensor, torch.as_tensor, torch.from_numpy, torch.Tensor.new_tensor):
            self.names.append(function.__name__)
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("patch_encoding", ["rope2d", "quaternion"])
def test_a_forward_pass_copies_no_constant_from_the_host(make_model, make_views, make_cameras, patch_encoding):
    model = make_model(patch_encoding=patch_encoding, ray_code="plucker", time_code=True, adaln_zero=True)
    context, targets = make_views(1, 2), make_cameras(1, 2, seed=5)
    with torch.inference_mode():
        model(context, targets)  # makes the tables that are kept
    with HostConstants() as constants:
        model.train()(context, targets).mean().backward()
    assert constants.names == []


def test_bfloat16_autocast_stays_close(make_model, make_views, make_cameras):
    model = make_model()
    context, targets = make_views(1, 2), make_cameras(1, 2, seed=5)
    full = model(context, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = model(context, targets)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, full, rtol=0, atol=0.05)
    assert not torch.equal(low, full)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(dim=100, num_heads=3), "dim must be a multiple of num_heads=3, got 100"),
        (dict(dim=72, num_heads=6), "dim / num_heads must be a multiple of 8"),
        (dict(attention="linear"), "attention must be one of cached, joint, got 'linear'"),
        (dict(ray_code="rays"), "ray_code must be one of"),
        (dict(num_layers=0), "num_layers must be at least 1, got 0"),
        (dict(activation="silu"), "activation must be one of gelu_tanh, gelu, relu, got 'silu'"),
        (dict(colour_range="bytes"), "colour_range must be one of signed, unit, got 'bytes'"),
        (dict(pose_normalization="median"), "pose_normalization must be one of mean, first, got 'median'"),
        (dict(ray_code="fixed"), "ray_size.*ray_code=fixed"),
        (dict(ray_size=[16, 24]), r"got ray_size=\[16, 24\] with ray_code=camray"),
    ],
)
def test_rejects_what_cannot_work(options, message):
    # The checks under test precede those of the runtime type checker, which runs only in tests.
    with pytest.raises(ValueError, match=message):
        KoNet(**options)


def test_rejects_sizes_that_patches_do_not_fill(make_model, make_views, make_cameras):
    with pytest.raises(ValueError, match="image height must be a multiple of patch_size=8, got 20"):
        make_model()(make_views(1, 2), make_cameras(1, 1, height=20, width=24))


def test_bare_attention_takes_any_head_dimension(make_views, make_cameras):
    """As LVSM's weights need it: no camera encoding, no patch rotation."""
    model = KoNet(
        dim=20, num_layers=1, num_heads=5, mlp_dim=8, camera_encoding="none", patch_encoding="none", ray_code="plucker"
    )
    assert model(make_views(1, 2), make_cameras(1, 1, seed=5)).shape == (1, 1, 3, 16, 24)


@pytest.mark.parametrize("options", [dict(adaln_zero=True, input_norm=True), dict(ray_code="fixed", ray_size=[16, 24])])
def test_initialize_sets_every_tensor_as_construction_does(options):
    sizes = dict(dim=64, num_layers=2, num_heads=2, mlp_dim=96)
    torch.manual_seed(0)
    expected = KoNet(**sizes, **options)
    with torch.device("meta"):
        model = KoNet(**sizes, **options)
    model.to_empty(device="cpu")
    for tensor in model.state_dict().values():
        tensor.fill_(torch.nan)
    torch.manual_seed(0)
    model.initialize()
    torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=0, atol=0)
