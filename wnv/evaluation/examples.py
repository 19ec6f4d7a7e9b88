"""Example images of an evaluation: a few cases per variant, spread from the worst to the best."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from wnv.evaluation.contact_sheet import Cell, contact_sheet
from wnv.evaluation.images import error_map, to_u8, write_png
from wnv.evaluation.layout import PICTURES_FOLDER, SHEET_FILE, picture_names, picture_stem
from wnv.evaluation.protocols.cases import Variant
from wnv.evaluation.records import SceneRecord
from wnv.evaluation.rendering import SceneModel, render_path
from wnv.evaluation.video import write_mp4
from wnv.metrics.baseline import copy_nearest
from wnv.metrics.image import psnr
from wnv.runtime.atomic import atomic_folder
from wnv.types import Example, collate

MAX_CONTEXT = 4  # context views shown per row
VIDEO_FPS = 12


def write_example_images(
    model: SceneModel,
    variants: Sequence[Variant],
    records: Sequence[SceneRecord],
    *,
    out: str | Path,
    count: int,
    device: torch.device,
    with_films: bool = False,
    views_per_call: int = 8,
) -> list[Path]:
    """Write `sheet.png` of the first variant, and `pictures/INDEX-VARIANT.png` and videos of all variants.

    An image shows one target: context | target | rendered | nearest context view | error. A video shows all targets of
    a case in order, with the ground truth on the left (`with_films`). Existing files are replaced. `choose_examples`
    chooses the cases from their `records`.
    """
    out = Path(out)
    folder = out / PICTURES_FOLDER
    shown = choose_examples(variants, records, count=count)
    with atomic_folder(folder, entries=picture_names(out), overwrite=True) as pictures:
        for number, (variant, indices) in enumerate(zip(variants, shown, strict=True)):
            examples = {index: variant[index].example for index in indices}
            if number == 0:
                spread = spread_by_psnr([record for record in records if record.variant == variant.name], count=count)
                sheet = target_sheet(model, [examples[index] for index in spread], device=device, with_error=True)
                write_png(out / SHEET_FILE, sheet, overwrite=True)
            for index, example in examples.items():
                stem = picture_stem(index, variant.name)
                write_png(pictures / f"{stem}.png", target_sheet(model, [example], device=device, with_error=True))
                if with_films:
                    target, call = example.target, {"device": device, "views_per_call": views_per_call}
                    images = render_path(model, example.context, target.cameras, target.times, **call)
                    both = torch.cat([target.images, images], dim=-1)
                    write_mp4(pictures / f"{stem}.mp4", to_u8(both), fps=VIDEO_FPS)
    return [out / SHEET_FILE, folder]


def choose_examples(variants: Sequence[Variant], records: Sequence[SceneRecord], *, count: int) -> list[list[int]]:
    """Choose the case indices to show per variant; variants with the same cases show the same ones.

    `count` cases are spread from the worst to the best, and half as many over the data: these are the same for every
    model.
    """
    scored = [[record for record in records if record.variant == variant.name] for variant in variants]
    scenes = [{record.index: record.scene for record in group} for group in scored]
    shown: list[list[int]] = []
    for group, cases in zip(scored, scenes, strict=True):
        if shown and cases == scenes[0]:
            shown.append(shown[0])
            continue
        indices = spread_by_psnr(group, count=count)
        indices += spread_by_psnr(group, count=min(count, 3))  # includes the median
        indices += spread_by_index(group, count=-(-count // 2))
        shown.append(list(dict.fromkeys(indices)))
    return shown


def spread_by_psnr(records: Sequence[SceneRecord], *, count: int) -> list[int]:
    """Indices of `count` examples, evenly spread from the lowest to the highest PSNR."""
    return _spread([record.index for record in sorted(records, key=lambda r: r.mean("model", "psnr") or 0)], count)


def spread_by_index(records: Sequence[SceneRecord], *, count: int) -> list[int]:
    """Indices of `count` examples, evenly spread over the data."""
    return _spread(sorted(record.index for record in records), count)


def target_sheet(
    model: SceneModel, examples: Sequence[Example], *, device: torch.device, with_error: bool = False
) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """Make a contact sheet of one target per example: context | target | rendered | nearest context view (| error).

    The target is the one whose copy of the nearest context view has the median PSNR: neither the easiest nor the
    hardest.
    """
    rows = [_target_row(model, example, device=device, with_error=with_error) for example in examples]
    return contact_sheet(rows, row_titles=[example.scene for example in examples])


def _target_row(model: SceneModel, example: Example, *, device: torch.device, with_error: bool) -> list[Cell]:
    copies = copy_nearest(collate([example]))[0]
    copies_db = psnr(copies, example.target.images)
    shown = int(copies_db.median(dim=0).indices)
    target = example.target[shown : shown + 1]
    images = render_path(model, example.context, target.cameras, target.times, device=device)
    context = example.context.images
    row = [
        Cell(context[i], f"context {i + 1}" if len(context) > 1 else "context")
        for i in _spread(range(len(context)), MAX_CONTEXT)
    ]
    row += [
        Cell(target.images[0], "target"),
        Cell(images[0], f"rendered {psnr(images, target.images).item():.1f} dB"),
        Cell(copies[shown], f"nearest {copies_db[shown].item():.1f} dB"),
    ]
    if with_error:
        row.append(Cell(error_map(images[0], target.images[0]), "error"))
    return row


def _spread(items: Sequence[int], count: int) -> list[int]:
    places = torch.linspace(0, len(items) - 1, min(count, len(items))).round().long().tolist()
    return [items[place] for place in places]
