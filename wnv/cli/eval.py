"""`wnv-eval`: score weights on scenes whose target views are known, or write down which views are to be scored."""

import hashlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue
from torch.utils.data import Dataset
from tqdm import tqdm

from wnv.cli.app import remove_log
from wnv.cli.commands import evaluate as main
from wnv.cli.settings import check_setting, path_setting, plain, switch
from wnv.evaluation.environment import fingerprint
from wnv.evaluation.evaluator import evaluate
from wnv.evaluation.examples import write_example_images
from wnv.evaluation.layout import TABLE_FILE
from wnv.evaluation.protocols.cases import Variant
from wnv.evaluation.protocols.protocol import choose_frames
from wnv.evaluation.ranks import Ranks, joined_ranks, own_device
from wnv.evaluation.records import RECORDS_FILE, SceneRecord, read_records
from wnv.evaluation.rendering import SceneModel
from wnv.evaluation.scores import open_lpips
from wnv.evaluation.summary import SUMMARY_FILE, Summary
from wnv.evaluation.table import summary_table
from wnv.models.konet import KoNet
from wnv.runtime.atomic import atomic_file
from wnv.runtime.device import resolve_device
from wnv.types import Example

log = logging.getLogger(__name__)

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
_PROTOCOL_PATHS = ("index", "masks")


def run(cfg: DictConfig) -> float | None:
    """Evaluate, print the table, and give a Hydra sweeper the PSNR; or make an index."""
    with joined_ranks() as ranks:
        if cfg.make_index is not None:
            return _make_index(cfg) if ranks.rank == 0 else None
        return _evaluate(cfg, ranks).main.model["psnr"].mean


def score(cfg: DictConfig) -> Summary:
    """Evaluate, print the table, and return the means."""
    with joined_ranks() as ranks:
        return _evaluate(cfg, ranks)


def _evaluate(cfg: DictConfig, ranks: Ranks) -> Summary:
    out = _output_folder(ranks)
    device = own_device(resolve_device(cfg.trainer.accelerator))
    resume, overwrite = switch(cfg, "resume"), switch(cfg, "overwrite")
    for name in ("views_per_call", "num_sheet_scenes"):
        check_setting(name, cfg[name], int)
    if cfg.num_sheet_scenes < 0:
        raise ValueError(f"num_sheet_scenes must be at least 0, got {cfg.num_sheet_scenes}")
    check_setting("lpips", cfg.lpips, str | None)
    choices = HydraConfig.get().runtime.choices
    model = KoNet.from_pretrained(path_setting(cfg, "weights"))
    lpips, lpips_note = open_lpips(cfg.lpips)
    if lpips_note is not None and ranks.rank == 0:
        log.warning("%s (lpips=null); going on without", lpips_note)
    data_config, protocol_config = with_roots(cfg.data), _with_paths(cfg.protocol)
    if ranks.rank == 0:
        warn_of_another_world(model, cfg.data)
    data = instantiate(data_config, _convert_="all")
    protocol = instantiate(protocol_config, _convert_="all")
    variants = protocol.variants(data)
    settings = {
        "weights": str(cfg.weights),
        "fingerprint": fingerprint(model),
        "protocol": {"name": protocol.name, **_protocol_settings(protocol_config)},
        "lpips": None if lpips is None else lpips.backbone,
        "data": {
            name: value
            for name, value in OmegaConf.to_container(data_config, resolve=True).items()
            if name not in _LOADING and _VALIDATION.get(name, "") not in data_config
        },
    }
    summary = evaluate_with_progress(
        model,
        variants,
        device=device,
        out=out,
        settings=settings,
        protocol=protocol.name,
        reference=protocol.reference,
        lpips=lpips,
        lpips_note=lpips_note,
        ranks=ranks,
        batch_size=1 if protocol.makes_films else data.val_batch_size,  # a film has many targets
        num_workers=data.num_workers,
        views_per_call=cfg.views_per_call,
        resume=resume,
        overwrite=overwrite,
        origin=weights_origin(path_setting(cfg, "weights")),
    )
    if ranks.rank == 0:
        title = f"{cfg.weights} on data={choices.data}, protocol={choices.protocol}"
        table = f"{title}\n\n{summary_table(summary, name='KoNet')}"
        with atomic_file(out / TABLE_FILE, overwrite=True) as file:
            file.write(f"{table}\n".encode())
        _print(f"\n{table}\n")
        files = [RECORDS_FILE, SUMMARY_FILE, TABLE_FILE]
        if cfg.num_sheet_scenes:
            shown = write_example_images(
                model,
                variants,
                read_records(out),
                out=out,
                count=cfg.num_sheet_scenes,
                device=device,
                with_films=protocol.makes_films,
                views_per_call=cfg.views_per_call,
            )
            files += [path.name for path in shown]
        _print(f"In {out}: {', '.join(files)}")
    return summary


def _make_index(cfg: DictConfig) -> None:
    """Write the frames that the protocol chooses to a file, for protocols that read one."""
    path = Path(path_setting(cfg, "make_index"))
    overwrite = switch(cfg, "overwrite")
    if path.suffix != ".json":
        raise ValueError(f"make_index must name a .json file, got {path}")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; choose another make_index= or pass overwrite=true")
    data = instantiate(with_roots(cfg.data), _convert_="all")
    protocol = instantiate(_with_paths(cfg.protocol), _convert_="all")
    index = choose_frames(protocol, data)
    lines = (f"  {json.dumps(scene)}: {json.dumps(choice)}" for scene, choice in index.items())
    with atomic_file(path, overwrite=overwrite) as file:
        file.write(("{\n" + ",\n".join(lines) + "\n}\n").encode())
    num_null = sum(choice is None for choice in index.values())
    _print(f"{path}: {len(index)} scenes, of which {num_null} are too short (null)")
    remove_log(Path(HydraConfig.get().runtime.output_dir))


def warn_of_another_world(model: KoNet, data: DictConfig) -> None:
    """Tell when data place their worlds in another way than the weights were trained with."""
    placed = data.get("pose_normalization", model.pose_normalization)
    if placed != model.pose_normalization:
        log.warning(
            "the weights were trained with pose_normalization=%s, and the data have %s: set data.pose_normalization=%s",
            model.pose_normalization,
            placed,
            model.pose_normalization,
        )


def evaluate_with_progress(
    model: SceneModel, examples: Dataset[Example] | list[Variant], *, device: torch.device, **options: Any
) -> Summary:
    """`evaluate` with a progress bar on stderr, of this process's share."""
    bar: tqdm | None = None
    ranks: Ranks = options.get("ranks") or Ranks()
    total = sum(len(v) for v in examples) if isinstance(examples, list) else len(examples)
    out = Path(options["out"])
    num_done = len(read_records(out)) if options.get("resume") and (out / RECORDS_FILE).exists() else 0

    def show(record: SceneRecord) -> None:
        nonlocal bar
        if ranks.rank > 0:
            return
        if bar is None:  # made with the first score, so that it does not precede a mistake's one line
            wide = sys.stderr.isatty()
            bar = tqdm(total=total, initial=num_done, desc="evaluate", unit="example", dynamic_ncols=wide)
        bar.set_postfix_str(
            f"{record.mean('model', 'psnr'):.2f} dB, copy {record.mean('copy', 'psnr'):.2f} dB", refresh=False
        )
        bar.update(min(ranks.world_size, total - bar.n))  # the others are about as far

    try:
        return evaluate(model, examples, device=device, on_record=show, **options)
    finally:
        if bar is not None:
            bar.close()


def weights_origin(weights: str) -> dict[str, str]:
    """Where weights lie that are a file or a folder here: a report finds their run by it, wherever it is made."""
    return {"weights_path": str(Path(weights).resolve())} if Path(weights).exists() else {}


def shorten(path: Path) -> Path:
    """The path relative to the current folder, if it lies in it: what a person would type."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _output_folder(ranks: Ranks) -> Path:
    hydra_config = HydraConfig.get()
    if ranks.world_size > 1:
        given = [*hydra_config.overrides.task, *hydra_config.overrides.hydra]
        if hydra_config.mode == RunMode.MULTIRUN:
            raise ValueError("a sweep (-m) runs its jobs in one process; start every job by itself under torchrun")
        if not any(item.startswith(("out=", "hydra.run.dir=")) for item in given):
            raise ValueError(
                "out must be set where several processes share an evaluation, because each would name its own folder "
                "by the time; set out=..."
            )
    return shorten(Path(hydra_config.runtime.output_dir))


def with_roots(data: DictConfig) -> DictConfig:
    """Data whose training part, which is not used here, may be left open; either root names the scenes."""
    data = data.copy()
    # Of the keys: a name without a value is not in a DictConfig.
    roots = {name: _given_path(data, name) for name in ("val_root", "root") if name in list(data.keys())}
    given = next((root for root in roots.values() if root is not None), None)
    for name, root in roots.items():
        data[name] = root or given or data.root  # the last says that it has no default
    return data


def _with_paths(protocol: DictConfig) -> DictConfig:
    """The protocol's settings with paths as texts, `~` made the home folder."""
    protocol = protocol.copy()
    for name in _PROTOCOL_PATHS:
        if name in protocol and protocol[name] is not None:
            protocol[name] = path_setting(protocol, name)
    if "indices" in protocol and protocol.indices is not None:
        protocol.indices = {views: path_setting(protocol.indices, views) for views in plain(protocol, "indices")}
    return protocol


def _protocol_settings(protocol: DictConfig) -> dict[str, Any]:
    """The protocol's settings, and what its indices hold: a file of the same name may be another one tomorrow."""
    settings = {str(name): plain(protocol, str(name)) for name in protocol if name != "_target_"}
    paths = [settings.get("index"), *(settings.get("indices") or {}).values()]
    digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16] for path in paths if path is not None]
    return settings | ({"index_sha256": digests} if digests else {})


def _given_path(data: DictConfig, name: str) -> str | None:
    try:
        return path_setting(data, name)
    except (MissingMandatoryValue, InterpolationToMissingValueError):
        return None


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
