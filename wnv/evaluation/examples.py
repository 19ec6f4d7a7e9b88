"""What a person looks at after an evaluation: a few cases of each variant, spread from the worst to the best."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from wnv.evaluation.images import write_png
from wnv.evaluation.layout import PICTURES_FOLDER, SHEET_FILE, picture_names, picture_stem
from wnv.evaluation.path_video import target_sheet
from wnv.evaluation.protocols.cases import Variant
from wnv.evaluation.records import SceneRecord
from wnv.evaluation.rendering import SceneModel, render_path
from wnv.evaluation.video import write_mp4
from wnv.runtime.atomic import atomic_folder
from wnv.types import Example


def write_example_images(
    model: SceneModel,
    variants: Sequence[Variant],
    records: Sequence[SceneRecord],
    *,
    out: str | Path,
    count: int,
    device: torch.device,
    with_films: bool = False,
    fps: float | int = 12,
    views_per_call: int = 8,
) -> list[Path]:
    """Write `sheet.png`, of the first variant, and of every variant `pictures/INDEX-VARIANT.png` and films.

    A picture is the row context | target | drawn | nearest context view | error of one target, a film all targets of a
    case in their order, the truth on the left. Shown are cases spread from the worst to the best, and half as many
    spread over the data, which are the same for every model. Where variants have the same cases, the same ones are
    shown. Exhibits that are there are replaced.

    Args:
        model: The model that was evaluated.
        variants: What it was evaluated on.
        records: What came of it.
        out: The folder of the evaluation.
        count: Cases of each variant that are spread from the worst to the best.
        device: Where to draw.
        with_films: Whether films are made.
        fps: Their frames per second.
        views_per_call: Targets drawn together, at most.

    Returns:
        The sheet and the folder of pictures.
    """
    out = Path(out)
    shown = choose_examples(variants, records, count=count)
    folder = out / PICTURES_FOLDER
    with atomic_folder(folder, entries=picture_names(out), overwrite=True) as pictures:
        for number, (variant, indices) in enumerate(zip(variants, shown, strict=True)):
            examples = {index: variant[index].example for index in indices}
            if number == 0:
                spread = spread_by_psnr([record for record in records if record.variant == variant.name], count=count)
                sheet = target_sheet(model, [examples[index] for index in spread], device=device, with_error=True)
                write_png(out / SHEET_FILE, sheet, overwrite=True)
            for index, example in examples.items():
                name = picture_stem(index, variant.name)
                write_png(pictures / f"{name}.png", target_sheet(model, [example], device=device, with_error=True))
                if with_films:
                    drawn = _draw(model, example, device=device, views_per_call=views_per_call)
                    write_mp4(pictures / f"{name}.mp4", torch.cat([example.target.images, drawn], dim=-1), fps=fps)
    return [out / SHEET_FILE, folder]


def choose_examples(variants: Sequence[Variant], records: Sequence[SceneRecord], *, count: int) -> list[list[int]]:
    """For each variant the cases that are shown: those of the first one where it has the same, else its own."""
    scored = [[record for record in records if record.variant == variant.name] for variant in variants]
    scenes = [{record.index: record.scene for record in group} for group in scored]
    shown: list[list[int]] = []
    for group, found in zip(scored, scenes, strict=True):
        if shown and found == scenes[0]:
            shown.append(shown[0])
        else:
            own = [
                *spread_by_psnr(group, count=count),
                *spread_by_psnr(group, count=min(count, 3)),
            ]  # with the median
            shown.append([*dict.fromkeys([*own, *spread_by_index(group, count=-(-count // 2))])])
    return shown


def spread_by_psnr(records: Sequence[SceneRecord], *, count: int) -> list[int]:
    """Indices of `count` examples evenly spread from the lowest PSNR to the highest: no showing of the best alone."""
    order = sorted(records, key=lambda record: record.mean("model", "psnr"))
    return [order[place].index for place in _places(len(order), count)]


def spread_by_index(records: Sequence[SceneRecord], *, count: int) -> list[int]:
    """Indices of `count` examples evenly spread over the data: the same for every model, to compare them by."""
    order = sorted(record.index for record in records)
    return [order[place] for place in _places(len(order), count)]


def _places(length: int, count: int) -> list[int]:
    return torch.linspace(0, length - 1, min(count, length)).round().long().tolist()


def _draw(
    model: SceneModel, example: Example, *, device: torch.device, views_per_call: int
) -> Float[Tensor, "view 3 height width"]:
    return render_path(
        model,
        example.context,
        example.target.cameras,
        example.target.times,
        device=device,
        views_per_call=views_per_call,
    )
