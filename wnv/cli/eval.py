"""`wnv-eval`: score weights on scenes whose target views are known."""

import sys
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue
from torch.utils.data import Dataset
from tqdm import tqdm

from wnv.cli.app import hydra_main
from wnv.cli.settings import check_setting, path_setting, switch
from wnv.device import resolve_device
from wnv.evaluation.evaluator import evaluate
from wnv.evaluation.film import target_sheet
from wnv.evaluation.pictures import write_png
from wnv.evaluation.provenance import fingerprint
from wnv.evaluation.records import RECORDS_FILE, SceneRecord, read_records
from wnv.evaluation.rendering import SceneModel
from wnv.evaluation.summary import SUMMARY_FILE, Summary
from wnv.evaluation.table import summary_table
from wnv.evaluation.weights import open_weights
from wnv.scenes.atomic import atomic_file
from wnv.types import Example

SHEET_FILE = "sheet.png"
TABLE_FILE = "table.txt"
# How examples are loaded, and what concerns training only: no score depends on it.
_LOADING = ("batch_size", "val_batch_size", "num_workers", "cache_frames", "allow_changed_order", "seed")
# What concerns training only, where the data have another one for validation.
_VALIDATION = {
    "root": "val_root",
    "split": "val_split",
    "sampler": "val_sampler",
    "zoom_range": "val_zoom_range",
    "num_scenes": "num_val_scenes",
}


def run(cfg: DictConfig) -> float:
    """Evaluate, print the table, and give a Hydra sweeper the PSNR."""
    out = shorten(Path(HydraConfig.get().runtime.output_dir))
    device = resolve_device(cfg.trainer.accelerator)
    resume, overwrite = switch(cfg, "resume"), switch(cfg, "overwrite")
    for name in ("views_per_call", "num_sheet_scenes"):
        check_setting(name, cfg[name], int)
    model = open_weights(path_setting(cfg, "weights"))
    data_config = _with_roots(cfg.data)
    data = instantiate(data_config, _convert_="all")
    dataset = data.val_dataset
    settings = {
        "weights": str(cfg.weights),
        "fingerprint": fingerprint(model),
        "data": {
            name: value
            for name, value in OmegaConf.to_container(data_config, resolve=True).items()
            if name not in _LOADING and _VALIDATION.get(name, "") not in data_config
        },
    }
    summary = evaluate_with_progress(
        model,
        dataset,
        device=device,
        out=out,
        settings=settings,
        batch_size=data.val_batch_size,
        num_workers=data.num_workers,
        views_per_call=cfg.views_per_call,
        resume=resume,
        overwrite=overwrite,
    )
    table = f"{cfg.weights} on data={HydraConfig.get().runtime.choices.data}\n\n{summary_table(summary, name='KoNet')}"
    with atomic_file(out / TABLE_FILE, overwrite=True) as file:
        file.write(f"{table}\n".encode())
    _print(f"\n{table}\n")
    files = [RECORDS_FILE, SUMMARY_FILE, TABLE_FILE]
    if cfg.num_sheet_scenes:
        chosen = pick_spread(read_records(out), count=cfg.num_sheet_scenes)
        sheet = target_sheet(model, [dataset[i] for i in chosen], device=device, with_error=True)
        write_png(out / SHEET_FILE, sheet, overwrite=True)
        files.append(SHEET_FILE)
    _print(f"In {out}: {', '.join(files)}")
    return summary.main.model["psnr"].mean


def evaluate_with_progress(
    model: SceneModel, dataset: Dataset[Example], *, device: torch.device, **options: Any
) -> Summary:
    """`evaluate` with a progress bar on stderr."""
    bar: tqdm | None = None

    def show(record: SceneRecord) -> None:
        nonlocal bar
        if bar is None:  # made with the first score, so that it does not precede a mistake's one line
            bar = tqdm(total=len(dataset), desc="evaluate", unit="scene", dynamic_ncols=sys.stderr.isatty())
        bar.set_postfix_str(
            f"{record.mean('model', 'psnr'):.2f} dB, copy {record.mean('copy', 'psnr'):.2f} dB", refresh=False
        )
        bar.update(record.index + 1 - bar.n)

    try:
        return evaluate(model, dataset, device=device, on_record=show, **options)
    finally:
        if bar is not None:
            bar.close()


def pick_spread(records: list[SceneRecord], *, count: int) -> list[int]:
    """Indices of `count` examples evenly spread from the lowest PSNR to the highest: no showing of the best alone."""
    order = sorted(records, key=lambda record: record.mean("model", "psnr"))
    places = torch.linspace(0, len(order) - 1, min(count, len(order))).round().long().tolist()
    return [order[place].index for place in places]


def shorten(path: Path) -> Path:
    """The path relative to the current folder, if it lies in it: what a person would type."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _with_roots(data: DictConfig) -> DictConfig:
    """Data whose training part, which is not used here, may be left open; either root names the scenes."""
    data = data.copy()
    # Of the keys: a name without a value is not in a DictConfig.
    roots = {name: _given_path(data, name) for name in ("val_root", "root") if name in list(data.keys())}
    given = next((root for root in roots.values() if root is not None), None)
    for name, root in roots.items():
        data[name] = root or given or data.root  # the last says that it has no default
    return data


def _given_path(data: DictConfig, name: str) -> str | None:
    try:
        return path_setting(data, name)
    except (MissingMandatoryValue, InterpolationToMissingValueError):
        return None


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


main = hydra_main(config_name="eval", prog="wnv-eval")(run)


if __name__ == "__main__":
    main()
