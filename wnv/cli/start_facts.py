"""Facts of a training's start: size, devices, batch, length."""

from typing import Any

import lightning as L


def start_facts(trainer: L.Trainer, module: Any, data: Any) -> dict[str, Any]:
    """Collect what determines cost and result of a training; None where the data module does not say it."""
    batch_size = getattr(data, "batch_size", None)
    num_batches = trainer.accumulate_grad_batches
    return {
        "parameters": sum(parameter.numel() for parameter in module.model.parameters()),
        "device": trainer.strategy.root_device.type,
        "processes": trainer.world_size,
        "nodes": trainer.num_nodes,
        "precision": str(trainer.precision),
        "strategy": type(trainer.strategy).__name__,
        "scenes": getattr(data, "num_train_scenes", None),
        "batch_size": batch_size,
        "accumulate_grad_batches": num_batches,
        "global_batch": None if batch_size is None else batch_size * trainer.world_size * num_batches,
        "max_steps": trainer.max_steps,
    }


def describe_start(facts: dict[str, Any], *, first_step: int) -> str:
    """Return the first line of a training."""
    processes, nodes = facts["processes"], facts["nodes"]
    machines = f" on {nodes} machines" if nodes > 1 else ""
    batch = (
        ""
        if facts["batch_size"] is None
        else (
            f", global batch {facts['global_batch']} ({facts['batch_size']} per device x {processes} "
            f"device{'s' if processes > 1 else ''} x {facts['accumulate_grad_batches']} accumulated)"
        )
    )
    scenes = "endless" if facts["scenes"] is None else facts["scenes"]
    return (
        f"training {facts['parameters'] / 1e6:.2f} M parameters on {processes} x {facts['device']}{machines}, "
        f"precision {facts['precision']}, {facts['strategy']}: {scenes} scenes{batch}, steps {first_step} to "
        f"{facts['max_steps']}"
    )
