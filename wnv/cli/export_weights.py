"""Weights as a folder that others can load: tensors, configuration and a card, and on the Hugging Face hub if asked."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from wnv.checkpoints.read import read_checkpoint
from wnv.checkpoints.sharded import AVERAGE
from wnv.cli.card_facts import find_run, read_run, read_scores
from wnv.cli.settings import check_setting, path_setting, plain, switch
from wnv.evaluation.environment import fingerprint
from wnv.models.hub import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, check_repo_id, upload_folder
from wnv.models.konet import KoNet
from wnv.models.lvsm import convert_lvsm
from wnv.models.model_card import ModelCard, strip_header
from wnv.models.pretrained import local_folder
from wnv.models.prope import convert_prope
from wnv.runtime.atomic import atomic_folder

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FILES = (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE)
_WNV_NOTE = "`wnv` itself is under Apache-2.0, which says nothing of weights and of what went into them."


@dataclass(frozen=True)
class Project:
    """A project whose checkpoints can be converted.

    Attributes:
        convert: The function of `wnv.models` that does it.
        options: Settings that it takes.
        origin: What its weights are and whose, for the card.
        license: The licence that its authors publish weights under, if they do.
        license_note: What else is to be said of that.
        limits: What is known of all its weights.
    """

    convert: Any
    options: tuple[str, ...]
    origin: str
    license: str | None
    license_note: str
    limits: tuple[str, ...]


PROJECTS = {
    "lvsm": Project(
        convert=convert_lvsm,
        options=("num_heads",),
        origin="Decoder-only weights of LVSM (arXiv:2410.17242), renamed by `wnv-export` so that a KoNet draws the "
        "same images. They are the work of LVSM's authors, with whom `wnv` is not affiliated.",
        license="cc-by-nc-sa-4.0",
        license_note="LVSM's authors publish their code and weights under CC BY-NC-SA 4.0: name them, use the weights "
        "for nothing commercial, and pass them on under the same terms. Renaming tensors changes nothing of that.",
        limits=(
            "The file does not tell what it was trained on. LVSM's scene checkpoints were trained on RealEstate10K, "
            "two given images of 256 x 256 or 512 x 512 pixels.",
            "LVSM's own evaluation places the world around the given and the drawn cameras, `wnv` around the given "
            "ones alone: scores differ a little from published ones.",
        ),
    ),
    "prope": Project(
        convert=convert_prope,
        options=("num_heads", "camera_encoding", "ray_code", "pose_normalization"),
        origin="Weights of the view-synthesis code of PRoPE (arXiv:2507.10496), renamed by `wnv-export` so that a "
        "KoNet draws the same images. They are the work of those who trained them.",
        license=None,
        license_note="PRoPE's code is under the MIT licence; of weights, those who publish them decide.",
        limits=(
            "The file does not tell what it was trained on, nor its encodings: those in the table were given to "
            "`wnv-export`.",
        ),
    ),
}
_OPTIONS = tuple(dict.fromkeys(name for project in PROJECTS.values() for name in project.options))


def export_weights(cfg: DictConfig) -> None:
    """Write the weights that `weights=` names as a folder, with a card of what is known of them."""
    _check_settings(cfg)
    weights = path_setting(cfg, "weights")
    if cfg.out is None:
        if not all((Path(weights) / name).is_file() for name in FILES):
            raise ValueError(f"{weights} is no folder of weights with a card, to upload as it is; set out= to make one")
        _upload(cfg, Path(weights))
        return
    model = KoNet.from_pretrained(weights)
    run = find_run(weights)
    _write(cfg, model, _facts_of_copy(weights) if run is None else _facts_of_run(weights, run))


def convert_weights(cfg: DictConfig) -> None:
    """Write the weights of another project's checkpoint as a folder."""
    name = cfg["from"]
    if name not in PROJECTS:
        raise ValueError(f"from must be one of {', '.join(PROJECTS)}, got {name}")
    project = PROJECTS[name]
    if cfg.checkpoint is None:
        raise ValueError(f"checkpoint has no default; set checkpoint= to the file that from={name} is to convert")
    options = {option: cfg[option] for option in _OPTIONS if cfg[option] is not None}
    foreign = [option for option in options if option not in project.options]
    if foreign:
        raise ValueError(f"from={name} has no {foreign[0]}; it has {', '.join(project.options)}")
    check_setting("num_heads", cfg.num_heads, int | None)
    _check_settings(cfg)
    path = Path(path_setting(cfg, "checkpoint"))
    converted = project.convert(path, **options)
    if converted.left_out:
        print(f"left out, since drawing does not need it: {_grouped(converted.left_out)}")
    facts = {
        "origin": f"{project.origin} Made from `{path.name}`, SHA-256 `{_sha256(path)}`.",
        "license": project.license,
        "license_note": project.license_note,
        "limits": project.limits,
    }
    _write(cfg, converted.model, facts)


def _check_settings(cfg: DictConfig) -> None:
    """Everything that can be wrong with what is typed, before anything is read or written."""
    if cfg.out is None and (cfg.hub is None or cfg.weights is None):
        raise ValueError("out has no default; set out=... to the folder to write")
    out = None if cfg.out is None else Path(path_setting(cfg, "out"))
    if out is not None and out.is_dir() and any(out.iterdir()) and not switch(cfg, "overwrite"):
        raise FileExistsError(f"{out} is not empty; set overwrite=true to replace it, or name another folder")
    if cfg.dtype is not None and cfg.dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {cfg.dtype}")
    if cfg.hub is not None:
        check_repo_id(str(cfg.hub))
    switch(cfg, "private")
    check_setting("license", cfg.license, str | None)
    for name in ("datasets", "evaluations"):
        if cfg[name] is not None and not (isinstance(plain(cfg, name), list) and plain(cfg, name)):
            raise ValueError(f"{name} must be a list, as {name}=[one,other], got {cfg[name]}")


def _facts_of_run(weights: str, run: Path) -> dict[str, Any]:
    checkpoint = read_checkpoint(weights)
    facts = read_run(run, step=checkpoint["global_step"], averaged=AVERAGE in checkpoint)
    return {
        "origin": f"A KoNet (after LVSM, arXiv:2410.17242) that `wnv-train` trained in the run `{facts.name}`.",
        "data": facts.data,
        "recipe": facts.recipe,
        "training": facts.training,
        "scores": facts.scores,
        "limits": facts.limits,
    }


def _facts_of_copy(weights: str) -> dict[str, Any]:
    """What the card beside the weights says, if there is one."""
    folder = local_folder(weights) or Path(weights)
    header, card = strip_header((folder / CARD_FILE).read_text()) if (folder / CARD_FILE).is_file() else ({}, "")
    license = header.get("license")
    name = folder.name if folder.is_dir() else weights
    return {
        "origin": f"A copy of the weights `{name}`" + (", whose own card stands below." if card else "."),
        "license": None if license == "unknown" else license,
        "license_note": f"As the card of `{name}` has it." if license else "",
        "earlier_card": card,
    }


def _write(cfg: DictConfig, model: KoNet, facts: dict[str, Any]) -> None:
    dtype = str(cfg.dtype or "fp32")
    out = Path(path_setting(cfg, "out"))
    given = plain(cfg, "evaluations") or []
    scores = [table for folder in given for table in read_scores(str(folder), fingerprint=fingerprint(model))]
    if cfg.license is not None:
        facts |= {"license": cfg.license, "license_note": facts.get("license_note", "") if facts.get("license") else ""}
    facts["license_note"] = " ".join(filter(None, [facts.get("license_note"), _WNV_NOTE]))
    card = ModelCard(
        **facts | {"scores": (*scores, *facts.get("scores", ()))},
        name=str(cfg.hub or out.absolute().name).rpartition("/")[2],
        source=str(cfg.hub or out),
        config=model.config,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        dtype=str(DTYPES[dtype]).removeprefix("torch."),
        datasets=[str(dataset) for dataset in plain(cfg, "datasets") or []],
    )
    with atomic_folder(out, entries=FILES, overwrite=switch(cfg, "overwrite")) as folder:
        model.save_pretrained(folder, dtype=DTYPES[dtype])
        (folder / CARD_FILE).write_text(card.text())
    size = (out / WEIGHTS_FILE).stat().st_size
    print(f"{out}: {', '.join(FILES)}; {card.num_parameters:,} parameters in {dtype}, {size / 1e6:.1f} MB")
    if not card.license:
        print(f"the card says that the licence is unknown: set license=apache-2.0, cc-by-4.0, ... or edit {CARD_FILE}")
    if cfg.hub is not None:
        _upload(cfg, out)


def _upload(cfg: DictConfig, folder: Path) -> None:
    private, overwrite = switch(cfg, "private"), switch(cfg, "overwrite")
    try:
        print(upload_folder(folder, str(cfg.hub), private=private, overwrite=overwrite))
    except (ValueError, PermissionError, FileExistsError) as error:
        if cfg.out is None:
            raise
        again = f"wnv-export weights={folder} hub={cfg.hub}"
        raise type(error)(f"{error}. The folder {folder} is whole; upload it by itself with: {again}") from error


def _grouped(names: Sequence[str]) -> str:
    """How many tensors there are of each module, by the first part of their names."""
    counts = Counter(name.split(".")[0] for name in names)
    return ", ".join(f"{module} ({count} tensor{'s' * (count > 1)})" for module, count in counts.items())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
