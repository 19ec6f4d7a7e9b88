"""Folders of weights on the Hugging Face hub: where they are put, and what is said when that fails."""

import os
from pathlib import Path
from typing import Any

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
CARD_FILE = "README.md"


def download_folder(hub_id: str) -> Path:
    """Weights and configuration of a hub model, in the hub's cache on this machine.

    Raises:
        FileNotFoundError: If there is no such model, or the hub cannot be reached and the cache does not have it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=[WEIGHTS_FILE, CONFIG_FILE]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(f"no weights {hub_id!r}: not a folder here, and not on the hub ({error})") from error


def check_repo_id(repo_id: str) -> None:
    """Refuse what cannot name a repository of the hub.

    Raises:
        ValueError: If it is not of the form owner/name, of letters, digits, `-`, `_` and `.`.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
        is_valid = repo_id.count("/") == 1
    except HFValidationError:
        is_valid = False
    if not is_valid:
        raise ValueError(
            f"a model on the hub is named owner/name, of letters, digits, '-', '_' and '.', got {repo_id!r}"
        )


def upload_folder(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    private: bool = False,
    overwrite: bool = False,
    token: str | None = None,
    api: Any = None,
) -> str:
    """Put a folder of saved weights on the hub as one commit; the repository is made if it is not there.

    Args:
        folder: Holds `model.safetensors`, `config.json` and the model card `README.md`.
        repo_id: The repository, owner/name.
        private: Make a new repository private; one that is there stays as it is.
        overwrite: Put the weights over those of a repository that has some (its history keeps them).
        token: A token with write access; None takes the one of `hf auth login` or of the variable `HF_TOKEN`.
        api: The hub to talk to, a `huggingface_hub.HfApi`; None is huggingface.co, or `HF_ENDPOINT`.

    Returns:
        The address of the commit.

    Raises:
        FileNotFoundError: If the folder lacks one of the files.
        FileExistsError: If the repository has weights and `overwrite` is not set.
        PermissionError: If there is no token, or it may not write there.
        ValueError: If the name is none, or the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi, errors

    folder = Path(folder)
    missing = [name for name in (WEIGHTS_FILE, CONFIG_FILE, CARD_FILE) if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} holds no {' and no '.join(missing)}; nothing was uploaded")
    check_repo_id(repo_id)
    api = api or HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if not overwrite and api.file_exists(repo_id, WEIGHTS_FILE):
            raise FileExistsError(
                f"{repo_id} has weights on the hub already; set overwrite=true to put these over them, or choose "
                "another name"
            )
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            allow_patterns=[WEIGHTS_FILE, CONFIG_FILE, CARD_FILE],
            commit_message="Weights, configuration and card",
        )
    except errors.HfHubHTTPError as error:
        if error.response is not None and error.response.status_code in (401, 403):
            raise PermissionError(_no_access(repo_id, error)) from error
        raise ValueError(_not_uploaded(repo_id, error)) from error
    except errors.LocalTokenNotFoundError as error:
        raise PermissionError(_no_access(repo_id, error)) from error
    except FileExistsError:
        raise
    except (OSError, getattr(errors, "HTTPError", OSError)) as error:  # unreachable, or offline
        raise ValueError(_not_uploaded(repo_id, error)) from error
    return str(commit.commit_url)


def _no_access(repo_id: str, error: Exception) -> str:
    return (
        f"the hub does not let you write to {repo_id}: log in with `hf auth login`, or set HF_TOKEN to a token with "
        f"write access to it ({_first_line(error)})"
    )


def _not_uploaded(repo_id: str, error: Exception) -> str:
    return f"{repo_id} was not uploaded: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
