"""Model cards: architecture, training data, recipe, scores, limits and licence of a set of weights."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

_TEMPLATE = Path(__file__).with_name("model_card.md.j2")
_METRICS = {"psnr": ("PSNR, dB", 2), "ssim": ("SSIM", 4), "lpips": ("LPIPS", 4)}


@dataclass(frozen=True, kw_only=True)
class CardScores:
    """One evaluation, or one variant of it.

    Attributes:
        title: Protocol, variant and data.
        rows: Method -> metric -> mean, and half the width of its 95 % confidence interval (None if unknown).
        notes: Sentences about the scores.
    """

    title: str
    rows: Mapping[str, Mapping[str, tuple[float, float | None]]]
    notes: Sequence[str] = ()


def make_card(
    *,
    name: str,
    source: str,
    origin: str,
    config: Mapping[str, Any],
    num_parameters: int,
    dtype: str,
    license: str | None = None,
    license_note: str = "",
    datasets: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    scores: Sequence[CardScores] = (),
    limits: Sequence[str] = (),
    earlier_card: str = "",
) -> "ModelCard":
    """Fill in the model card. Missing facts are stated as unknown.

    Args:
        name: Name of the weights.
        source: Argument of `KoNet.from_pretrained`: a folder or a hub id.
        origin: Where the weights come from, in sentences.
        config: Constructor arguments of the model.
        num_parameters: Number of trained parameters.
        dtype: Stored precision.
        license: Licence identifier of the hub (`apache-2.0`, `cc-by-nc-sa-4.0`, ...), or None.
        license_note: Further sentences about the licence.
        datasets: Hub ids of the training data.
        data: Settings of the training data.
        training: Recipe, steps, hardware, versions and commands.
        scores: Evaluations.
        limits: Known limits besides those that follow from `config`, one sentence each.
        earlier_card: Text of the card of the weights that these are a copy of.
    """
    from huggingface_hub import ModelCard, ModelCardData

    header = ModelCardData(
        library_name="wnv",
        license=license or "unknown",
        pipeline_tag="image-to-image",
        tags=["novel-view-synthesis", "multi-view", "konet"],
        datasets=list(datasets) or None,
        image_size=(data or {}).get("image_size"),
    )
    cameras = ("camera_encoding", "patch_encoding", "ray_code", "attention", "pose_normalization")
    facts = {
        "task": "renders a scene from new cameras, given a few posed images",
        "parameters": f"{num_parameters:,}, stored in {dtype}",
        "network": f"{config['num_layers']} layers, dim {config['dim']}, {config['num_heads']} heads, mlp "
        f"{config['mlp_dim']}, patch {config['patch_size']} px",
        "cameras": ", ".join(f"`{key}={config[key]}`" for key in cameras),
        "time": "one per view" if config["time_code"] else "none: static scenes",
    }
    return ModelCard.from_template(
        header,
        template_path=str(_TEMPLATE),
        name=name,
        source=source,
        origin=origin,
        facts=facts,
        data=data or {},
        training=training or {},
        scores=scores,
        limits=[*limits, *_limits_of_config(config)],
        license_note=license_note,
        earlier_card=_nest(earlier_card),
        unknown="See the card of the original weights below." if earlier_card else "Unknown.",
        table=_table,
        score_table=_score_table,
    )


def _limits_of_config(config: Mapping[str, Any]) -> list[str]:
    limits = [f"Height and width of images must be multiples of {config['patch_size']} pixels."]
    if config["ray_size"] is not None:
        height, width = config["ray_size"]
        limits.append(f"Images must be {height} x {width} pixels (height x width).")
    if not config["time_code"]:
        limits.append("The model has no notion of time: moving objects are blurred or doubled.")
    if config["attention"] == "joint":
        limits.append("Attention is joint: the context is encoded again for every rendered view.")
    return limits


def _table(rows: Mapping[str, Any]) -> str:
    lines = [f"| {key} | {_cell(value)} |" for key, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines]) if lines else ""


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple) and all(isinstance(entry, str) for entry in value):
        value = "<br>".join(value)
    text = value if isinstance(value, str) else json.dumps(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _score_table(scores: CardScores) -> str:
    metrics = list(dict.fromkeys(metric for row in scores.rows.values() for metric in row))
    titles, decimals = zip(*(_METRICS.get(metric, (metric, 4)) for metric in metrics), strict=True)
    lines = [f"| | {' | '.join(titles)} |", f"|---|{'---|' * len(metrics)}"]
    for method, row in scores.rows.items():
        cells = [_score(row.get(metric), places) for metric, places in zip(metrics, decimals, strict=True)]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _score(score: tuple[float, float | None] | None, decimals: int) -> str:
    if score is None:
        return ""
    mean, half_width = score
    return f"{mean:.{decimals}f}" + ("" if half_width is None else f" ± {half_width:.{decimals}f}")


def _nest(card: str) -> str:
    """Lower a card's headings by two levels and remove images, whose files are not copied."""
    lines = [line for line in card.splitlines() if not line.lstrip().startswith("![")]
    return "\n".join(f"##{line}" if line.startswith("#") else line for line in lines)
