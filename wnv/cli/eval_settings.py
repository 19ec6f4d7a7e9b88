"""The settings of `wnv-eval`: paths of data and protocol, and what scores depend on."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue

from wnv.cli.settings import path_setting, plain
from wnv.models.hub import CARD_FILE
from wnv.models.konet import KoNet
from wnv.models.pretrained import local_folder
from wnv.training.run_folder import CONFIG_FILE as RUN_CONFIG

log = logging.getLogger(__name__)

# Loading settings and the training seed: scores do not depend on them.
_LOADING = ("batch_size", "val_batch_size", "num_workers", "cache_frames", "allow_changed_order", "seed")
# Training settings that validation has its own of.
_VALIDATION = {
    "root": "val_root",
    "split": "val_split",
    "sampler": "val_sampler",
    "zoom_range": "val_zoom_range",
    "num_scenes": "num_val_scenes",
}
_SIMILAR = 1.3  # largest ratio of two image sizes that weights hardly notice
_PROTOCOL_PATHS = ("index", "masks")


def with_roots(data: DictConfig) -> DictConfig:
    """Fill in a missing `root` or `val_root` with the other: the training scenes are not used."""
    data = data.copy()
    # iterate keys, because `in` is False for a key without a value
    roots = {name: _optional_path(data, name) for name in ("val_root", "root") if name in list(data.keys())}
    default = next((root for root in roots.values() if root is not None), None)
    for name, root in roots.items():
        data[name] = root or default or data.root  # the last one raises: root has no default
    return data


def with_paths(protocol: DictConfig) -> DictConfig:
    """Expand `~` in the paths of a protocol."""
    protocol = protocol.copy()
    for name in _PROTOCOL_PATHS:
        if name in protocol and protocol[name] is not None:
            protocol[name] = path_setting(protocol, name)
    if "indices" in protocol and protocol.indices is not None:
        protocol.indices = {views: path_setting(protocol.indices, views) for views in plain(protocol, "indices")}
    return protocol


def protocol_settings(protocol: DictConfig) -> dict[str, Any]:
    """The settings of a protocol, and the hash of its indices: the content of a file may change."""
    settings = {str(name): plain(protocol, str(name)) for name in protocol if name != "_target_"}
    digests = [digest[:16] for digest in index_digests(protocol).values()]
    return settings | ({"index_sha256": digests} if digests else {})


def index_digests(protocol: DictConfig) -> dict[str, str]:
    """The index files of a protocol, and the SHA-256 of each."""
    paths = [protocol.get("index"), *(protocol.get("indices") or {}).values()]
    return {path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths if path is not None}


def data_settings(data: DictConfig) -> dict[str, Any]:
    """The settings of the data that scores depend on."""
    return {
        str(name): plain(data, str(name))
        for name in data
        if name not in _LOADING and _VALIDATION.get(str(name), "") not in data
    }


def weights_origin(weights: str) -> dict[str, str]:
    """The absolute path of local weights, by which a report finds their run."""
    return {"weights_path": str(Path(weights).resolve())} if Path(weights).exists() else {}


def warn_of_pose_normalization(model: KoNet, data: DictConfig) -> None:
    """Warn if the data normalise poses differently from the training of the weights."""
    used = data.get("pose_normalization", model.pose_normalization)
    if used != model.pose_normalization:
        log.warning(
            "the weights were trained with pose_normalization=%s but the data use %s; set data.pose_normalization=%s",
            model.pose_normalization,
            used,
            model.pose_normalization,
        )


def warn_of_image_size(weights: str, data: DictConfig) -> None:
    """Warn if the shorter side of the images is far from that of the training of the weights, where it is known."""
    trained, used = trained_image_size(weights), data.get("image_size")
    if trained is None or used is None or max(min(used), min(trained)) <= _SIMILAR * min(min(used), min(trained)):
        return
    size = "[" + ",".join(map(str, trained)) + "]"
    log.warning(
        "the weights were trained on images of %d x %d px (height x width) but the data have %d x %d; they score best "
        "near their own size: set data.image_size=%s, or other proportions with that shorter side",
        *trained,
        *used,
        size,
    )


def trained_image_size(weights: str) -> list[int] | None:
    """Height and width that weights were trained at, from their run or their model card; None if unknown."""
    folder = local_folder(weights) or Path(weights)
    folder = folder.parent if folder.is_file() else folder
    try:
        if (folder / RUN_CONFIG).is_file():
            size = yaml.safe_load((folder / RUN_CONFIG).read_text(encoding="utf-8"))["data"]["image_size"]
        else:
            header = (folder / CARD_FILE).read_text(encoding="utf-8").split("---\n")[1]
            size = yaml.safe_load(header)["image_size"]
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError):
        return None
    return size if isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) for side in size) else None


def _optional_path(data: DictConfig, name: str) -> str | None:
    try:
        return path_setting(data, name)
    except (MissingMandatoryValue, InterpolationToMissingValueError):
        return None
