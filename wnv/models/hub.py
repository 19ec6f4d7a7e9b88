"""Download and upload folders of weights on the Hugging Face hub."""

import os
from pathlib import Path
from typing import Any

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
CARD_FILE = "README.md"


def download_folder(hub_id: str) -> Path:
    """Download weights and configuration of a hub model to the hub's local cache.

    Raises:
        FileNotFoundError: If there is no such model, or it is neither cached nor reachable.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=[WEIGHTS_FILE, CONFIG_FILE]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(f"no weights {hub_id!r}: neither a local folder nor on the hub ({error})") from error


def check_repo_id(repo_id: str) -> None:
    """Check that a string can name a repository of the hub.

    Raises:
        ValueError: If it is not `owner/name` of letters, digits, `-`, `_` and `.`.
    """
    from huggingface_hub.utils import validate_repo_id

    if repo_id.count("/") != 1:
        raise ValueError(f"a hub id must be owner/name, got {repo_id!r}")
    validate_repo_id(repo_id)


def upload_folder(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    private: bool = False,
    overwrite: bool = False,
    token: str | None = None,
    api: Any = None,
) -> str:
    """Upload a folder of saved weights as one commit; the repository is created if missing.

    Args:
        folder: Holds `model.safetensors`, `config.json` and the model card `README.md`.
        repo_id: The repository, `owner/name`.
        private: Make a new repository private. An existing one is unchanged.
        overwrite: Replace weights that the repository holds (its history keeps them).
        token: A token with write access; None uses that of `hf auth login` or the variable `HF_TOKEN`.
        api: A `huggingface_hub.HfApi`; None uses huggingface.co, or `HF_ENDPOINT`.

    Returns:
        The URL of the commit.

    Raises:
        FileNotFoundError: If a file is missing.
        FileExistsError: If the repository holds weights and `overwrite` is not set.
        PermissionError: If there is no token with write access.
        ValueError: If `repo_id` is invalid, or the upload fails.
    """
    from huggingface_hub import HfApi, errors

    files = (WEIGHTS_FILE, CONFIG_FILE, CARD_FILE)
    missing = [name for name in files if not (Path(folder) / name).is_file()]
    if missing:
        raise FileNotFoundError(f"nothing was uploaded: {folder} has no {', '.join(missing)}")
    check_repo_id(repo_id)
    api = api or HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        has_weights = api.file_exists(repo_id, WEIGHTS_FILE)
        if overwrite or not has_weights:
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                allow_patterns=list(files),
                commit_message="Weights, configuration and card",
            )
            return str(commit.commit_url)
    except Exception as error:  # the hub's, the HTTP library's and the operating system's errors
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        if status in (401, 403) or isinstance(error, errors.LocalTokenNotFoundError):
            raise PermissionError(
                f"no write access to {repo_id}: log in with `hf auth login`, or set HF_TOKEN to a token with write "
                f"access ({reason})"
            ) from error
        raise ValueError(f"{repo_id} was not uploaded: {reason}") from error
    raise FileExistsError(
        f"{repo_id} already holds weights; set overwrite=true to replace them, or choose another name"
    )
