"""The summary of an evaluation: scores averaged over examples, per variant."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from wnv.evaluation.confidence import INTERVAL_METHOD, MIN_EXAMPLES, Mean, mean_of
from wnv.evaluation.records import SceneRecord
from wnv.runtime.atomic import atomic_file

SUMMARY_FILE = "summary.json"


@dataclass(frozen=True)
class Listing:
    """The number of scenes that a protocol lists, and those that cannot be evaluated.

    Attributes:
        num_listed: Scenes in the index, including those without frames; without an index, all scenes.
        num_null: Scenes without a choice of frames: `null` in the index, or too short for the sampler.
        missing: Scenes that the index lists with frames but the data lack.
        too_short: Scenes that lack frames which the index names.
    """

    num_listed: int
    num_null: int = 0
    missing: Sequence[str] = ()
    too_short: Sequence[str] = ()


@dataclass(frozen=True)
class VariantSummary:
    """The scores of one variant of a protocol.

    Attributes:
        variant: Name of the variant, e.g. `zoom=3`; empty if the protocol has only one.
        num_examples: Scored examples (one context with its targets each), over which scores are averaged.
        num_scenes: Different scenes among them.
        num_views: Rendered target views.
        num_listed: Scenes that the protocol lists, see `Listing`.
        num_null: Listed scenes without a choice of frames.
        missing: Listed scenes that the data lack.
        too_short: Listed scenes that lack listed frames.
        model: Metric -> score of the model.
        copy: Metric -> score of copying the nearest context view.
        difference: Metric -> model minus copy, paired by example, so its interval is narrower than either's.
        change: Metric -> score minus that under the reference variant, paired by example; None for the reference and
            for protocols without one.
        num_ahead: Examples with a higher PSNR than the copy.
        num_capped: Views whose PSNR was capped at 100 dB because they are (nearly) equal to the ground truth.
        encode_ms: Median encoding time in milliseconds per scene.
        render_ms: Median rendering time in milliseconds per view.
        views_per_s: Views that one process renders per second.
        num_seen: Target views that are context views too, where frames have numbers.
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
    too_short: Sequence[str] = ()
    num_seen: int = 0

    @property
    def is_partial(self) -> bool:
        """Whether some listed scenes with frames were not scored."""
        return self.num_scenes < self.num_listed - self.num_null


@dataclass(frozen=True)
class Summary:
    """The scores of an evaluation, as stored in `summary.json`.

    Attributes:
        protocol: Name of the protocol.
        variants: One summary per variant, in the order of the protocol.
        reference: Name of the variant that `change` refers to; None if there is none.
        lpips_backbone: Network of LPIPS; None if LPIPS was not measured.
        lpips_note: Why LPIPS was not measured although it was requested.
        num_listed: Scenes that the protocol lists, the maximum over the variants.
        num_null: Listed scenes without a choice of frames, the maximum over the variants.
        missing: Scenes that any variant lists but the data lack.
        too_short: Scenes that lack frames which any variant lists.
        num_processes: Processes that shared the examples when the evaluation finished.
        peak_memory: `bytes`, the peak memory over processes, and `of`, what was measured.
        settings: What the scores depend on: weights, data, protocol.
        environment: Date, versions and device.
    """

    protocol: str
    variants: Sequence[VariantSummary]
    reference: str | None = None
    lpips_backbone: str | None = None
    lpips_note: str | None = None
    num_listed: int = 0
    num_null: int = 0
    missing: Sequence[str] = ()
    too_short: Sequence[str] = ()
    num_processes: int = 1
    peak_memory: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def main(self) -> VariantSummary:
        """The variant to report if only one can be: the reference, else the first."""
        return next((variant for variant in self.variants if variant.variant == self.reference), self.variants[0])

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON values."""
        return {**asdict(self), "interval": INTERVAL_METHOD}

    def write(self, folder: str | Path) -> Path:
        """Write `summary.json` into a folder, replacing an existing one."""
        path = Path(folder) / SUMMARY_FILE
        with atomic_file(path, overwrite=True) as file:
            file.write((json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n").encode())
        return path


def read_summary(folder: str | Path) -> Summary:
    """Read the summary of a finished evaluation."""
    path = Path(folder) / SUMMARY_FILE
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; wnv-eval writes it when it finishes")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values.setdefault("environment", values.get("provenance", {}))  # its old name
        values["variants"] = [_read_variant(variant) for variant in values["variants"]]
        return Summary(**{field.name: values[field.name] for field in fields(Summary) if field.name in values})
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
    """Average records over examples, with equal weight regardless of their numbers of target views.

    Args:
        records: The records of all variants, in the order of the protocol.
        protocol: Name of the protocol.
        listings: Variant -> the scenes that the protocol lists; default: the scored ones.
        reference: Name of the variant that the others are compared with.
        facts: Further fields of the summary.

    Raises:
        ValueError: If there are no records.
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
    return Summary(
        protocol=protocol,
        variants=variants,
        reference=reference if len(groups) > 1 else None,
        num_listed=max(variant.num_listed for variant in variants),
        num_null=max(variant.num_null for variant in variants),
        missing=list(dict.fromkeys(scene for variant in variants for scene in variant.missing)),
        too_short=list(dict.fromkeys(scene for variant in variants for scene in variant.too_short)),
        **facts,
    )


def _summarize_variant(
    records: Sequence[SceneRecord], *, listing: Listing, reference: Sequence[SceneRecord] | None
) -> VariantSummary:
    metrics = list(dict.fromkeys(metric for record in records for metric in record.model))

    def means(score: Callable[[SceneRecord, str], float | None]) -> dict[str, Mean]:
        """Average a score over the examples that have it; omit metrics that none has."""
        scores = {m: [value for record in records if (value := score(record, m)) is not None] for m in metrics}
        return {metric: mean_of(values) for metric, values in scores.items() if values}

    def difference(record: SceneRecord, metric: str) -> float | None:
        return _minus(record.mean("model", metric), record.mean("copy", metric))

    partners = {(record.index, record.scene): record for record in reference or ()}

    def change(record: SceneRecord, metric: str) -> float | None:
        partner = partners.get((record.index, record.scene))
        return None if partner is None else _minus(record.mean("model", metric), partner.mean("model", metric))

    num_views = sum(len(record.target_times) for record in records)
    rendering_ms = sum(record.render_ms * len(record.target_times) for record in records)
    return VariantSummary(
        variant=records[0].variant,
        num_examples=len(records),
        num_scenes=len({record.scene for record in records}),
        num_views=num_views,
        num_listed=listing.num_listed,
        num_null=listing.num_null,
        missing=list(listing.missing),
        too_short=list(listing.too_short),
        model=means(lambda record, metric: record.mean("model", metric)),
        copy=means(lambda record, metric: record.mean("copy", metric)),
        difference=means(difference),
        change=None if reference is None else means(change),
        num_ahead=sum((difference(record, "psnr") or 0) > 0 for record in records),
        num_capped=sum(record.num_capped for record in records),
        encode_ms=statistics.median(record.encode_ms for record in records),
        render_ms=statistics.median(record.render_ms for record in records),
        views_per_s=1000 * num_views / rendering_ms if rendering_ms else 0.0,
        num_seen=sum(frame in (r.context_frames or ()) for r in records for frame in r.target_frames or ()),
    )


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _read_variant(values: Mapping[str, Any]) -> VariantSummary:
    count = values["num_examples"]  # of means in summaries of older versions, which also give intervals of few examples

    def read(mean: Mapping[str, Any]) -> Mean:
        mean = {"count": count, **mean}
        return Mean(**(mean if mean["count"] >= MIN_EXAMPLES else {**mean, "half_width": None}))

    means: dict[str, Any] = {
        name: None if values[name] is None else {metric: read(mean) for metric, mean in values[name].items()}
        for name in ("model", "copy", "difference", "change")
    }
    known = {field.name: values[field.name] for field in fields(VariantSummary) if field.name in values}
    return VariantSummary(**known | means)
