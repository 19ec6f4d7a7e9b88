"""Weights as a folder: `model.safetensors` beside `config.json`, the constructor's arguments."""

import inspect
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from wnv.scenes.atomic import atomic_file

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
Model = TypeVar("Model", bound="PretrainedMixin")

SHIPPED = Path(__file__).parent / "weights"


class PretrainedMixin:
    """`from_pretrained` and `save_pretrained` for a module with a `config` of constructor arguments."""

    config: dict[str, Any]

    @classmethod
    def complete_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """A configuration with the defaults of what it does not name, as one from before an argument was there."""
        parameters = inspect.signature(cls).parameters.values()
        return {parameter.name: parameter.default for parameter in parameters} | dict(config)

    @classmethod
    def from_pretrained(cls: type[Model], source: str | os.PathLike) -> Model:
        """The model whose weights and configuration lie in `source`, in evaluation mode on the CPU, in float32.

        Args:
            source: A folder, the name of weights shipped with the package (`shipped_weights()` lists them), or the id
                of a model on the Hugging Face hub (`owner/name`).

        Raises:
            FileNotFoundError: If there is no such folder, shipped name or hub model.
            ValueError: If configuration and weights do not fit each other or are not KoNet's.
        """
        folder = _resolve(source)
        try:
            config = json.loads((folder / CONFIG_FILE).read_text())
            model = cls(**config)
        except (json.JSONDecodeError, TypeError) as error:
            raise ValueError(f"{folder / CONFIG_FILE} does not configure a {cls.__name__}: {error}") from error
        try:
            tensors = load_file(folder / WEIGHTS_FILE)
            model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        except (SafetensorError, RuntimeError) as error:
            raise ValueError(
                f"{folder / WEIGHTS_FILE} does not hold the weights of its configuration: {error}"
            ) from error
        return model.eval()

    def save_pretrained(
        self, folder: str | os.PathLike, *, dtype: torch.dtype = torch.float32, overwrite: bool = False
    ) -> Path:
        """Write `model.safetensors` and `config.json`, each whole or not at all.

        Args:
            folder: Where to; made if it is missing.
            dtype: Type to store the tensors in; reading gives float32 again.
            overwrite: Replace weights that are there already.

        Raises:
            FileExistsError: If weights are there and `overwrite` is not set.
        """
        folder = Path(folder)
        if (folder / WEIGHTS_FILE).exists() and not overwrite:
            raise FileExistsError(f"{folder / WEIGHTS_FILE} exists; choose another folder or pass overwrite=True")
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in self.state_dict().items()}
        content = {
            CONFIG_FILE: (json.dumps(self.config, indent=2) + "\n").encode(),
            WEIGHTS_FILE: save(tensors, metadata={"format": "pt"}),
        }
        for name, data in content.items():
            with atomic_file(folder / name, overwrite=overwrite) as file:
                file.write(data)
        return folder


def shipped_weights() -> list[str]:
    """Names of the weights that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONFIG_FILE}"))


def _resolve(source: str | os.PathLike) -> Path:
    folder = Path(source)
    if folder.is_dir():
        missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(f"{folder} holds no {' and no '.join(missing)}; give the folder of saved weights")
        return folder
    if str(source) in shipped_weights():
        return SHIPPED / str(source)
    if isinstance(source, str) and source.count("/") == 1 and not source.startswith((".", "/")):
        return _download(source)
    raise FileNotFoundError(
        f"no weights at {str(source)!r}: neither a folder, nor shipped ({', '.join(shipped_weights()) or 'none'}), "
        "nor a hub id of the form owner/name"
    )


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=[WEIGHTS_FILE, CONFIG_FILE]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(f"no weights {hub_id!r}: not a folder here, and not on the hub ({error})") from error
