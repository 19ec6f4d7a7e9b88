"""Speed of `cached` against `joint` attention with the same weights, and the cost of the camera encoding."""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from wnv.benchmarks.tables import Table
from wnv.benchmarks.timing import measure_in_turns, seconds_of
from wnv.geometry.cameras import K_from_fov
from wnv.geometry.poses import random_se3
from wnv.models.konet import KoNet
from wnv.runtime.device import resolve_device
from wnv.types import Cameras, Views


def run(
    *,
    dim: int = 768,
    num_layers: int = 6,
    num_heads: int = 16,
    mlp_dim: int = 3072,
    patch_size: int = 8,
    image_size: Sequence[int] = (128, 128),
    context_sizes: Sequence[int] = (2, 8, 16),
    training_sizes: Sequence[Sequence[int]] = ((2, 6), (8, 6)),
    repeats: int = 5,
    training_repeats: int = 3,
    device: str = "cpu",
) -> Table:
    """Time both attentions in turns.

    Rendering: one view of an encoded scene against one view by joint attention. Training: forward and backward pass of
    one scene. Encoding: a training step with `geope` and `rope2d` against one without any encoding.

    Args:
        dim: Features per token.
        num_layers: Transformer blocks.
        num_heads: Attention heads.
        mlp_dim: Hidden features of the feed-forwards.
        patch_size: Side of a patch, in pixels.
        image_size: Height and width in pixels.
        context_sizes: Numbers of context views to render from.
        training_sizes: Numbers of context and target views of the training steps.
        repeats: Timed renderings per case; the table shows the median.
        training_repeats: Timed training steps per case; the table shows the median.
        device: `cpu`, `cuda`, `npu`, or `auto`.

    Raises:
        ValueError: If the device is not available.
    """
    place = resolve_device(device)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "dim": dim,
        "num_layers": num_layers,
        "num_heads": num_heads,
        "mlp_dim": mlp_dim,
        "patch_size": patch_size,
    }
    cached = KoNet(**sizes, attention="cached").to(place)
    joint = KoNet(**sizes, attention="joint").to(place)
    joint.load_state_dict(cached.state_dict())
    plain = KoNet(**sizes, camera_encoding="none", patch_encoding="none").to(place)
    rows, figures = [], {}

    def clock() -> float:
        if place.type != "cpu":
            torch.accelerator.synchronize()
        return time.perf_counter()

    def median_seconds(*calls: Callable[[], object], repeats: int) -> list[float]:
        cases = {str(i): partial(seconds_of, call, clock) for i, call in enumerate(calls)}
        return [statistics.median(values) for values in measure_in_turns(cases, repeats=repeats).values()]

    def compare(name: str, label: str, slow: Callable[[], object], fast: Callable[[], object], times: int) -> None:
        slow_s, fast_s = median_seconds(slow, fast, repeats=times)
        figures[name] = slow_s / fast_s
        rows.append((label, f"{slow_s * 1e3:.0f} ms", f"{fast_s * 1e3:.0f} ms", f"{slow_s / fast_s:.2f}x"))

    for num_context in context_sizes:
        context, target = _random_views(num_context, image_size, place), _random_views(1, image_size, place).cameras
        with torch.no_grad():
            scene = cached.encode(context)
            compare(
                f"render_{num_context}",
                f"render a view from {num_context} encoded context views",
                lambda context=context, target=target: joint(context, target),
                lambda scene=scene, target=target: cached.render(scene, target),
                repeats,
            )
    for num_context, num_target in training_sizes:
        context = _random_views(num_context, image_size, place)
        target = _random_views(num_target, image_size, place)
        compare(
            f"train_{num_context}_{num_target}",
            f"training step, {num_context} context and {num_target} target views",
            lambda context=context, target=target: _training_step(joint, context, target),
            lambda context=context, target=target: _training_step(cached, context, target),
            training_repeats,
        )
    num_context, num_target = training_sizes[0]
    context, target = _random_views(num_context, image_size, place), _random_views(num_target, image_size, place)
    encoded_s, plain_s = median_seconds(
        lambda: _training_step(cached, context, target),
        lambda: _training_step(plain, context, target),
        repeats=2 * training_repeats,
    )
    figures["encoding_overhead"] = encoded_s / plain_s - 1
    rows.append(
        (
            f"camera encoding in that step ({num_context}, {num_target})",
            f"{encoded_s * 1e3:.0f} ms",
            f"{plain_s * 1e3:.0f} ms",
            f"{100 * figures['encoding_overhead']:+.1f} %",
        )
    )
    num_tokens = (image_size[0] // patch_size) * (image_size[1] // patch_size)
    return Table(
        title=f"Attention: dim {dim}, {num_layers} layers, {num_tokens} tokens per view, float32 on {place}",
        columns=("what", "joint / with encoding", "cached / without", "ratio"),
        rows=rows,
        figures=figures,
    )


def _training_step(model: KoNet, context: Views, target: Views) -> None:
    model.zero_grad(set_to_none=True)
    (model(context, target.cameras) - target.images).square().mean().backward()


def _random_views(num_views: int, image_size: Sequence[int], device: torch.device) -> Views:
    height, width = image_size
    generator = torch.Generator().manual_seed(num_views)
    K = K_from_fov(fov_y_deg=60.0, width=width, height=height).expand(1, num_views, 3, 3)
    camtoworld = random_se3((1, num_views), generator=generator, dtype=torch.float32)
    return Views(
        images=torch.rand(1, num_views, 3, height, width, generator=generator),
        cameras=Cameras(K=K, camtoworld=camtoworld, width=width, height=height),
        times=torch.zeros(1, num_views),
    ).to(device)
