"""Records of many examples as a few numbers, with how sure they are."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from wnv.evaluation.records import SceneRecord
from wnv.runtime.atomic import atomic_file

SUMMARY_FILE = "summary.json"
INTERVAL_METHOD = "95 %, Student's t over examples: mean +- t standard errors"
_NORMAL_95 = 1.959964  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Mean:
    """A mean over examples.

    Attributes:
        mean: The mean of the scores, one an example.
        half_width: Half the width of the 95 % confidence interval of the mean; None for a single example.
    """

    mean: float
    half_width: float | None

    def text(self, decimals: int, *, sign: bool = False) -> str:
        """The mean with its interval, for a table."""
        shown = f"{self.mean:+.{decimals}f}" if sign else f"{self.mean:.{decimals}f}"
        return shown if self.half_width is None else f"{shown} ± {self.half_width:.{decimals}f}"


@dataclass(frozen=True)
class Listing:
    """What a protocol wanted to evaluate, and what of it could not be.

    Attributes:
        num_listed: Scenes that the index lists, those without frames included; without an index, all scenes.
        num_null: Scenes for which there is no choice of frames: `null` in the index, or too short to be sampled.
        missing: Scenes that the index lists with frames, and that the data do not have.
    """

    num_listed: int
    num_null: int = 0
    missing: Sequence[str] = ()


@dataclass(frozen=True)
class VariantSummary:
    """One variant of a protocol in numbers.

    Attributes:
        variant: Its name, as `zoom=3`; empty where the protocol has only one.
        num_examples: Examples (one context with its targets) that were scored; the scores are means over them.
        num_scenes: Different scenes among them.
        num_views: Target views that were drawn.
        num_listed: Scenes that were to be evaluated, see `Listing`.
        num_null: Scenes of these without a choice of frames.
        missing: Scenes of these that the data do not have.
        model: Metric -> the model's score.
        copy: Metric -> the score of the nearest context view copied.
        difference: Metric -> model minus copy, paired by example, which is surer than either.
        change: Metric -> the model's score minus its score under the reference variant, paired by example; None for
            the reference itself and in protocols without one.
        num_ahead: Examples whose PSNR is higher than the copy's.
        num_capped: Views counted as the cap of the PSNR (100 dB) because they were equal to the truth or nearly so.
        encode_ms: Median milliseconds to encode a scene.
        render_ms: Median milliseconds to draw a view from an encoded scene.
        views_per_s: Views that one process draws in a second of drawing.
    """

    variant: str
    num_examples: int
    num_scenes: int
    num_views: int
    num_listed: int
    num_null: int
    missing: Sequence[str]
    model: Mapping[str, Mean]
    copy: Mapping[str, Mean]
    difference: Mapping[str, Mean]
    change: Mapping[str, Mean] | None
    num_ahead: int
    num_capped: int
    encode_ms: float
    render_ms: float
    views_per_s: float

    @property
    def is_partial(self) -> bool:
        """Whether fewer scenes were scored than have frames listed."""
        return self.num_scenes < self.num_listed - self.num_null


@dataclass(frozen=True)
class Summary:
    """An evaluation in numbers: what `summary.json` holds.

    Attributes:
        protocol: The protocol's name.
        variants: One summary a variant, in the protocol's order.
        reference: The variant that the others' `change` refers to; None where there is none.
        lpips_backbone: The network that LPIPS compares by; None where LPIPS was not measured.
        lpips_note: Why it was not measured, though it was asked for.
        num_listed: Scenes that were to be evaluated, see `Listing`; of the variant with the most of them.
        num_null: Scenes of these without a choice of frames, likewise.
        missing: Scenes that any variant lists with frames, and that the data do not have.
        num_processes: Processes that shared the examples, when the evaluation was finished.
        peak_memory: `bytes`, the most memory that a process needed, and `of`, what was counted.
        settings: What the numbers depend on: weights, data, protocol.
        environment: When, where and with which version they were made.
    """

    protocol: str
    variants: Sequence[VariantSummary]
    reference: str | None = None
    lpips_backbone: str | None = None
    lpips_note: str | None = None
    num_listed: int = 0
    num_null: int = 0
    missing: Sequence[str] = ()
    num_processes: int = 1
    peak_memory: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def main(self) -> VariantSummary:
        """The variant that stands for the whole where one number is wanted: the reference, or else the first."""
        return next((variant for variant in self.variants if variant.variant == self.reference), self.variants[0])

    def to_dict(self) -> dict[str, Any]:
        """The summary in JSON values."""
        return {**asdict(self), "interval": INTERVAL_METHOD}

    def write(self, folder: str | Path) -> Path:
        """Write `summary.json` into a folder, whole or not at all; one that is there is replaced."""
        path = Path(folder) / SUMMARY_FILE
        with atomic_file(path, overwrite=True) as file:
            file.write((json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n").encode())
        return path


def read_summary(folder: str | Path) -> Summary:
    """The summary that a finished evaluation left in its folder.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it cannot be read.
    """
    path = Path(folder) / SUMMARY_FILE
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; wnv-eval writes it when it has finished")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        known = {field.name for field in fields(Summary)}
        values.setdefault("environment", values.get("provenance", {}))  # its old name
        variants = [_variant_from_dict(variant) for variant in values["variants"]]
        return Summary(**{name: value for name, value in values.items() if name in known} | {"variants": variants})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not the summary of an evaluation ({error!r}); evaluate again") from error


def summarize(
    records: Sequence[SceneRecord],
    *,
    protocol: str = "default",
    listings: Mapping[str, Listing] | None = None,
    reference: str | None = None,
    **facts: Any,
) -> Summary:
    """Average records, each example counting the same however many target views it has.

    Args:
        records: Of all variants, in the protocol's order.
        protocol: Its name.
        listings: Variant -> what was to be evaluated; where there is none, what was.
        reference: The variant that the others are compared with.
        facts: Further fields of the summary, by name.

    Raises:
        ValueError: If there is no record.
    """
    if not records:
        raise ValueError("no scene was evaluated: the data set is empty")
    groups: dict[str, list[SceneRecord]] = {}
    for record in records:
        groups.setdefault(record.variant, []).append(record)
    variants = [
        _summarize_variant(
            group,
            listing=(listings or {}).get(name) or Listing(num_listed=len({record.scene for record in group})),
            reference=None if reference is None or name == reference else groups.get(reference),
        )
        for name, group in groups.items()
    ]
    missing = dict.fromkeys(scene for variant in variants for scene in variant.missing)
    return Summary(
        protocol=protocol,
        variants=variants,
        reference=reference if len(groups) > 1 else None,
        num_listed=max(variant.num_listed for variant in variants),
        num_null=max(variant.num_null for variant in variants),
        missing=list(missing),
        **facts,
    )


def mean_of(scores: Sequence[float]) -> Mean:
    """The mean of scores, at least one, with its confidence interval."""
    half_width = None
    if len(scores) > 1:
        half_width = student_t_95(len(scores) - 1) * statistics.stdev(scores) / math.sqrt(len(scores))
    return Mean(mean=statistics.fmean(scores), half_width=half_width)


def student_t_95(freedom: int) -> float:
    """97.5 % quantile of Student's t distribution, within 0.15 %.

    Args:
        freedom: Its degrees of freedom, at least 1. From 3 up it is a series in their inverse (Abramowitz and Stegun,
            Handbook of Mathematical Functions, 26.7.5).
    """
    if freedom == 1:
        return math.tan(0.475 * math.pi)
    if freedom == 2:
        return 0.95 * math.sqrt(2 / (4 * 0.975 * 0.025))
    z = _NORMAL_95
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))


def _summarize_variant(
    records: Sequence[SceneRecord], *, listing: Listing, reference: Sequence[SceneRecord] | None
) -> VariantSummary:
    metrics = list(dict.fromkeys(metric for record in records for metric in record.model))
    num_views = sum(len(record.target_times) for record in records)
    drawing_ms = sum(record.render_ms * len(record.target_times) for record in records)
    return VariantSummary(
        variant=records[0].variant,
        num_examples=len(records),
        num_scenes=len({record.scene for record in records}),
        num_views=num_views,
        num_listed=listing.num_listed,
        num_null=listing.num_null,
        missing=list(listing.missing),
        model=_means({m: [record.mean("model", m) for record in records] for m in metrics}),
        copy=_means({m: [record.mean("copy", m) for record in records] for m in metrics}),
        difference=_means(
            {m: [_minus(record.mean("model", m), record.mean("copy", m)) for record in records] for m in metrics}
        ),
        change=None if reference is None else _change(records, reference, metrics),
        num_ahead=sum(record.mean("model", "psnr") > record.mean("copy", "psnr") for record in records),
        num_capped=sum(record.num_capped for record in records),
        encode_ms=statistics.median(record.encode_ms for record in records),
        render_ms=statistics.median(record.render_ms for record in records),
        views_per_s=1000 * num_views / drawing_ms if drawing_ms else 0.0,
    )


def _change(
    records: Sequence[SceneRecord], reference: Sequence[SceneRecord], metrics: Sequence[str]
) -> dict[str, Mean]:
    """Scores minus those of the same examples under the reference variant."""
    partners = {(record.index, record.scene): record for record in reference}
    pairs = [
        (record, partners[record.index, record.scene]) for record in records if (record.index, record.scene) in partners
    ]
    return _means({m: [_minus(one.mean("model", m), other.mean("model", m)) for one, other in pairs] for m in metrics})


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _means(scores: Mapping[str, Sequence[float | None]]) -> dict[str, Mean]:
    """Metric -> mean over the examples on which it was measured; metrics that were on none are left out."""
    measured = {metric: [value for value in values if value is not None] for metric, values in scores.items()}
    return {metric: mean_of(values) for metric, values in measured.items() if values}


def _variant_from_dict(values: Mapping[str, Any]) -> VariantSummary:
    means = {
        name: None if values[name] is None else {metric: Mean(**mean) for metric, mean in values[name].items()}
        for name in ("model", "copy", "difference", "change")
    }
    return VariantSummary(**{field.name: values[field.name] for field in fields(VariantSummary)} | means)
