"""Export weights as a folder with a model card, and optionally upload it to the Hugging Face hub."""

import hashlib
import inspect
from collections import Counter
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
from wnv.models.model_card import make_card
from wnv.models.pretrained import local_folder
from wnv.models.prope import convert_prope
from wnv.runtime.atomic import atomic_folder

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FILES = (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE)
_WNV_NOTE = "The Apache-2.0 licence of `wnv` does not cover weights or their training data."

# Project -> its converter, and what the card states about its weights.
PROJECTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "lvsm": (
        convert_lvsm,
        {
            "origin": "Decoder-only weights of LVSM (arXiv:2410.17242), converted by `wnv-export` to a KoNet that "
            "renders the same images. They are the work of LVSM's authors, with whom `wnv` is not affiliated.",
            "license": "cc-by-nc-sa-4.0",
            "license_note": "LVSM's authors publish code and weights under CC BY-NC-SA 4.0: give credit, no commercial "
            "use, share under the same terms. The conversion does not change these terms.",
            "limits": (
                "The file does not record its training data. LVSM's scene checkpoints were trained on RealEstate10K "
                "with two context images of 256 x 256 or 512 x 512 pixels.",
                "LVSM's own evaluation normalises the world by context and target cameras, `wnv` by the context "
                "cameras alone: scores differ slightly from published ones.",
            ),
        },
    ),
    "prope": (
        convert_prope,
        {
            "origin": "Weights of the view-synthesis code of PRoPE (arXiv:2507.10496), converted by `wnv-export` to a "
            "KoNet that renders the same images. They are the work of those who trained them.",
            "license_note": "PRoPE's code is under the MIT licence; the publisher of weights chooses theirs.",
            "limits": (
                "The file records neither training data nor encodings: the encodings above were given to `wnv-export`.",
            ),
        },
    ),
}


def export_weights(cfg: DictConfig) -> None:
    """Write the weights of `weights=` as a folder with a model card."""
    _check_settings(cfg)
    weights = path_setting(cfg, "weights")
    if cfg.out is None:
        if not all((Path(weights) / name).is_file() for name in FILES):
            raise ValueError(f"without out=, weights must be a folder with {', '.join(FILES)} to upload, got {weights}")
        _upload(cfg, Path(weights))
        return
    model = KoNet.from_pretrained(weights)
    run = find_run(weights)
    _write(cfg, model, _facts_of_copy(weights) if run is None else _facts_of_run(weights, run))


def convert_weights(cfg: DictConfig) -> None:
    """Convert another project's checkpoint and write it as a folder with a model card."""
    name = cfg["from"]
    if name not in PROJECTS:
        raise ValueError(f"from must be one of {', '.join(PROJECTS)}, got {name}")
    convert, facts = PROJECTS[name]
    if cfg.checkpoint is None:
        raise ValueError(f"checkpoint has no default; set checkpoint= to the file to convert with from={name}")
    accepted, options = _options(convert), {}
    for option in dict.fromkeys(option for function, _ in PROJECTS.values() for option in _options(function)):
        if cfg[option] is not None:
            options[option] = cfg[option]
            if option not in accepted:
                raise ValueError(f"{option} does not apply to from={name}, only {', '.join(accepted)}")
    check_setting("num_heads", cfg.num_heads, int | None)
    _check_settings(cfg)
    path = Path(path_setting(cfg, "checkpoint"))
    converted = convert(path, **options)
    if converted.left_out:
        modules = Counter(tensor.split(".")[0] for tensor in converted.left_out)
        print("left out, not needed for rendering:", ", ".join(f"{m} ({n} tensors)" for m, n in modules.items()))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    origin = f"{facts['origin']} Converted from `{path.name}`, SHA-256 `{digest}`."
    _write(cfg, converted.model, facts | {"origin": origin})


def _options(convert: Any) -> list[str]:
    return [name for name in inspect.signature(convert).parameters if name != "path"]


def _check_settings(cfg: DictConfig) -> None:
    """Check all settings before anything is read or written."""
    if cfg.out is None and (cfg.hub is None or cfg.weights is None):
        raise ValueError("out has no default; set out=... to the folder to write")
    out = None if cfg.out is None else Path(path_setting(cfg, "out"))
    if out is not None and out.is_dir() and any(out.iterdir()) and not switch(cfg, "overwrite"):
        raise FileExistsError(f"{out} is not empty; set overwrite=true to replace it, or choose another folder")
    if cfg.dtype is not None and cfg.dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {cfg.dtype}")
    if cfg.hub is not None:
        check_repo_id(str(cfg.hub))
    switch(cfg, "private")
    check_setting("license", cfg.license, str | None)
    for name in ("datasets", "evaluations"):
        if cfg[name] is not None and not (isinstance(plain(cfg, name), list) and plain(cfg, name)):
            raise ValueError(f"{name} must be a list such as {name}=[one,other], got {cfg[name]}")


def _facts_of_run(weights: str, run: Path) -> dict[str, Any]:
    checkpoint = read_checkpoint(weights)
    return read_run(run, step=checkpoint["global_step"], averaged=AVERAGE in checkpoint)


def _facts_of_copy(weights: str) -> dict[str, Any]:
    """Facts from the card beside the weights, if there is one."""
    from huggingface_hub import ModelCard

    folder = local_folder(weights) or Path(weights)
    name = folder.name if folder.is_dir() else weights
    if not (folder / CARD_FILE).is_file():
        return {"origin": f"A copy of the weights `{name}`."}
    card = ModelCard((folder / CARD_FILE).read_text())
    license = card.data.to_dict().get("license")
    license = None if license == "unknown" else license
    return {
        "origin": f"A copy of the weights `{name}`, whose card is included below.",
        "license": license,
        "license_note": f"As stated in the card of `{name}`." if license else "",
        "earlier_card": card.text.strip(),
    }


def _write(cfg: DictConfig, model: KoNet, facts: dict[str, Any]) -> None:
    dtype = str(cfg.dtype or "fp32")
    out = Path(path_setting(cfg, "out"))
    evaluations = plain(cfg, "evaluations") or []
    scores = [table for folder in evaluations for table in read_scores(str(folder), fingerprint=fingerprint(model))]
    if cfg.license is not None and not facts.get("license"):
        facts["license_note"] = ""
    license = cfg.license or facts.get("license")
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    card = make_card(
        **facts
        | {
            "scores": (*scores, *facts.get("scores", ())),
            "license": license,
            "license_note": " ".join(filter(None, [facts.get("license_note"), _WNV_NOTE])),
        },
        name=str(cfg.hub or out.absolute().name).rpartition("/")[2],
        source=str(cfg.hub or out),
        config=model.config,
        num_parameters=num_parameters,
        dtype=str(DTYPES[dtype]).removeprefix("torch."),
        datasets=[str(dataset) for dataset in plain(cfg, "datasets") or []],
    )
    with atomic_folder(out, entries=FILES, overwrite=switch(cfg, "overwrite")) as folder:
        model.save_pretrained(folder, dtype=DTYPES[dtype])
        (folder / CARD_FILE).write_text(str(card))
    size = (out / WEIGHTS_FILE).stat().st_size
    print(f"{out}: {', '.join(FILES)}; {num_parameters:,} parameters in {dtype}, {size / 1e6:.1f} MB")
    if not license:
        print(f"the card states an unknown licence: set license=apache-2.0, cc-by-4.0, ... or edit {CARD_FILE}")
    if cfg.hub is not None:
        _upload(cfg, out)


def _upload(cfg: DictConfig, folder: Path) -> None:
    private, overwrite = switch(cfg, "private"), switch(cfg, "overwrite")
    try:
        print(upload_folder(folder, str(cfg.hub), private=private, overwrite=overwrite))
    except (ValueError, PermissionError, FileExistsError) as error:
        if cfg.out is None:
            raise
        retry = f"wnv-export weights={folder} hub={cfg.hub}"
        raise type(error)(f"{error}. The folder {folder} is complete; upload it with: {retry}") from error
