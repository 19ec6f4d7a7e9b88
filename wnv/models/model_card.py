"""The card of a set of weights: what they are, what went into them, how good they are, what is not known of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_BELOW = "What is known stands in the card below."
_HEADINGS = {"psnr": ("PSNR, dB", 2), "ssim": ("SSIM", 4), "lpips": ("LPIPS", 4)}


@dataclass(frozen=True, kw_only=True)
class CardScores:
    """One evaluation, or one variant of it.

    Attributes:
        title: What was scored: protocol, variant, data.
        rows: Who was scored -> metric -> the mean, and half the width of its 95 % confidence interval (None: unknown).
        notes: What the reader must know of the numbers, a sentence each.
    """

    title: str
    rows: Mapping[str, Mapping[str, tuple[float, float | None]]]
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What is known of a set of weights; what is None or empty is said to be unknown.

    Attributes:
        name: What the weights are called.
        source: What `KoNet.from_pretrained` is given: a folder, or a hub id.
        origin: Where the weights are from, in sentences.
        config: The constructor's arguments of the model.
        num_parameters: Trained numbers.
        dtype: What they are stored as.
        license: An identifier of the hub (`apache-2.0`, `cc-by-nc-sa-4.0`, ...), or None.
        license_note: What else is to be said of the licence.
        datasets: Hub ids of the data sets that were trained on.
        data: Settings of the data of the training.
        recipe: Settings of the training.
        training: What happened in the training: steps, hardware, versions, commands.
        scores: Evaluations.
        limits: What the weights cannot do or were never tried at, a sentence each.
        earlier_card: The card of the weights that these are a copy of, without its header.
    """

    name: str
    source: str
    origin: str
    config: Mapping[str, Any]
    num_parameters: int
    dtype: str
    license: str | None = None
    license_note: str = ""
    datasets: Sequence[str] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    scores: Sequence[CardScores] = ()
    limits: Sequence[str] = ()
    earlier_card: str = ""

    def text(self) -> str:
        """The card in Markdown, with the header that the hub reads."""
        sections = [
            self._header(),
            f"# {self.name}",
            self.origin,
            self._facts(),
            f"## Use\n\n{self._use()}",
            f"## Data\n\n{_table(self.data) or self._unknown()}",
            f"## Training\n\n{_table({**self.recipe, **self.training}) or self._unknown()}",
            f"## Scores\n\n{self._scores()}",
            "## Limits\n\n" + "\n".join(f"- {limit}" for limit in (*self.limits, *self._limits_of_config())),
            f"## Licence\n\n{self._licence()}",
        ]
        if self.earlier_card:
            sections.append(f"## The card of the weights that these are a copy of\n\n{_deepen(self.earlier_card)}")
        return "\n\n".join(sections) + "\n"

    def _header(self) -> str:
        lines = [
            "library_name: wnv",
            f"license: {self.license or 'unknown'}",
            "pipeline_tag: image-to-image",
        ]
        lines += ["tags:", *(f"- {tag}" for tag in ("novel-view-synthesis", "multi-view", "konet"))]
        if self.datasets:
            lines += ["datasets:", *(f"- {json.dumps(dataset)}" for dataset in self.datasets)]
        return "\n".join(["---", *lines, "---"])

    def _unknown(self) -> str:
        return _BELOW if self.earlier_card else "Unknown."

    def _facts(self) -> str:
        config = self.config
        return _table(
            {
                "what it does": "is shown a few posed images of a place and draws the place from other cameras",
                "parameters": f"{self.num_parameters:,}, stored in {self.dtype}",
                "network": f"{config['num_layers']} layers, dim {config['dim']}, {config['num_heads']} heads, mlp "
                f"{config['mlp_dim']}, patch {config['patch_size']} px",
                "cameras": ", ".join(
                    f"`{key}={config[key]}`"
                    for key in ("camera_encoding", "patch_encoding", "ray_code", "attention", "pose_normalization")
                ),
                "time": "each view has one" if config["time_code"] else "none: static scenes",
            }
        )

    def _use(self) -> str:
        return f"""```python
from wnv.models.konet import KoNet

model = KoNet.from_pretrained({json.dumps(self.source)})
image = model.render_images(images, K, camtoworld, target_camtoworld)  # arrays of numpy
```

`images` are RGB bytes, `view height width 3`; `K` is in their pixels; `camtoworld` is world<-camera in OpenCV axes, of
any origin and unit. `wnv-eval weights={self.source}` scores the weights, and `wnv-render weights={self.source}
scene=...` draws a path through a scene."""

    def _scores(self) -> str:
        if not self.scores:
            return _BELOW if self.earlier_card else "None: how good these weights are is unknown."
        parts = []
        for scores in self.scores:
            metrics = list(dict.fromkeys(metric for row in scores.rows.values() for metric in row))
            heads = [_HEADINGS.get(metric, (metric, 4))[0] for metric in metrics]
            lines = [f"| | {' | '.join(heads)} |", f"|---|{'---|' * len(metrics)}"]
            for who, row in scores.rows.items():
                cells = [_score(row.get(metric), _HEADINGS.get(metric, (metric, 4))[1]) for metric in metrics]
                lines.append(f"| {who} | {' | '.join(cells)} |")
            parts.append(
                "\n\n".join([f"**{scores.title}**", "\n".join(lines), *filter(None, [" ".join(scores.notes)])])
            )
        return "\n\n".join([*parts, "± is half the 95 % confidence interval of the mean over scenes."])

    def _limits_of_config(self) -> list[str]:
        config = self.config
        limits = [f"Height and width of images are multiples of {config['patch_size']} pixels."]
        if config["ray_size"] is not None:
            height, width = config["ray_size"]
            limits.append(f"Images are {height} x {width} pixels (height x width) and of no other size.")
        if not config["time_code"]:
            limits.append(
                "The weights know of no time: what moves between the given images comes out blurred or doubled."
            )
        if config["attention"] == "joint":
            limits.append("Attention is joint: the given images are computed anew for every drawn one.")
        return limits

    def _licence(self) -> str:
        stated = f"`{self.license}`." if self.license else "Unknown: whoever exported these weights did not say."
        return f"{stated} {self.license_note}".strip()


def strip_header(card: str) -> tuple[dict[str, str], str]:
    """A card's header, as far as it is single lines `key: value`, and the card without it."""
    if not card.startswith("---\n"):
        return {}, card
    header, _, rest = card.removeprefix("---\n").partition("\n---\n")
    entries = (line.split(":", 1) for line in header.splitlines() if ":" in line and line[0] not in " -")
    return {key.strip(): value.strip().strip("\"'") for key, value in entries if value.strip()}, rest.strip()


def _table(rows: Mapping[str, Any]) -> str:
    if not rows:
        return ""
    lines = [f"| {key} | {_cell(value)} |" for key, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def _cell(value: Any) -> str:
    if isinstance(value, str):
        text = value
    elif isinstance(value, (list, tuple)) and all(isinstance(entry, str) for entry in value):
        text = "<br>".join(value)
    else:
        text = json.dumps(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _score(score: tuple[float, float | None] | None, decimals: int) -> str:
    if score is None:
        return ""
    mean, half_width = score
    return f"{mean:.{decimals}f}" + ("" if half_width is None else f" ± {half_width:.{decimals}f}")


def _deepen(card: str) -> str:
    """A card as a part of another one: headings two levels deeper, pictures left out, which are not copied."""
    lines = [line for line in card.splitlines() if not line.lstrip().startswith("![")]
    return "\n".join(f"##{line}" if line.startswith("#") else line for line in lines)
