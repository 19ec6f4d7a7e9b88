import builtins
import itertools

import pytest
import torch
from torch import nn

from wnv.losses.image_loss import ImageLoss
from wnv.losses.perceptual import PerceptualLoss


def tiny_blocks() -> list[nn.Module]:
    channels = [3, 4, 4, 4, 4, 4]
    layers = [nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(channels)]
    return [nn.Sequential(layer, nn.ReLU()) for layer in layers]


def images(num: int = 2) -> torch.Tensor:
    return torch.rand(num, 3, 3, 8, 12)


def test_loss_is_the_weighted_sum_of_its_parts() -> None:
    rendered, truth = images(), images()
    terms = ImageLoss()(rendered, truth)
    assert terms.keys() == {"loss", "mse"}
    torch.testing.assert_close(terms["loss"], ((rendered - truth) ** 2).mean())
    terms = ImageLoss(perceptual_weight=0.5, perceptual=PerceptualLoss(blocks=tiny_blocks()))(rendered, truth)
    torch.testing.assert_close(terms["loss"], terms["mse"] + 0.5 * terms["perceptual"])
    assert terms["perceptual"] > 0


def test_precision_of_the_loss() -> None:
    assert ImageLoss()(images().bfloat16(), images())["loss"].dtype == torch.float32
    rendered, truth = images().double(), images().double()
    loss = ImageLoss()(rendered + 1e-12, truth)["loss"] - ImageLoss()(rendered, truth)["loss"]
    assert loss.dtype == torch.float64
    assert float(loss) == pytest.approx(2e-12 * float((rendered - truth).mean()), rel=1e-3)


def test_the_feature_network_takes_images_of_any_precision() -> None:
    loss = ImageLoss(perceptual_weight=0.5, perceptual=PerceptualLoss(blocks=tiny_blocks()))
    rendered, truth = images().double(), images().double()
    expected = loss(rendered.float(), truth.float())["perceptual"]
    terms = loss(rendered, truth)
    assert (terms["loss"].dtype, terms["mse"].dtype) == (torch.float64, torch.float64)
    torch.testing.assert_close(terms["perceptual"], expected)
    wide = loss.double()(rendered, truth)["perceptual"]
    assert wide.dtype == torch.float64
    torch.testing.assert_close(wide.float(), expected)


def test_perceptual_distance_equals_the_written_out_formula() -> None:
    blocks = tiny_blocks()
    loss = PerceptualLoss(blocks=blocks)
    rendered, truth = torch.rand(2, 3, 8, 12), torch.rand(2, 3, 8, 12)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    one, other = (rendered - mean) / std, (truth - mean) / std
    expected = (one - other).abs().mean()
    for block, weight in zip(blocks, (1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5), strict=True):
        one, other = block(one), block(other)
        expected = expected + weight * (one - other).abs().mean()
    torch.testing.assert_close(loss(rendered, truth), expected * std.mean())


def test_autocast_does_not_round_the_means_of_features() -> None:
    loss = PerceptualLoss(blocks=tiny_blocks())
    rendered, truth = images(), images()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        distance = loss(rendered, truth)
    assert distance.dtype == torch.float32
    assert distance != distance.bfloat16().float()


def test_perceptual_distance_of_equal_images_is_zero_and_pixels_weigh_as_in_l1() -> None:
    silent = [nn.Sequential(nn.Conv2d(3, 3, 1)) for _ in range(5)]
    for block in silent:
        nn.init.zeros_(block[0].weight)
    loss = PerceptualLoss(blocks=silent)
    truth = torch.rand(1, 3, 4, 6)
    assert loss(truth, truth) == 0
    torch.testing.assert_close(loss(truth + 0.1, truth), torch.tensor(0.1), rtol=1e-3, atol=0)


def test_only_the_rendered_image_gets_gradients() -> None:
    loss = PerceptualLoss(blocks=tiny_blocks())
    rendered = images().requires_grad_()
    loss(rendered, images()).backward()
    assert rendered.grad is not None
    assert rendered.grad.abs().sum() > 0
    assert not list(loss.parameters()), "the frozen network would be handed to the optimiser"
    assert not loss.state_dict(), "the frozen network would be written into every checkpoint"


def test_invalid_arguments() -> None:
    with pytest.raises(ValueError, match=r"perceptual_weight.*-1"):
        ImageLoss(perceptual_weight=-1)
    with pytest.raises(ValueError, match=r"blocks.*2"):
        PerceptualLoss(blocks=tiny_blocks()[:2])


def test_absent_torchvision_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_torchvision(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("torchvision"):
            raise ImportError("No module named 'torchvision'")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_torchvision)
    with pytest.raises(ImportError, match=r"wnv\[perceptual\].*loss\.perceptual_weight"):
        ImageLoss(perceptual_weight=0.5)


class _FakeWeights:
    url = "https://example.org/vgg19-0.pth"

    def __init__(self, state: dict | None) -> None:
        self.state = state

    def get_state_dict(self, **options: object) -> dict:
        if self.state is None:
            raise OSError("no route to host")
        return self.state


def _fake_torchvision(monkeypatch: pytest.MonkeyPatch, *, has_weights: bool) -> nn.Module:
    """VGG19's 37 feature layers in their real order, with few channels."""
    import sys
    from types import SimpleNamespace

    layers: list[nn.Module] = []
    channels = 3
    for width in (2, 2, "pool", 3, 3, "pool", 4, 4, 4, 4, "pool", 5, 5, 5, 5, "pool", 5, 5, 5, 5, "pool"):
        if width == "pool":
            layers.append(nn.MaxPool2d(2, 2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
    network = nn.Module()
    network.features = nn.Sequential(*layers)
    weights = _FakeWeights(network.state_dict() if has_weights else None)
    models = SimpleNamespace(VGG19_Weights=SimpleNamespace(IMAGENET1K_V1=weights), vgg19=lambda: network)
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(models=models))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    return network


def test_vgg_is_cut_after_its_relus_and_pools_by_averaging(monkeypatch: pytest.MonkeyPatch) -> None:
    network = _fake_torchvision(monkeypatch, has_weights=True)
    loss = PerceptualLoss()
    blocks = loss._network[0]
    assert len(network.features) == 37
    assert [len(block) for block in blocks] == [4, 5, 5, 9, 9]
    assert all(isinstance(block[-1], nn.ReLU) for block in blocks)
    kinds = [type(layer) for block in blocks for layer in block]
    assert kinds.count(nn.AvgPool2d) == 4
    assert nn.MaxPool2d not in kinds
    rendered = torch.rand(1, 3, 32, 48, requires_grad=True)
    loss(rendered, torch.rand(1, 3, 32, 48)).backward()
    assert rendered.grad is not None


def test_absent_vgg_weights_are_named_with_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_torchvision(monkeypatch, has_weights=False)
    with pytest.raises(FileNotFoundError, match=r"vgg19-0\.pth.*no route to host"):
        ImageLoss(perceptual_weight=0.5)
