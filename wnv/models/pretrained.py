"""Weights as a folder: `model.safetensors` beside `config.json`, the constructor's arguments."""

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

from wnv.models.hub import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, download_folder, upload_folder
from wnv.runtime.atomic import atomic_file

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
        path = folder / WEIGHTS_FILE
        try:
            tensors = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is no safetensors file, or a damaged one ({error}); copy it again") from error
        if (misfit := describe_misfit(model, tensors)) is not None:
            raise ValueError(
                f"{path} does not hold the weights of its configuration: {misfit}; take both files from one save"
            )
        model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
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
            ValueError: If a value is too large for the type.
        """
        folder = Path(folder)
        if (folder / WEIGHTS_FILE).exists() and not overwrite:
            raise FileExistsError(f"{folder / WEIGHTS_FILE} exists; choose another folder or pass overwrite=True")
        tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in self.state_dict().items()}
        spoiled = [
            name
            for name, tensor in self.state_dict().items()
            if tensor.isfinite().all() > tensors[name].isfinite().all()
        ]
        if spoiled:
            raise ValueError(f"{dtype} cannot hold the values of {', '.join(spoiled[:5])}; choose another type")
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
        self,
        repo_id: str,
        *,
        card: str,
        dtype: torch.dtype = torch.float32,
        private: bool = False,
        overwrite: bool = False,
        token: str | None = None,
        api: Any = None,
    ) -> str:
        """Put the weights on the Hugging Face hub, from where `from_pretrained(repo_id)` takes them.

        Args:
            repo_id: The repository, owner/name; made if it is not there.
            card: The model card, see `wnv.models.model_card`; `wnv-export hub=` writes it from a run.
            dtype: Type to store the tensors in.
            private: Make a new repository private.
            overwrite: Put the weights over those of a repository that has some.
            token: A token with write access; None takes the one of `hf auth login` or of the variable `HF_TOKEN`.
            api: The hub to talk to, a `huggingface_hub.HfApi`; None is huggingface.co, or `HF_ENDPOINT`.

        Returns:
            The address of the commit.

        Raises:
            FileExistsError: If the repository has weights and `overwrite` is not set.
            PermissionError: If there is no token, or it may not write there.
            ValueError: If the name is none, or the hub cannot be reached or refuses.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, dtype=dtype)
            (Path(folder) / CARD_FILE).write_text(card)
            return upload_folder(folder, repo_id, private=private, overwrite=overwrite, token=token, api=api)


def describe_misfit(model: nn.Module, tensors: Mapping[str, Tensor]) -> str | None:
    """What keeps tensors from being the weights of a model: names and shapes, the first and how many; None if nothing.

    Args:
        model: The model.
        tensors: Its weights by their names, or what was taken for them.
    """
    wanted = model.state_dict()
    other = [name for name in wanted if name in tensors and wanted[name].shape != tensors[name].shape]
    found = {
        "of another size": [f"{n} ({_size(tensors[n])}, the model has {_size(wanted[n])})" for n in other],
        "missing": [name for name in wanted if name not in tensors],
        "unknown": [name for name in tensors if name not in wanted],
    }
    return "; ".join(f"{len(names)} {how}, such as {names[0]}" for how, names in found.items() if names) or None


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"


def shipped_weights() -> list[str]:
    """Names of the weights that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONFIG_FILE}"))


def folder_here(source: str | os.PathLike) -> Path | None:
    """The folder on this machine that a name of weights means, a folder before shipped weights of that name.

    None for a hub id, and for what is not there.
    """
    folder = Path(source)
    if folder.is_dir():
        return folder
    return SHIPPED / str(source) if str(source) in shipped_weights() else None


def _resolve(source: str | os.PathLike) -> Path:
    folder = folder_here(source)
    if folder is not None:
        missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(f"{folder} holds no {' and no '.join(missing)}; give the folder of saved weights")
        return folder
    if isinstance(source, str) and source.count("/") == 1 and not source.startswith((".", "/")):
        return download_folder(source)
    raise FileNotFoundError(
        f"no weights at {str(source)!r}: neither a folder, nor shipped ({', '.join(shipped_weights()) or 'none'}), "
        "nor a hub id of the form owner/name"
    )
