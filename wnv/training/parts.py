"""Requirements on the parts of a training (model, loss), and how checkpoints describe them."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

_TARGET = "_target_"


def describe_part(part: Any) -> dict[str, Any]:
    """Describe an object as plain values: the path of its class, and its constructor's arguments from `.config`."""
    kind = part if isinstance(part, type) else type(part)
    described = {_TARGET: f"{kind.__module__}.{kind.__qualname__}"}
    if isinstance(config := getattr(part, "config", None), Mapping):
        return described | dict(config)
    return described


def build_part(described: Mapping[str, Any], *, name: str) -> Any:
    """Rebuild what `describe_part` described.

    Raises:
        ValueError: If the class takes arguments that the description lacks, or cannot be imported.
    """
    config = dict(described)
    path = config.pop(_TARGET)
    module, _, qualname = path.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), qualname)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot import {path} for {name} ({error}); pass {name}=") from error
    if not config and inspect.signature(kind).parameters:
        raise ValueError(f"{path} has no .config (dict of its constructor's arguments) to rebuild {name}; pass {name}=")
    return kind(**config)


def check_model(model: nn.Module) -> None:
    """Check that a model can be trained.

    Raises:
        TypeError: If the model has no `.config`, from which checkpoints rebuild it.
    """
    if not isinstance(getattr(model, "config", None), Mapping):
        raise TypeError(
            f"model {type(model).__name__} needs .config, a dict of its constructor's arguments (saved in checkpoints)"
        )


def transformer_blocks(model: nn.Module, *, reason: str) -> nn.ModuleList:
    """The blocks of a transformer.

    Args:
        model: The network.
        reason: Setting that needs the blocks, for the error.

    Raises:
        TypeError: If the model has none.
    """
    blocks = getattr(getattr(model, "transformer", None), "blocks", None)
    if blocks is None:
        raise TypeError(f"{reason} needs model.transformer.blocks, which {type(model).__name__} lacks")
    return blocks


def loss_terms(loss: nn.Module, rendered: Tensor, truth: Tensor) -> dict[str, Any]:
    """Compute a loss: its terms by name, `loss` being the one to minimise.

    Raises:
        TypeError: If the loss returns neither a scalar tensor nor a dictionary with such a tensor as `loss`.
    """
    returned = loss(rendered, truth)
    terms = dict(returned) if isinstance(returned, Mapping) else {"loss": returned}
    value = terms.get("loss")
    if not isinstance(value, Tensor) or value.numel() != 1:
        found = f"a dict of {sorted(terms)}" if isinstance(returned, Mapping) else type(returned).__name__
        found += f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
        raise TypeError(f"{type(loss).__name__} must return a scalar tensor or a dict with one as 'loss', got {found}")
    return terms
