"""Collect facts for a model card from the folders of a run and of its evaluations."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from wnv.evaluation.summary import SUMMARY_FILE
from wnv.models.model_card import CardScores
from wnv.training.run_folder import CONFIG_FILE, METRICS_FILE, STARTS_FILE, flatten_config, read_lines, read_metrics

# Settings that do not affect the weights.
_HIDDEN = ("num_workers", "cache_frames", "allow_changed_order", "render_device", "_target_")
_RECIPE = ("seed", "init_from", "loss.", "optim.")
_TRAINER = ("max_steps", "max_time", "accumulate_grad_batches", "precision")


def find_run(weights: str) -> Path | None:
    """The run folder of a checkpoint or of weights in a run; None if there is none."""
    path = Path(weights)
    folder = path if path.is_dir() else path.parent
    return folder if path.exists() and (folder / CONFIG_FILE).is_file() else None


def read_run(folder: Path, *, step: int, averaged: bool) -> dict[str, Any]:
    """Read the facts of a run, as arguments of `make_card`.

    Args:
        folder: A run folder of `wnv-train`.
        step: Training steps of the exported checkpoint.
        averaged: Whether the exported weights are an average over steps (EMA).

    Raises:
        ValueError: If `config.yaml` or `starts.jsonl` cannot be read.
    """
    try:
        config: Any = OmegaConf.to_container(OmegaConf.load(folder / CONFIG_FILE))
        starts = read_lines(folder / STARTS_FILE)
    except Exception as error:
        raise ValueError(f"{folder} is not a complete run folder: {' '.join(str(error).split())}") from error
    trainer = config.get("trainer", {})
    recipe = {key: value for key, value in flatten_config(config).items() if key.startswith(_RECIPE)}
    recipe |= {f"trainer.{key}": trainer.get(key) for key in _TRAINER}
    data = flatten_config(config.get("data", {}))
    training: dict[str, Any] = {"steps done": f"{step} of {trainer.get('max_steps')}"}
    if averaged:
        training["weights"] = "averaged over steps"
    titles = {"device": "hardware", "devices": "devices", "version": "wnv", "commit": "commit", "torch": "torch"}
    for key, title in titles.items():
        training[title] = ", ".join(dict.fromkeys(str(start.get(key)) for start in starts)) or "unknown"
    training["started (UTC)"] = [start.get("date", "unknown") for start in starts]
    training["commands"] = [_command(start.get("command", [])) for start in starts]
    return {
        "origin": f"A KoNet (after LVSM, arXiv:2410.17242) trained with `wnv-train` in the run `{config.get('name')}`.",
        "data": {"data": _class_name(data)} | _public(data),
        "training": _public(recipe) | training,
        "scores": _validation_scores(folder / METRICS_FILE, step=step),
        "limits": _limits(data),
    }


def read_scores(folder: str | Path, *, fingerprint: str) -> list[CardScores]:
    """Read the scores of an evaluation, one entry per variant.

    Args:
        folder: An output folder of `wnv-eval`.
        fingerprint: Of the weights that the card describes.

    Raises:
        FileNotFoundError: If there is no finished evaluation.
        ValueError: If it evaluated other weights, or cannot be read.
    """
    file = Path(folder) / SUMMARY_FILE
    if not file.is_file():
        raise FileNotFoundError(f"no finished evaluation in {folder}: it has no {SUMMARY_FILE} of wnv-eval")
    try:
        summary = json.loads(file.read_text())
        evaluated = summary["settings"]["fingerprint"]
        tables = [_scores(summary, variant) for variant in summary.get("variants", [summary])]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is not a summary of wnv-eval: {type(error).__name__} {error}") from error
    if evaluated != fingerprint:
        raise ValueError(
            f"{folder} evaluated weights with fingerprint {evaluated}, the exported ones have {fingerprint}; run "
            "wnv-eval on these weights, or remove the folder from evaluations="
        )
    return tables


def _scores(summary: Mapping[str, Any], variant: Mapping[str, Any]) -> CardScores:
    rows = {
        title: {metric: (entry["mean"], entry["half_width"]) for metric, entry in variant[method].items()}
        for title, method in (("these weights", "model"), ("nearest context image, copied", "copy"))
    }
    data = summary["settings"].get("data", {})
    where = data.get("root") or data.get("val_root") or _class_name(data)
    protocol = summary.get("protocol") or "default"
    title = " ".join(filter(None, ["evaluation" if protocol == "default" else protocol, variant.get("variant", "")]))
    notes = [
        f"{variant['num_scenes']} scenes, {variant['num_views']} target views; better than the copy in "
        f"{variant['num_ahead']} of {variant['num_examples']} examples."
    ]
    if missing := summary.get("missing"):
        notes.append(f"{len(missing)} of the {summary.get('num_listed')} scenes in the index were missing.")
    if variant.get("num_capped"):
        notes.append(f"{variant['num_capped']} views (almost) equal the truth and count as 100 dB.")
    if any("lpips" in row for row in rows.values()):
        notes.append(f"LPIPS backbone: {summary.get('lpips_backbone') or 'unknown'}.")
    environment = summary.get("environment") or summary.get("provenance", {})  # the second is its old name
    device, commit = environment.get("device", "unknown"), environment.get("commit") or "unknown"
    notes.append(f"Measured in float32 on {device}, commit {commit}.")
    return CardScores(title=f"{title} on {_shorten(where)}", rows=rows, notes=notes)


def _validation_scores(file: Path, *, step: int) -> tuple[CardScores, ...]:
    """Scores of the run's last validation up to a step."""
    metrics = {name: dict(points) for name, points in read_metrics(file).items()}
    steps = [number for number in metrics.get("val/psnr", {}) if number < step]
    if not steps:
        return ()
    last = {
        name.removeprefix("val/"): (points[steps[-1]], None) for name, points in metrics.items() if steps[-1] in points
    }
    rows = {"these weights": {name: last[name] for name in ("psnr", "ssim", "lpips") if name in last}}
    if "psnr_copy" in last:
        rows["nearest context image, copied"] = {"psnr": last["psnr_copy"]}
    return (CardScores(title=f"validation during training, after step {steps[-1] + 1}", rows=rows),)


def _limits(data: Mapping[str, Any]) -> list[str]:
    size = data.get("image_size")
    num_context = data.get("num_context", data.get("sampler.num_context"))
    return [
        f"Trained on images of {size[0]} x {size[1]} pixels (height x width) only."
        if size
        else "The image sizes of the training are unknown.",
        f"Trained with {num_context} context images only."
        if num_context is not None
        else "The number of context images in training is unknown.",
    ]


def _public(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that are set and affect the weights, without absolute paths."""
    return {
        key: _shorten(value)
        for key, value in settings.items()
        if value is not None and key.rpartition(".")[2] not in _HIDDEN
    }


def _class_name(config: Mapping[str, Any]) -> str:
    return str(config.get("_target_", "unknown")).rpartition(".")[2]


def _shorten(value: Any) -> Any:
    """Abbreviate absolute paths, which mean nothing on other machines."""
    if not isinstance(value, str) or not value.startswith("/"):
        return value
    return "/".join(["...", *Path(value).parts[-2:]])


def _command(words: list[str]) -> str:
    return " ".join([Path(words[0]).name, *words[1:]]) if words else "unknown"
