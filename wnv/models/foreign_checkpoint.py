"""Convert checkpoints of other projects: read them without running their code, rename tensors, load strictly."""

import math
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from wnv.models.konet import KoNet

# Where training scripts put the weights beside the optimiser; the file may also be the state dict itself.
_WEIGHT_KEYS = ("model", "state_dict")
_HINTS = {  # part of a tensor's name -> what the file is
    "query_tokenizer": "these are PRoPE's names: set from=prope",
    "image_tokenizer": "these are LVSM's names: set from=lvsm",
    "tokenizer.context": "these are KoNet's names: set weights= instead of from=",
}


@dataclass(frozen=True)
class Converted:
    """A converted checkpoint.

    Attributes:
        model: The model, in evaluation mode on the CPU, in float32.
        left_out: Names of the tensors that rendering does not need, such as those of a loss.
    """

    model: KoNet
    left_out: tuple[str, ...]


def read_renamed(
    path: Path, *, renames: Mapping[str, str], ignored: Sequence[str] = ()
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Read a checkpoint's tensors under KoNet's names.

    Prefixes that wrappers add (`module.`, `model.`, `_orig_mod.`) are removed. A fused `attention.qkv.weight` is split.

    Args:
        path: A `torch.save` file of a state dict, or of a dict that holds one as `model` or `state_dict`; or a
            `.safetensors` file.
        renames: Parts of names and their replacements, applied in order. The first is the full name of a tensor that
            every checkpoint has.
        ignored: Prefixes of tensors that are left out.

    Returns:
        The tensors, and the names of those left out. Tensors that no rename applies to keep their names.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read without running code, or lacks the first tensor.
    """
    tensors = {name.replace("_orig_mod.", ""): tensor for name, tensor in _read_tensors(path).items()}
    anchor = next(iter(renames))
    anchored = [name for name in tensors if name == anchor or name.endswith(f".{anchor}")]
    if not anchored:
        hint = next((text for part, text in _HINTS.items() if any(part in name for name in tensors)), None)
        raise ValueError(f"no tensor {anchor}; {hint or f'it has {_shorten(tensors)}'}")
    prefix = min(anchored, key=len).removesuffix(anchor)
    state, left_out = {}, []
    for name, tensor in tensors.items():
        inner = name.removeprefix(prefix)
        if not name.startswith(prefix) or inner.startswith(tuple(ignored)):
            left_out.append(inner)
            continue
        for theirs, ours in renames.items():
            inner = inner.replace(theirs, ours)
        if inner.endswith("attention.qkv.weight"):
            parts = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
            state |= {inner.replace("qkv", part): chunk for part, chunk in parts}
        else:
            state[inner] = tensor
    return state, tuple(left_out)


def read_sizes(state: Mapping[str, Tensor], *, num_heads: int | None) -> dict[str, Any]:
    """Derive arguments of KoNet from the shapes of its tensors.

    Args:
        state: Tensors under KoNet's names.
        num_heads: Attention heads; required for weights without qk-norm, whose shapes do not determine them.

    Raises:
        ValueError: If the number of heads is unknown or wrong.
    """
    dim, mlp_dim = state["head_norm.weight"].shape[0], state["transformer.blocks.0.mlp.expand.weight"].shape[0]
    query_norm = state.get("transformer.blocks.0.attention.query_norm.weight")
    if query_norm is None and num_heads is None:
        raise ValueError("the number of heads cannot be derived without qk-norm: set num_heads (16 in PRoPE's scripts)")
    if query_norm is not None:
        if num_heads not in (None, dim // len(query_norm)):
            raise ValueError(f"num_heads must be {dim // len(query_norm)} for these weights, got {num_heads}")
        num_heads = dim // len(query_norm)
    layers = [re.match(r"transformer\.blocks\.(\d+)\.", name) for name in state]
    return {
        "dim": dim,
        "num_layers": 1 + max(int(layer[1]) for layer in layers if layer),
        "num_heads": num_heads,
        "mlp_dim": mlp_dim,
        "patch_size": math.isqrt(state["head.weight"].shape[0] // 3),
        "qk_norm": query_norm is not None,
    }


@contextmanager
def checkpoint_errors(path: Path, project: str) -> Iterator[None]:
    """Report errors of a conversion as a `ValueError` that names the file and the project."""
    try:
        yield
    except (ValueError, KeyError, IndexError, RuntimeError) as error:
        problem = f"tensor {error} missing" if isinstance(error, KeyError) else error
        raise ValueError(f"cannot convert {path} as a checkpoint of {project}: {problem}") from error


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}: not a file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError:
        raise
    except Exception as error:  # an unpickler may raise anything on other bytes
        if (found := re.search(r"GLOBAL ([\w.]+)", str(error))) is not None:
            raise ValueError(
                f"it holds Python objects ({found[1]}), and reading those would run code from the file; if you trust "
                "its author, save the tensors alone: python -c \"import torch; torch.save(torch.load('OLD.pt', "
                "map_location='cpu', weights_only=False)['model'], 'NEW.pt')\""
            ) from error
        reason = next(iter(str(error).splitlines()), type(error).__name__).partition(" (Could this")[0]
        raise ValueError(f"not a checkpoint, or damaged ({reason})") from error
    if not isinstance(content, dict):
        raise ValueError(f"not a dict of tensors, but {type(content).__name__}")
    weights = next((content[key] for key in _WEIGHT_KEYS if isinstance(content.get(key), dict)), content)
    tensors = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"no tensors at the top or under {' or '.join(_WEIGHT_KEYS)}; it holds {_shorten(content)}")
    return tensors


def _shorten(names: Mapping[str, Any], limit: int = 6) -> str:
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(list(map(str, names))[:limit]) + rest
