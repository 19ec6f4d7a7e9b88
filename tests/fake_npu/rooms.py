"""Compare networks, losses, metrics and an evaluation on the simulated NPU and on the CPU: `python rooms.py FILE`.

The output is a JSON object. `cases` holds for each case its error or null, the largest difference between the devices
relative to the largest value, whether each result has values other than 0, and the number of operator calls on the NPU.
`formats` holds for each device the dtypes that the parts of a network return under autocast.
"""

import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torchmetrics.functional.image.lpips
import torchmetrics.image.lpip
from torch import Tensor, nn

from wnv.evaluation.evaluator import evaluate
from wnv.evaluation.examples import target_sheet
from wnv.losses.image_loss import ImageLoss
from wnv.metrics.baseline import copy_nearest
from wnv.metrics.image import LPIPS, psnr, ssim
from wnv.models.konet import KoNet
from wnv.runtime.device import device_module, resolve_device
from wnv.synthetic.dataset import SyntheticDataset
from wnv.types import Batch, collate

HEIGHT, WIDTH = 16, 24
SIZES = {"dim": 32, "num_layers": 2, "num_heads": 2, "mlp_dim": 32}
MODELS = {
    "plucker-geope-rope2d": {"ray_code": "plucker"},
    "raymap-gta-quaternion": {"ray_code": "raymap", "camera_encoding": "gta", "patch_encoding": "quaternion"},
    "none-geope-none": {"ray_code": "none", "patch_encoding": "none", "qk_norm": False},
    "camray-none-none-joint": {"camera_encoding": "none", "patch_encoding": "none", "attention": "joint"},
    "dynamic": {"time_code": True, "adaln_zero": True, "activation_checkpointing": True},
    "dynamic-joint-quaternion": {"time_code": True, "attention": "joint", "patch_encoding": "quaternion"},
}


def examples(kind: str = "dynamic") -> SyntheticDataset:
    return SyntheticDataset(num_scenes=2, image_size=(HEIGHT, WIDTH), num_target=3, kind=kind)


def batch(device: torch.device) -> Batch:
    return collate([examples()[index] for index in range(2)]).to(device)


def network(options: dict[str, Any], device: torch.device) -> KoNet:
    """A small model with weights so large that every path matters, including modulation, which starts at 0."""
    torch.manual_seed(1)
    model = KoNet(**SIZES, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
    return model.to(device)


def run_model(options: dict[str, Any], device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """A training pass with its gradients, then the same views from the encoded scene."""
    given, model = batch(device), network(options, device)
    cameras, times = given.target.cameras, given.target.times
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        loss = ImageLoss()(model(given.context, cameras, times), given.target.images)["loss"]
        loss.backward()
        with torch.inference_mode():
            rendered = model.render(model.encode(given.context), cameras, times)
    return [
        loss.detach(),
        rendered,
        *(parameter.grad for parameter in model.parameters() if parameter.grad is not None),
    ]


def formats(device: torch.device) -> dict[str, str]:
    """The dtype that each part of a network returns under autocast in bfloat16."""
    given, model = batch(device), network(MODELS["dynamic"], device)
    seen = {}

    def see(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple, output: Any) -> None:
            if isinstance(output, Tensor):
                seen[name] = f"{type(module).__name__} {output.dtype}"

        return hook

    for name, module in model.named_modules():
        module.register_forward_hook(see(name))
    with torch.autocast(device.type, torch.bfloat16), torch.no_grad():
        model(given.context, given.target.cameras, given.target.times)
    return seen


def perceptual(device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """LVSM's loss, with a VGG19 of random weights."""
    given = batch(device)
    torch.manual_seed(1)
    loss = ImageLoss(perceptual_weight=0.5).to(device)
    rendered = (0.9 * given.target.images).requires_grad_()
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        terms = loss(rendered, given.target.images)
    terms["loss"].backward()
    return [terms["loss"].detach(), rendered.grad]


def lpips(backbone: str, device: torch.device) -> list[Tensor]:
    torch.manual_seed(1)
    truth = torch.rand(1, 2, 3, 64, 72)
    return [LPIPS(backbone=backbone)((0.9 * truth).to(device), truth.to(device))]


def metrics(device: torch.device) -> list[Tensor]:
    given = batch(device)
    copies, truth = copy_nearest(given), given.target.images
    return [copies, psnr(copies, truth), ssim(copies, truth)]


def evaluation(device: torch.device) -> list[Tensor]:
    """Scores and a sheet of a dynamic scene; the sheet's bytes may differ by one grey level."""
    model = network(MODELS["dynamic-joint-quaternion"], device)
    summary = evaluate(model, examples(), device=device).main
    scores = [means[metric].mean for means in (summary.model, summary.copy) for metric in ("psnr", "ssim")]
    sheet = target_sheet(model, [examples()[0]], device=device, with_error=True)
    return [torch.tensor(scores), torch.tensor(sheet) / 255]


def world(kind: str, device: torch.device) -> list[Tensor]:
    """The synthetic world, where it is rendered on the device."""
    data = SyntheticDataset(num_scenes=2, image_size=(HEIGHT, WIDTH), kind=kind, device=device.type)
    return [data[index].target.images for index in range(2)]


def inverse(device: torch.device) -> list[Tensor]:
    """An operator without an NPU kernel."""
    return [torch.linalg.inv(torch.eye(2, device=device))]


def cases() -> Iterator[tuple[str, Callable[[torch.device], list[Tensor]]]]:
    """Name and function of each case; the function takes a device."""
    for name, options in MODELS.items():
        yield name, lambda device, options=options: run_model(options, device, torch.float32)
    yield "bf16", lambda device: run_model(MODELS["dynamic"], device, torch.bfloat16)
    yield "perceptual", lambda device: perceptual(device, torch.float32)
    yield "perceptual-bf16", lambda device: perceptual(device, torch.bfloat16)
    for backbone in ("vgg", "alex"):
        yield f"lpips-{backbone}", lambda device, backbone=backbone: lpips(backbone, device)
    yield "metrics", metrics
    yield "inverse", inverse
    yield "evaluation", evaluation
    for kind in ("static", "dynamic"):
        yield f"world-{kind}", lambda device, kind=kind: world(kind, device)


def put_in_torchvision() -> None:
    """Networks with torchvision's layers in its order and random weights, for code that loads them by name."""

    def vgg(widths: tuple[int, ...]) -> nn.Module:
        layers, channels = [], 3
        for width in widths:
            if width == 0:
                layers.append(nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
        return with_features(layers)

    def with_features(layers: list[nn.Module]) -> nn.Module:
        module = nn.Module()
        module.features = nn.Sequential(*layers)
        return module

    def vgg19(**options: object) -> nn.Module:
        torch.manual_seed(2)
        return vgg((2, 2, 0, 3, 3, 0, *(4,) * 4, 0, *(5,) * 4, 0, *(5,) * 4, 0))

    def vgg16(**options: object) -> nn.Module:  # its widths are those of LPIPS' own layers
        torch.manual_seed(2)
        return vgg((64, 64, 0, 128, 128, 0, *(256,) * 3, 0, *(512,) * 3, 0, *(512,) * 3, 0))

    def alexnet(**options: object) -> nn.Module:
        torch.manual_seed(2)
        layers = [nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)]
        layers += [nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)]
        for channels, width in ((192, 384), (384, 256), (256, 256)):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
        return with_features([*layers, nn.MaxPool2d(3, 2)])

    random_weights = types.SimpleNamespace(get_state_dict=lambda **options: vgg19().state_dict())
    enum = types.SimpleNamespace(IMAGENET1K_V1=random_weights, DEFAULT=random_weights)
    names = {"VGG19_Weights": enum, "VGG16_Weights": enum, "AlexNet_Weights": enum}
    torchvision, models = types.ModuleType("torchvision"), types.ModuleType("torchvision.models")
    vars(models).update(names, vgg19=vgg19, vgg16=vgg16, alexnet=alexnet)
    torchvision.models = models
    sys.modules |= {"torchvision": torchvision, "torchvision.models": models}
    for module in (torchmetrics.functional.image.lpips, torchmetrics.image.lpip):
        module._TORCHVISION_AVAILABLE = True  # otherwise they require the installed package


def compare(case: Callable[[torch.device], list[Tensor]]) -> dict[str, Any]:
    """One case on both devices."""
    npu = resolve_device("npu")
    before = sum(device_module(npu).num_calls().values())
    try:
        seen = [value.float().cpu() for value in case(npu)]
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    expected = [value.float() for value in case(torch.device("cpu"))]
    assert len(seen) == len(expected)
    shares = [(a - b).abs().max() / b.abs().max().clamp_min(1e-6) for a, b in zip(seen, expected, strict=True)]
    return {
        "error": None,
        "difference": float(max(shares)),
        "is_something": all(bool(value.any()) for value in expected),
        "num_calls": sum(device_module(npu).num_calls().values()) - before,
    }


if __name__ == "__main__":
    put_in_torchvision()
    seen = {
        "cases": {name: compare(case) for name, case in cases()},
        "formats": {name: formats(resolve_device(name)) for name in ("npu", "cpu")},
    }
    Path(sys.argv[1]).write_text(json.dumps(seen, indent=1))
