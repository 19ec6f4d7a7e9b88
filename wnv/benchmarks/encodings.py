"""Quality of the camera encodings after equal training, and of cached against joint attention."""

import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

from wnv.benchmarks.tables import Table
from wnv.metrics.baseline import copy_nearest
from wnv.metrics.image import psnr
from wnv.models.konet import KoNet
from wnv.runtime.device import resolve_device
from wnv.synthetic.dataset import SyntheticDataset
from wnv.training.optim import make_optimizer, make_schedule
from wnv.types import Batch, Example, collate

log = logging.getLogger(__name__)

VARIANTS: dict[str, dict[str, Any]] = {
    "none": {"camera_encoding": "none", "ray_code": "none"},
    "plucker": {"camera_encoding": "none", "ray_code": "plucker"},
    "gta": {"camera_encoding": "gta", "ray_code": "none"},
    "geope": {"camera_encoding": "geope", "ray_code": "none"},
    "geope and camray": {"camera_encoding": "geope", "ray_code": "camray"},
    "geope, joint": {"camera_encoding": "geope", "ray_code": "none", "attention": "joint"},
}
EQUAL_TIME = "geope, joint, equal time"


def run(
    *,
    variants: Sequence[str] = (*VARIANTS, EQUAL_TIME),
    seeds: Sequence[int] = (0, 1, 2),
    num_steps: int = 1200,
    batch_size: int = 4,
    num_train_scenes: int = 4096,
    num_test_scenes: int = 128,
    image_size: Sequence[int] = (32, 40),
    zoom_range: Sequence[float | int] = (1.0, 3.0),
    num_context: int = 2,
    num_target: int = 6,
    dim: int = 96,
    num_layers: int = 4,
    num_heads: int = 3,
    lr: float = 5e-3,
    warmup_steps: int = 50,
    device: str = "cpu",
) -> Table:
    """Train small models that differ in one setting on the same scenes in the same order; test on unseen scenes.

    The scenes are synthetic and static, and every view has its own zoom. The optimiser is Muon: in so short a run
    AdamW hardly beats a copied view with any encoding. `equal time` gives joint attention the processor time of cached
    attention instead of its number of steps.

    Args:
        variants: Names from `VARIANTS`, and "geope, joint, equal time".
        seeds: Seeds of the weights and of the order of scenes; each variant runs once per seed.
        num_steps: Optimiser steps.
        batch_size: Scenes per step.
        num_train_scenes: Training scenes, rendered once.
        num_test_scenes: Unseen scenes over which the score is averaged.
        image_size: Height and width in pixels.
        zoom_range: Smallest and largest magnification of a view, log-uniform.
        num_context: Context views per scene.
        num_target: Target views per scene.
        dim: Features per token.
        num_layers: Transformer blocks.
        num_heads: Attention heads.
        lr: Peak learning rate.
        warmup_steps: Steps until the peak.
        device: `cpu`, `cuda`, `npu`, or `auto`.

    Raises:
        ValueError: If the device is not available, a variant is unknown, or `equal time` lacks the variant that sets
            its time.
    """
    place = resolve_device(device)
    variants = [name.replace("prope", "geope") for name in variants]  # two names of one encoding
    unknown = [name for name in variants if name not in (*VARIANTS, EQUAL_TIME)]
    if unknown:
        raise ValueError(f"variants must be from {', '.join((*VARIANTS, EQUAL_TIME))}; got {', '.join(unknown)}")
    if EQUAL_TIME in variants and "geope" not in list(variants)[: list(variants).index(EQUAL_TIME)]:
        raise ValueError(f"variants must name geope before {EQUAL_TIME!r}, because it sets the time; got {variants}")
    world: dict[str, Any] = {
        "image_size": image_size,
        "num_context": num_context,
        "num_target": num_target,
        "zoom_range": zoom_range,
        "zoom_per_view": True,
    }
    train = _render(SyntheticDataset(num_scenes=num_train_scenes, seed=1, **world), batch_size)
    test = _render(SyntheticDataset(num_scenes=num_test_scenes, seed=2, **world), batch_size)
    copy_db = _score_copy(test)
    sizes: dict[str, Any] = {"dim": dim, "num_layers": num_layers, "num_heads": num_heads, "mlp_dim": 4 * dim}
    recipe: dict[str, Any] = {"batch_size": batch_size, "num_steps": num_steps, "lr": lr, "warmup_steps": warmup_steps}

    scores: dict[str, list[float]] = {name: [] for name in variants}
    steps: dict[str, list[int]] = {name: [] for name in variants}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for seed in seeds:
        for name in variants:
            options = VARIANTS["geope, joint" if name == EQUAL_TIME else name]
            torch.manual_seed(seed)
            model = KoNet(**sizes, **options).to(place)
            budget_s = seconds["geope"][-1] if name == EQUAL_TIME else None
            done, used_s = _train(model, train, seed=seed, budget_s=budget_s, **recipe)
            score = _score(model, test, batch_size)
            log.info("seed %d, %s: %.2f dB after %d steps, %.0f s", seed, name, score, done, used_s)
            scores[name].append(score)
            steps[name].append(done)
            seconds[name].append(used_s)
    return _tabulate(
        scores,
        steps,
        seconds,
        copy_db=copy_db,
        num_seeds=len(seeds),
        settings={**sizes, **recipe, **world, "device": str(place)},
    )


def _tabulate(
    scores: Mapping[str, Sequence[float]],
    steps: Mapping[str, Sequence[int]],
    seconds: Mapping[str, Sequence[float]],
    *,
    copy_db: float,
    num_seeds: int,
    settings: dict[str, Any],
) -> Table:
    rows = [("nearest context view, copied", f"{copy_db:.2f}", "", "", "")]
    for name, values in scores.items():
        spread = f" +- {statistics.stdev(values):.2f}" if num_seeds > 1 else ""
        rows.append(
            (
                name,
                f"{statistics.mean(values):.2f}{spread}",
                "  ".join(f"{value:.2f}" for value in values),
                f"{statistics.mean(steps[name]):.0f}",
                f"{statistics.mean(seconds[name]):.0f}",
            )
        )
    height, width = settings["image_size"]
    low, high = settings["zoom_range"]
    return Table(
        title=(
            f"Camera encodings: dim {settings['dim']}, {settings['num_layers']} layers, {height} x {width} px, zoom "
            f"{low:g} to {high:g} per view, {settings['num_context']} context and {settings['num_target']} target "
            f"views, {settings['batch_size']} scenes per step, {num_seeds} seeds, on {settings['device']}"
        ),
        columns=("variant", "PSNR, dB", "by seed", "steps", "training, CPU s"),
        rows=rows,
        figures={"copy": copy_db, "psnr": dict(scores), "steps": dict(steps), "seconds": dict(seconds), **settings},
    )


def _train(
    model: KoNet,
    scenes: Sequence[Example],
    *,
    seed: int,
    batch_size: int,
    num_steps: int,
    lr: float,
    warmup_steps: int,
    budget_s: float | None,
) -> tuple[int, float]:
    """Train for `num_steps`, or for about `budget_s` of processor time. Returns the steps done and the seconds used."""
    order = torch.Generator().manual_seed(seed)
    left: list[int] = []
    if budget_s is not None:
        num_steps = max(warmup_steps + 1, round(budget_s / _seconds_per_step(model, scenes, batch_size)))
    optimizer = make_optimizer("muon", model, lr=lr, betas=(0.95, 0.95), weight_decay=0.05)
    schedule = make_schedule(optimizer, warmup_steps=warmup_steps, max_steps=num_steps)
    start = time.process_time()
    for _ in range(num_steps):
        if len(left) < batch_size:
            left = torch.randperm(len(scenes), generator=order).tolist()
        batch = collate([scenes[left.pop()] for _ in range(batch_size)]).to(_device(model))
        _loss(model, batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
    return num_steps, time.process_time() - start


def _seconds_per_step(model: KoNet, scenes: Sequence[Example], batch_size: int, num_trials: int = 5) -> float:
    """Processor time of a forward and backward pass, without changing the weights."""
    batch = collate(scenes[:batch_size]).to(_device(model))
    start = 0.0
    for trial in range(num_trials + 1):
        if trial == 1:  # after a warm-up
            start = time.process_time()
        _loss(model, batch).backward()
        model.zero_grad(set_to_none=True)
    return (time.process_time() - start) / num_trials


def _loss(model: KoNet, batch: Batch) -> torch.Tensor:
    return functional.mse_loss(model(batch.context, batch.target.cameras), batch.target.images)


@torch.no_grad()
def _score(model: KoNet, scenes: Sequence[Example], batch_size: int) -> float:
    scores = []
    for start in range(0, len(scenes), batch_size):
        batch = collate(scenes[start : start + batch_size]).to(_device(model))
        images = model(batch.context, batch.target.cameras)
        scores.append(psnr(images, batch.target.images).mean(dim=1))
    return torch.cat(scores).mean().item()


def _score_copy(scenes: Sequence[Example]) -> float:
    batch = collate(scenes)
    return psnr(copy_nearest(batch), batch.target.images).mean().item()


def _render(dataset: SyntheticDataset, batch_size: int) -> list[Example]:
    examples: list[Example] = []
    for start in range(0, len(dataset), batch_size):
        examples += dataset.__getitems__(range(start, min(start + batch_size, len(dataset))))
    return examples


def _device(model: KoNet) -> torch.device:
    return next(model.parameters()).device
