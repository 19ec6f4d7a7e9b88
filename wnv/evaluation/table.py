"""A summary as a text table."""

from collections.abc import Mapping, Sequence

from wnv.evaluation.confidence import Mean, interval_note
from wnv.evaluation.summary import Summary, VariantSummary

_HEADINGS = {"psnr": ("PSNR dB", 2), "ssim": ("SSIM", 4), "lpips": ("LPIPS", 4)}  # heading and decimals
_MASKED = "_masked"
_MAX_NAMES = 5


def summary_table(summary: Summary, *, name: str = "model") -> str:
    """Format a summary as text: per variant the model, the copied nearest context view, and their difference.

    Args:
        summary: The summary.
        name: Title of the model's rows.
    """
    metrics = list(dict.fromkeys(metric for variant in summary.variants for metric in variant.model))
    if summary.lpips_note is not None:
        metrics.append("lpips")  # an empty column
    rows = [["", "", *(heading(metric, summary) for metric in metrics)]]
    for variant in summary.variants:
        for i, (title, means, sign) in enumerate(_rows(variant, summary, name)):
            cells = [means[m].text(decimals(m), sign=sign) if m in means else "" for m in metrics]
            rows.append([variant.variant if i == 0 else "", title, *cells])
    if len(summary.variants) == 1:
        rows = [row[1:] for row in rows]
    lines = _align(rows, num_titles=1 if len(summary.variants) == 1 else 2)
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], "", *_notes(summary, name)])


def heading(metric: str, summary: Summary) -> str:
    """The column heading of a metric."""
    base = metric.removesuffix(_MASKED)
    words = [_HEADINGS.get(base, (base, 4))[0]]
    if base == "lpips" and summary.lpips_backbone is not None:
        words.append(f"({summary.lpips_backbone})")
    if metric != base:
        words.append("masked")
    return " ".join(words)


def decimals(metric: str) -> int:
    """The number of decimals to show of a metric."""
    return _HEADINGS.get(metric.removesuffix(_MASKED), ("", 4))[1]


def caveats(summary: Summary) -> list[str]:
    """Why the scores may not represent the whole list: scenes not scored, views capped, metrics not measured."""
    lines = []
    if summary.num_null:
        lines.append(f"{_count(summary.num_null, 'scene')} of {summary.num_listed} listed have no choice of frames.")
    partial = [variant for variant in summary.variants if variant.is_partial]
    if partial:
        scored, wanted = min((v.num_scenes, v.num_listed - v.num_null) for v in partial)
        lines.append(f"PARTIAL: {scored} of {wanted} listed scenes were scored; this is no score of the whole list.")
    for what, scenes in (("Not in the data", summary.missing), ("Too short for the index", summary.too_short)):
        if scenes:
            names = ", ".join(scenes[:_MAX_NAMES]) + (", ..." if len(scenes) > _MAX_NAMES else "")
            lines.append(f"{what}: {_count(len(scenes), 'scene')} ({names}; all in summary.json).")
    num_seen = sum(variant.num_seen for variant in summary.variants)
    if num_seen:
        lines.append(
            f"{_count(num_seen, 'target view')} of {sum(v.num_views for v in summary.variants)} are context views too."
        )
    num_capped = sum(variant.num_capped for variant in summary.variants)
    if num_capped:
        lines.append(f"{_count(num_capped, 'view')} (nearly) equal to the ground truth, counted as 100 dB.")
    if summary.lpips_note is not None:
        lines.append(f"LPIPS was not measured: {summary.lpips_note}")
    return lines


def _align(rows: Sequence[Sequence[str]], *, num_titles: int) -> list[str]:
    """Pad cells to columns, the first `num_titles` of them to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i < num_titles else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _rows(variant: VariantSummary, summary: Summary, name: str) -> list[tuple[str, Mapping[str, Mean], bool]]:
    """The title and scores of each row of a variant, and whether to show the sign."""
    rows = [
        (name, variant.model, False),
        ("nearest context view", variant.copy, False),
        ("difference", variant.difference, True),
    ]
    if variant.change:
        rows.append((f"{name}, change from {summary.reference}", variant.change, True))
    return rows


def _notes(summary: Summary, name: str) -> list[str]:
    counts = {variant.variant: _counts(variant, name) for variant in summary.variants}
    if len(set(counts.values())) == 1:
        lines = [f"{'Each: ' if len(counts) > 1 else ''}{next(iter(counts.values()))}"]
    else:
        lines = [f"{variant}: {text}" for variant, text in counts.items()]
    lines.append(interval_note([mean.count for variant in summary.variants for mean in variant.model.values()]))
    lines += [f"Index {path}: SHA-256 {digest}" for path, digest in summary.environment.get("index_sha256", {}).items()]
    lines += caveats(summary)
    main, device = summary.main, summary.environment.get("device")
    lines.append(
        f"Encoding takes {main.encode_ms:.1f} ms per scene, rendering {main.render_ms:.1f} ms per view "
        f"({main.views_per_s:.1f} views/s{f'; {device}' if device else ''})."
    )
    if summary.peak_memory:
        lines.append(f"Peak memory: {summary.peak_memory['bytes'] / 2**20:.0f} MiB, {summary.peak_memory['of']}.")
    return lines


def _counts(variant: VariantSummary, name: str) -> str:
    examples = _count(variant.num_scenes, "scene")
    if variant.num_examples != variant.num_scenes:
        examples = f"{_count(variant.num_examples, 'example')} from {examples}"
    return (
        f"{examples}, {_count(variant.num_views, 'target view')}; {name} is ahead in {variant.num_ahead} of "
        f"{variant.num_examples}."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
