"""What the folders of a run and of its evaluations tell for a model card."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from wnv.evaluation.summary import SUMMARY_FILE
from wnv.models.model_card import CardScores
from wnv.training.run_folder import CONFIG_FILE, METRICS_FILE, STARTS_FILE, flatten_config, read_lines, read_metrics

# How samples are loaded and where results went: nothing that the weights depend on.
_NOT_TOLD = ("num_workers", "cache_frames", "allow_changed_order", "render_device", "_target_")
_RECIPE = ("seed", "init_from", "loss.", "optim.")
_TRAINER = ("max_steps", "max_time", "accumulate_grad_batches", "precision")


@dataclass(frozen=True)
class RunFacts:
    """What is known of the training of a set of weights, as `ModelCard` takes it.

    Attributes:
        name: The run's name.
        data: Settings of the data.
        recipe: Settings of the training.
        training: Steps, versions, hardware and commands of each start.
        scores: Scores of the validation in the run.
        limits: What the training did not cover.
    """

    name: str
    data: Mapping[str, Any]
    recipe: Mapping[str, Any]
    training: Mapping[str, Any]
    scores: tuple[CardScores, ...] = ()
    limits: tuple[str, ...] = field(default=())


def find_run(weights: str) -> Path | None:
    """The folder of the run that a folder or a checkpoint belongs to; None if it is not of a run."""
    path = Path(weights)
    folder = path if path.is_dir() else path.parent
    return folder if path.exists() and (folder / CONFIG_FILE).is_file() else None


def read_run(folder: Path, *, step: int, averaged: bool) -> RunFacts:
    """The facts of a run's folder.

    Args:
        folder: As `wnv-train` writes it.
        step: Steps that the exported checkpoint has done.
        averaged: Whether it is the average over steps that is exported.

    Raises:
        ValueError: If `config.yaml` or `starts.jsonl` cannot be read.
    """
    try:
        config = OmegaConf.to_container(OmegaConf.load(folder / CONFIG_FILE))
        starts = read_lines(folder / STARTS_FILE)
    except Exception as error:
        raise ValueError(f"{folder} is not a whole run's folder: {' '.join(str(error).split())}") from error
    recipe = {key: value for key, value in flatten_config(config).items() if key.startswith(_RECIPE)}
    recipe |= {f"trainer.{key}": config.get("trainer", {}).get(key) for key in _TRAINER}
    data = flatten_config(config.get("data", {}))
    module = {"data": str(data.get("_target_", "unknown")).rpartition(".")[2]}
    training = {"steps done": f"{step} of {config.get('trainer', {}).get('max_steps')}"}
    if averaged:
        training["weights"] = "averaged over the steps"
    for key, title in (("device", "hardware"), ("version", "wnv"), ("commit", "commit"), ("torch", "torch")):
        found = list(dict.fromkeys(str(start.get(key)) for start in starts))
        training[title] = ", ".join(found) or "unknown"
    training["devices"] = ", ".join(dict.fromkeys(str(start.get("devices")) for start in starts)) or "unknown"
    training["begun (UTC)"] = [start.get("date", "unknown") for start in starts]
    training["commands"] = [_command(start.get("command", [])) for start in starts]
    return RunFacts(
        name=str(config.get("name")),
        data=module | _told(data),
        recipe=_told(recipe),
        training=training,
        scores=_validation(folder / METRICS_FILE, step=step),
        limits=_limits(data),
    )


def read_scores(folder: str | Path, *, fingerprint: str) -> list[CardScores]:
    """The scores of an evaluation's folder, one entry a variant.

    Args:
        folder: As `wnv-eval` writes it.
        fingerprint: Of the weights that the card is about.

    Raises:
        FileNotFoundError: If there is no evaluation, or it is not finished.
        ValueError: If it scored other weights, or cannot be read.
    """
    file = Path(folder) / SUMMARY_FILE
    if not file.is_file():
        raise FileNotFoundError(
            f"no finished evaluation in {folder}: it holds no {SUMMARY_FILE}; make it with wnv-eval"
        )
    try:
        summary = json.loads(file.read_text())
        scored = summary["settings"]["fingerprint"]
        variants = summary.get("variants", [summary])
        tables = [_scores(summary, variant) for variant in variants]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file} is not the summary of an evaluation of weights: {type(error).__name__} {error}"
        ) from error
    if scored != fingerprint:
        raise ValueError(
            f"{folder} scored other weights (fingerprint {scored}, these have {fingerprint}); evaluate these with "
            "wnv-eval, or leave it out of evaluations="
        )
    return tables


def _scores(summary: Mapping[str, Any], variant: Mapping[str, Any]) -> CardScores:
    rows = {
        title: {metric: (entry["mean"], entry["half_width"]) for metric, entry in variant[who].items()}
        for title, who in (("these weights", "model"), ("nearest given image, copied", "copy"))
    }
    data = summary["settings"].get("data", {})
    where = data.get("root") or data.get("val_root") or str(data.get("_target_", "")).rpartition(".")[2]
    protocol = summary.get("protocol") or "default"
    title = " ".join(filter(None, ["evaluation" if protocol == "default" else protocol, variant.get("variant", "")]))
    notes = [
        f"{variant['num_scenes']} scenes, {variant['num_views']} drawn views; ahead of the copy in "
        f"{variant['num_ahead']} of {variant['num_examples']} examples."
    ]
    listed, missing = summary.get("num_listed"), summary.get("missing") or []
    if missing:
        notes.append(f"Of the {listed} scenes that the index lists, {len(missing)} were missing.")
    if variant.get("num_capped"):
        notes.append(f"{variant['num_capped']} views were equal to the truth or nearly so, counted as 100 dB.")
    if any("lpips" in row for row in rows.values()):
        notes.append(f"LPIPS with the backbone {summary.get('lpips_backbone') or 'unknown'}.")
    made = summary.get("environment") or summary.get("provenance", {})
    notes.append(f"Measured in float32 on {made.get('device', 'unknown')}, commit {made.get('commit') or 'unknown'}.")
    return CardScores(title=f"{title} on {_shorten(where)}", rows=rows, notes=notes)


def _validation(file: Path, *, step: int) -> tuple[CardScores, ...]:
    """The last validation up to a step, as scores of the run."""
    rows = {name: dict(points) for name, points in read_metrics(file).items()}
    steps = [number for number in rows.get("val/psnr", {}) if number < step]
    if not steps:
        return ()
    last = steps[-1]
    found = {name: rows.get(f"val/{name}", {}).get(last) for name in ("psnr", "ssim", "lpips", "psnr_copy")}
    copied = found.pop("psnr_copy")
    model = {name: (value, None) for name, value in found.items() if value is not None}
    table = {"these weights": model}
    if copied is not None:
        table["nearest given image, copied"] = {"psnr": (copied, None)}
    return (CardScores(title=f"validation in the run, after step {last + 1}", rows=table),)


def _limits(data: Mapping[str, Any]) -> tuple[str, ...]:
    size = data.get("image_size")
    limits = [
        f"Trained on images of {size[0]} x {size[1]} pixels (height x width); other sizes were not tried in training."
        if size
        else "On which image sizes it was trained is unknown."
    ]
    num_context = data.get("num_context", data.get("sampler.num_context"))
    limits.append(
        f"Trained with {num_context} given images; with more or fewer it was not tried in training."
        if num_context is not None
        else "With how many given images it was trained is unknown."
    )
    return tuple(limits)


def _told(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a card says of settings: no paths of this machine, nothing unset, nothing that changes no weight."""
    return {
        key: _shorten(value)
        for key, value in settings.items()
        if value is not None and key.rpartition(".")[2] not in _NOT_TOLD
    }


def _shorten(value: Any) -> Any:
    """An absolute path by its end: the card is for others, on other machines."""
    if not isinstance(value, str) or not value.startswith("/"):
        return value
    return "/".join(["...", *Path(value).parts[-2:]])


def _command(words: list[str]) -> str:
    return " ".join([Path(words[0]).name, *words[1:]]) if words else "unknown"
