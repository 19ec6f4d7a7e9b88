"""Activation checkpointing, accumulation and sharding change the memory of a step, not its gradient (float64)."""

from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch
from together import free_ports, run_together
from torch.profiler import ProfilerActivity, profile

from wnv.losses.image_loss import ImageLoss
from wnv.models.konet import KoNet
from wnv.training.module import ViewSynthesisModule
from wnv.types import Batch

RELATIVE = 1e-9


def split(batch: Batch, num_parts: int) -> list[Batch]:
    size = len(batch) // num_parts
    parts = [slice(start, start + size) for start in range(0, len(batch), size)]
    return [Batch(scenes=batch.scenes[p], context=batch.context[p], target=batch.target[p]) for p in parts]


def make_float64_module(**options: object) -> ViewSynthesisModule:
    torch.manual_seed(1)
    sizes = {"dim": 32, "num_layers": 4, "num_heads": 2, "mlp_dim": 64}
    module = ViewSynthesisModule(model=KoNet(**(sizes | options)), loss=ImageLoss(), lr=1e-3, warmup_steps=0)
    return module.double()


class FirstGradient(L.Callback):
    """Keeps the whole gradient of the first step before clipping."""

    def __init__(self) -> None:
        self.gradients: dict[str, torch.Tensor] = {}

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: object) -> None:
        for name, parameter in pl_module.model.named_parameters():
            self.gradients[name] = parameter.grad.detach().clone()


def assert_same_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert gradient.dtype == found[name].dtype == torch.float64, name
        assert gradient.norm() > 0, name
        assert (found[name] - gradient).norm() <= RELATIVE * gradient.norm(), name


def peak_bytes(call: Callable[[], object]) -> int:
    """Peak memory that a call allocates, according to torch's allocator."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def test_activation_checkpointing_keeps_less_and_changes_no_gradient(make_batch: Callable) -> None:
    batch = make_batch(num_scenes=4).to(torch.float64)
    gradients, peaks = [], []
    for activation_checkpointing in (False, True):
        model = make_float64_module(activation_checkpointing=activation_checkpointing).model

        def step(model: KoNet = model) -> None:
            rendered = model(batch.context, batch.target.cameras, batch.target.times)
            assert rendered.dtype == torch.float64
            ImageLoss()(rendered, batch.target.images)["loss"].backward()

        peaks.append(peak_bytes(step))
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert_same_gradients(gradients[1], gradients[0])
    assert peaks[1] < 0.5 * peaks[0]


def test_accumulation_holds_less_and_changes_no_gradient(
    make_batch: Callable, make_trainer: Callable, loader: Callable
) -> None:
    whole = make_batch(num_scenes=6).to(torch.float64)
    gradients, peaks = [], []
    for num_parts in (1, 3):  # not a power of two, by which float32 divides without rounding
        recorder = FirstGradient()
        trainer = make_trainer(max_steps=1, accumulate_grad_batches=num_parts, callbacks=[recorder])
        module, batches = make_float64_module(), loader(split(whole, num_parts))
        peaks.append(peak_bytes(lambda: trainer.fit(module, batches)))  # noqa: B023 called at once
        gradients.append(recorder.gradients)
    assert_same_gradients(gradients[1], gradients[0])
    assert peaks[1] < 0.5 * peaks[0]


# Number of processes: strategy, batches per step, optimizer.
CASES = {2: ("ddp-1", "fsdp-1", "fsdp-2", "ddp-1-muon", "fsdp-1-muon"), 4: ("hybrid-1", "hybrid-1-muon")}


@pytest.mark.slow
def test_sharding_divides_memory_and_changes_no_gradient(
    make_batch: Callable, make_trainer: Callable, loader: Callable, tmp_path: Path
) -> None:
    """Several processes with a part of the scenes each, against one with all of them; also with accumulation."""
    whole = make_batch(num_scenes=4).to(torch.float64)
    recorder, module = FirstGradient(), make_float64_module()
    given = {"config": module.model.config, "weights": module.model.state_dict(), "scenes": split(whole, 4)}
    torch.save(given, tmp_path / "given.pt")
    make_trainer(max_steps=1, callbacks=[recorder]).fit(module, loader([whole]))

    seen = {}
    for num_processes, names in CASES.items():
        cases = [f"{case}:{port}" for case, port in zip(names, free_ports(len(names)), strict=True)]
        arguments = [str(tmp_path), str(num_processes), *cases]
        run_together(Path(__file__).with_name("sharded_step.py"), arguments, num_processes=num_processes)
        for case in names:
            records = [torch.load(tmp_path / f"{case}.{i}.pt", weights_only=True) for i in range(num_processes)]
            seen[case] = records
            for record in records:
                assert_same_gradients(record["gradients"], recorder.gradients)
    weights = 8 * sum(parameter.numel() for parameter in module.parameters())
    everything = {"weights": weights, "gradients": weights, "moments": 2 * weights}
    for record in seen["ddp-1"]:
        assert record["held"] == everything
    for case, num_replicas in {"fsdp-1": 1, "fsdp-2": 1, "hybrid-1": 2}.items():
        for what, size in everything.items():
            held = [record["held"][what] for record in seen[case]]
            assert sum(held) == num_replicas * size, "each byte once per replica"
            assert max(held) < 0.52 * size
    for name, weight in seen["ddp-1-muon"][0]["weights"].items():
        for record in (*seen["fsdp-1-muon"], *seen["hybrid-1-muon"]):
            torch.testing.assert_close(record["weights"][name], weight, rtol=0, atol=1e-6)  # orthogonalized in float32
    for record in seen["fsdp-2"]:
        assert record["reduced"] == [False, True], "gradients are reduced after the last batch of a step"
