"""Save and load a model: `model.safetensors` beside `config.json`, the constructor's arguments."""

import inspect
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from wnv.checkpoints.read import read_weights
from wnv.models.hub import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, download_folder, upload_folder
from wnv.runtime.atomic import atomic_file

Model = TypeVar("Model", bound="PretrainedMixin")

SHIPPED = Path(__file__).parent / "weights"


class PretrainedMixin(nn.Module):
    """`from_pretrained`, `save_pretrained` and `push_to_hub` for a module with a `config` of constructor arguments."""

    config: dict[str, Any]

    @classmethod
    def complete_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Fill in defaults for arguments missing from an older configuration."""
        parameters = inspect.signature(cls).parameters.values()
        return {parameter.name: parameter.default for parameter in parameters} | dict(config)

    @classmethod
    def from_pretrained(cls: type[Model], source: str | os.PathLike) -> Model:
        """Load a model in evaluation mode, on the CPU, in float32.

        Of a training run, the latest complete checkpoint is loaded, with averaged weights (EMA) if the run keeps them.

        Args:
            source: A folder of saved weights; a training run's folder, or one of its `.ckpt` files; the name of weights
                shipped with the package (`shipped_weights()` lists them); or the id of a model on the Hugging Face hub
                (`owner/name`). Local folders take precedence.

        Raises:
            FileNotFoundError: If there are no such weights.
            ValueError: If the weights are damaged or do not match their configuration.
        """
        path = Path(source)
        folder = local_folder(source)
        if path.is_file() or (folder is not None and not _holds_weights(folder) and any(folder.iterdir())):
            return cls.from_weights(*read_weights(path), source=path)
        if folder is None:
            folder = _download(source)
        return cls.from_weights(*_read_folder(folder), source=folder)

    @classmethod
    def from_weights(
        cls: type[Model], config: Mapping[str, Any], weights: Mapping[str, Tensor], *, source: str | os.PathLike
    ) -> Model:
        """Build the model of a configuration with float32 copies of weights, in evaluation mode.

        No weights are initialised: the random generators stay unchanged.

        Args:
            config: Arguments of the constructor.
            weights: The complete state dict.
            source: Where both are from, for messages.

        Raises:
            ValueError: If configuration and weights do not match.
        """
        try:
            with torch.device("meta"):
                model = cls(**config)
        except TypeError as error:
            raise ValueError(f"the configuration in {source} does not fit {cls.__name__}: {error}") from error
        if (mismatch := describe_mismatch(model, weights)) is not None:
            raise ValueError(f"the weights in {source} do not match their configuration: {mismatch}")
        # Copies, because tensors read from a file are mapped into memory and change with it.
        copies = {name: tensor.to(torch.float32, copy=True).contiguous() for name, tensor in weights.items()}
        model.load_state_dict(copies, assign=True)
        return model.eval()

    def save_pretrained(
        self, folder: str | os.PathLike, *, dtype: torch.dtype = torch.float32, overwrite: bool = False
    ) -> Path:
        """Write `model.safetensors` and `config.json`, each atomically.

        Args:
            folder: Created if missing.
            dtype: Type of the stored tensors; loading converts them to float32.
            overwrite: Replace existing weights.

        Raises:
            FileExistsError: If the folder holds weights and `overwrite` is not set.
            ValueError: If a value overflows `dtype`.
        """
        folder = Path(folder)
        if (folder / WEIGHTS_FILE).exists() and not overwrite:
            raise FileExistsError(f"{folder / WEIGHTS_FILE} exists; choose another folder or pass overwrite=True")
        state = self.state_dict()
        tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in state.items()}
        overflowed = [name for name in state if state[name].isfinite().all() > tensors[name].isfinite().all()]
        if overflowed:
            raise ValueError(f"{dtype} cannot hold the values of {', '.join(overflowed[:5])}; choose another dtype")
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            CONFIG_FILE: (json.dumps(self.config, indent=2) + "\n").encode(),
            WEIGHTS_FILE: save(tensors, metadata={"format": "pt"}),
        }
        for name, data in content.items():
            with atomic_file(folder / name, overwrite=overwrite) as file:
                file.write(data)
        return folder

    def push_to_hub(
        self, repo_id: str, *, card: str, dtype: torch.dtype = torch.float32, overwrite: bool = False, **options: Any
    ) -> str:
        """Upload the weights to the Hugging Face hub, for `from_pretrained(repo_id)`.

        Args:
            repo_id: The repository, `owner/name`; created if missing.
            card: The model card in Markdown. `wnv-export hub=` writes one from a run.
            dtype: Type of the stored tensors.
            overwrite: Replace weights that the repository holds.
            **options: `private`, `token` and `api`, see `wnv.models.hub.upload_folder`.

        Returns:
            The URL of the commit.

        Raises:
            FileExistsError: If the repository holds weights and `overwrite` is not set.
            PermissionError: If there is no token with write access.
            ValueError: If `repo_id` is invalid, or the upload fails.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, dtype=dtype)
            (Path(folder) / CARD_FILE).write_text(card)
            return upload_folder(folder, repo_id, overwrite=overwrite, **options)


def describe_mismatch(model: nn.Module, tensors: Mapping[str, Tensor]) -> str | None:
    """Describe how `tensors` mismatch the model's state dict: counts and first names. None if they match."""
    expected = model.state_dict()
    differing = [name for name in expected if name in tensors and expected[name].shape != tensors[name].shape]
    found = {
        "of another shape": [
            f"{n} ({tuple(tensors[n].shape)}, expected {tuple(expected[n].shape)})" for n in differing
        ],
        "missing": [name for name in expected if name not in tensors],
        "unexpected": [name for name in tensors if name not in expected],
    }
    return "; ".join(f"{len(names)} {what}, such as {names[0]}" for what, names in found.items() if names) or None


def shipped_weights() -> list[str]:
    """Names of the weights shipped with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONFIG_FILE}"))


def local_folder(source: str | os.PathLike) -> Path | None:
    """The existing folder `source`, or that of shipped weights of this name; None otherwise."""
    if Path(source).is_dir():
        return Path(source)
    return SHIPPED / str(source) if str(source) in shipped_weights() else None


def _holds_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (CONFIG_FILE, WEIGHTS_FILE))


def _download(source: str | os.PathLike) -> Path:
    if isinstance(source, str) and source.count("/") == 1 and not source.startswith((".", "/")):
        return download_folder(source)
    raise FileNotFoundError(
        f"no weights at {str(source)!r}: neither a file or folder, nor shipped "
        f"({', '.join(shipped_weights()) or 'none'}), nor a hub id of the form owner/name"
    )


def _read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"no weights in {folder}: {' and '.join(missing)} missing; give a folder of saved weights "
            f"({CONFIG_FILE}, {WEIGHTS_FILE}), or of a run (last.ckpt)"
        )
    try:
        return json.loads((folder / CONFIG_FILE).read_text()), load_file(folder / WEIGHTS_FILE)
    except json.JSONDecodeError as error:
        raise ValueError(f"{folder / CONFIG_FILE} is not valid JSON: {error}") from error
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS_FILE} is not a safetensors file, or damaged ({error})") from error
