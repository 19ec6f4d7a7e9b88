"""Checkpoints of other projects: read without running code of theirs, and checked tensor by tensor."""

import pickle
import re
import zipfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from wnv.models.konet import KoNet

# Under which a training script puts the weights beside its optimiser; the file may also be the weights alone.
_WEIGHT_KEYS = ("model", "state_dict")
_NUM_SHOWN = 6  # names in a message


@dataclass(frozen=True)
class Converted:
    """What became of a checkpoint.

    Attributes:
        model: The model, in evaluation mode on the CPU, in float32.
        left_out: Names of the tensors that drawing does not need, such as those of a loss.
    """

    model: KoNet
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class ForeignTensors:
    """The tensors of a checkpoint under the names of the published code.

    Attributes:
        path: The file they are from.
        project: Whose names are expected, for messages.
        tensors: Those of the model, by name.
        outside: Names of the tensors of other modules in the file.
    """

    path: Path
    project: str
    tensors: Mapping[str, Tensor]
    outside: tuple[str, ...]

    def shape(self, name: str, *, num_axes: int) -> tuple[int, ...]:
        """The shape of a tensor that sizes are read off.

        Raises:
            ValueError: If it is not there or has another number of axes.
        """
        if name not in self.tensors:
            raise ValueError(f"{self._preface()}: it lacks {name}")
        shape = tuple(self.tensors[name].shape)
        if len(shape) != num_axes:
            raise ValueError(f"{self._preface()}: {name} has shape {shape}, expected {num_axes} axes")
        return shape

    def count(self, prefix: str) -> int:
        """How many numbered modules there are: one more than the highest number after `prefix`."""
        numbers = [re.match(rf"{re.escape(prefix)}(\d+)\.", name) for name in self.tensors]
        return max((int(number[1]) for number in numbers if number), default=-1) + 1

    def has(self, ending: str) -> bool:
        """Whether any name ends so."""
        return any(name.endswith(ending) for name in self.tensors)

    def split(self, ignored: Collection[str]) -> tuple["ForeignTensors", tuple[str, ...]]:
        """The tensors without those whose names begin with one of `ignored`, and the names of all that are left out."""
        dropped = tuple(name for name in self.tensors if name.startswith(tuple(ignored)))
        kept = {name: tensor for name, tensor in self.tensors.items() if name not in dropped}
        rest = ForeignTensors(path=self.path, project=self.project, tensors=kept, outside=())
        return rest, (*dropped, *self.outside)

    def check(self, expected: Mapping[str, tuple[int, ...]]) -> None:
        """Make sure that exactly these tensors are there, in these shapes.

        Raises:
            ValueError: If not, naming what is missing, what is too much, and what has another shape.
        """
        complaints = []
        missing = [name for name in expected if name not in self.tensors]
        if missing:
            complaints.append(f"it lacks {_listed(missing)}")
        unexpected = [name for name in self.tensors if name not in expected]
        if unexpected:
            complaints.append(f"it also has {_listed(unexpected)}, which KoNet has no counterpart of")
        misshapen = [
            f"{name} of shape {tuple(self.tensors[name].shape)} instead of {shape}"
            for name, shape in expected.items()
            if name in self.tensors and tuple(self.tensors[name].shape) != shape
        ]
        if misshapen:
            complaints.append(f"it has {_listed(misshapen)}")
        if complaints:
            raise ValueError(f"{self._preface()}: {'; '.join(complaints)}")

    def _preface(self) -> str:
        return f"{self.path} is not a checkpoint of {self.project}"


@dataclass(frozen=True)
class BlockNames:
    """What a project calls the tensors of one transformer block; queries, keys and values are fused in this order.

    Attributes:
        prefix: Before the block's number and a dot.
        attention_norm: Weight of the norm before attention.
        qkv: Queries', keys' and values' matrices, one below the other.
        output: The matrix after attention.
        query_norm: Weight of the queries' norm.
        key_norm: Weight of the keys' norm.
        mlp_norm: Weight of the norm before the feed-forward.
        expand: The feed-forward's first matrix.
        contract: Its second one.
    """

    prefix: str
    attention_norm: str
    qkv: str
    output: str
    query_norm: str
    key_norm: str
    mlp_norm: str
    expand: str
    contract: str

    def read_sizes(self, weights: ForeignTensors, *, num_heads: int | None, heads_hint: str) -> dict[str, Any]:
        """Arguments of KoNet that the blocks' shapes tell.

        Args:
            weights: The tensors.
            num_heads: Attention heads, for weights without qk-norm, which do not tell.
            heads_hint: How many these usually have, for the message that asks for them.

        Raises:
            ValueError: If the first block lacks what sizes are read off, or the number of heads cannot be known.
        """
        first = f"{self.prefix}0."
        dim = weights.shape(first + self.attention_norm, num_axes=1)[0]
        qk_norm = weights.has(self.query_norm)
        if qk_norm:
            head_dim = weights.shape(first + self.query_norm, num_axes=1)[0]
            if num_heads not in (None, dim // head_dim):
                raise ValueError(f"{weights.path} has {dim // head_dim} heads, got num_heads={num_heads}")
            num_heads = dim // head_dim
        elif num_heads is None:
            raise ValueError(
                f"{weights.path} has no qk-norm and does not tell its number of heads: set num_heads= ({heads_hint})"
            )
        return {
            "dim": dim,
            "num_layers": weights.count(self.prefix),
            "num_heads": num_heads,
            "mlp_dim": weights.shape(first + self.expand, num_axes=2)[0],
            "qk_norm": qk_norm,
        }

    def shapes(self, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Name -> shape of all tensors of all blocks."""
        dim, mlp_dim = config["dim"], config["mlp_dim"]
        of_one = {
            self.attention_norm: (dim,),
            self.qkv: (3 * dim, dim),
            self.output: (dim, dim),
            self.mlp_norm: (dim,),
            self.expand: (mlp_dim, dim),
            self.contract: (dim, mlp_dim),
        }
        if config["qk_norm"]:
            of_one |= dict.fromkeys((self.query_norm, self.key_norm), (dim // config["num_heads"],))
        layers = range(config["num_layers"])
        return {f"{self.prefix}{layer}.{name}": shape for layer in layers for name, shape in of_one.items()}

    def rename(self, weights: ForeignTensors, config: Mapping[str, Any]) -> dict[str, Tensor]:
        """KoNet's names -> tensors of all blocks."""
        ours = {
            "attention_norm": self.attention_norm,
            "attention.output": self.output,
            "mlp_norm": self.mlp_norm,
            "mlp.expand": self.expand,
            "mlp.contract": self.contract,
        }
        if config["qk_norm"]:
            ours |= {"attention.query_norm": self.query_norm, "attention.key_norm": self.key_norm}
        state = {}
        for layer in range(config["num_layers"]):
            there, here = f"{self.prefix}{layer}.", f"transformer.blocks.{layer}."
            state |= {f"{here}{name}.weight": weights.tensors[there + theirs] for name, theirs in ours.items()}
            for name, part in zip(("query", "key", "value"), weights.tensors[there + self.qkv].chunk(3), strict=True):
                state[f"{here}attention.{name}.weight"] = part
        return state


def read_foreign(path: str | Path, *, project: str, anchor: str, hints: Mapping[str, str]) -> ForeignTensors:
    """Read the tensors of another project's checkpoint; the prefixes that wrappers add are taken off their names.

    Args:
        path: A file of `torch.save`, of the weights or of a dict that holds them as `model` or `state_dict`; or a
            `.safetensors` file.
        project: Whose names are expected, for messages.
        anchor: The name of a tensor that every checkpoint of the project has; what stands before it in the file
            (`module.`, `model.`) is cut off all names.
        hints: Part of a name -> what a checkpoint with such names is and what to do with it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read without running code, or holds no tensor of this name.
    """
    path = Path(path)
    # torch.compile puts this one anywhere.
    tensors = {name.replace("_orig_mod.", ""): tensor for name, tensor in _read_tensors(path).items()}
    anchored = [name for name in tensors if name == anchor or name.endswith(f".{anchor}")]
    if not anchored:
        hint = next((text for part, text in hints.items() if any(part in name for name in tensors)), None)
        raise ValueError(
            f"{path} is not a checkpoint of {project}: it lacks {anchor}; "
            f"{hint or f'it has {_listed(sorted(tensors))}'}"
        )
    prefix = min(anchored, key=len).removesuffix(anchor)
    inside = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    outside = tuple(name for name in tensors if not name.startswith(prefix))
    return ForeignTensors(path=path, project=project, tensors=inside, outside=outside)


def build(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> KoNet:
    """The model of a configuration with these weights, as float32 copies."""
    with torch.device("meta"):
        model = KoNet(**config)
    # Copies: the tensors of a file are mapped into memory and would change or vanish with it.
    own = {name: tensor.to(torch.float32, copy=True).contiguous() for name, tensor in state.items()}
    model.load_state_dict(own, strict=True, assign=True)
    return model.eval()


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        what = "it is a folder; give one of its files" if path.is_dir() else "there is no such file"
        raise FileNotFoundError(f"no checkpoint at {path}: {what}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise ValueError(_unpickling_message(path, error)) from error
    except OSError:
        raise
    except Exception as error:  # an unpickler fed other bytes may raise anything
        raise ValueError(f"{path} is not a checkpoint, or a damaged one: {_first_line(error)}") from error
    if not isinstance(content, dict):
        content = {type(content).__name__: None}
    weights = next((content[key] for key in _WEIGHT_KEYS if isinstance(content.get(key), dict)), content)
    tensors = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(
            f"{path} holds no tensors, neither by itself nor under {' or '.join(_WEIGHT_KEYS)}; it holds "
            f"{_listed(map(str, content))}"
        )
    return tensors


def _unpickling_message(path: Path, error: Exception) -> str:
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    if found is None:
        return f"{path} is not a checkpoint, or a damaged one: {_first_line(error)}"
    return (
        f"{path} holds objects of Python beside its tensors ({found[1]}), and reading those runs code of the file; if "
        "you trust who made it, save the tensors alone: python -c \"import torch; torch.save(torch.load('OLD.pt', "
        "map_location='cpu', weights_only=False)['model'], 'NEW.pt')\""
    )


def _first_line(error: Exception) -> str:
    if isinstance(error, LookupError):  # its text is the key alone
        return "neither a zip archive nor a pickle, as torch.save writes them"
    line = next(iter(str(error).splitlines()), type(error).__name__)
    return line.partition(" (Could this")[0]  # torch asks for reports of its own messages


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    rest = f" and {len(names) - _NUM_SHOWN} more" if len(names) > _NUM_SHOWN else ""
    return ", ".join(names[:_NUM_SHOWN]) + rest
