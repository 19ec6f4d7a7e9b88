"""`wnv-eval`: score weights on scenes with known target views, or write an evaluation index."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from wnv.cli.commands import evaluate as main
from wnv.cli.eval_settings import (
    data_settings,
    index_digests,
    protocol_settings,
    warn_of_image_size,
    warn_of_pose_normalization,
    weights_origin,
    with_paths,
    with_roots,
)
from wnv.cli.output import output_folder, say
from wnv.cli.settings import check_setting, path_setting, switch
from wnv.cli.tidy import remove_start
from wnv.data.datamodule import ExampleDataModule
from wnv.data.evaluation_index import IndexSampler
from wnv.evaluation.environment import fingerprint
from wnv.evaluation.evaluator import evaluate
from wnv.evaluation.examples import write_example_images
from wnv.evaluation.layout import IMAGES_FOLDER, TABLE_FILE
from wnv.evaluation.protocols.cases import Variant
from wnv.evaluation.protocols.protocol import Protocol, choose_frames
from wnv.evaluation.protocols.scenes import open_scenes
from wnv.evaluation.ranks import Ranks, joined_ranks, own_device
from wnv.evaluation.records import RECORDS_FILE, read_records
from wnv.evaluation.scores import open_lpips
from wnv.evaluation.summary import SUMMARY_FILE, Summary
from wnv.evaluation.table import summary_table
from wnv.models.konet import KoNet
from wnv.runtime.atomic import atomic_file
from wnv.runtime.device import resolve_device

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    """A model, and what to evaluate it on."""

    model: KoNet
    data: ExampleDataModule
    protocol: Protocol
    variants: Sequence[Variant]
    settings: dict[str, Any]
    origin: dict[str, Any]


def run(cfg: DictConfig) -> float | None:
    """Evaluate, print the table, and return the PSNR to Hydra's sweepers; or write an index."""
    with joined_ranks() as ranks:
        if cfg.make_index is None:
            return _evaluate(cfg, ranks).main.model["psnr"].mean
        if ranks.rank == 0:
            _make_index(cfg)
        return None


def score(cfg: DictConfig) -> Summary:
    """Evaluate, print the table, and return the summary."""
    with joined_ranks() as ranks:
        return _evaluate(cfg, ranks)


def _evaluate(cfg: DictConfig, ranks: Ranks) -> Summary:
    _check_settings(cfg, ranks)
    out = output_folder()
    device = own_device(resolve_device(cfg.trainer.accelerator))
    lpips, lpips_note = open_lpips(cfg.lpips)
    if lpips_note is not None and ranks.rank == 0:
        log.warning("evaluating without LPIPS (lpips=null): %s", lpips_note)
    job = _open_job(cfg, ranks)
    summary = evaluate(
        job.model,
        job.variants,
        device=device,
        out=out,
        settings=job.settings | {"lpips": None if lpips is None else lpips.backbone},
        protocol=job.protocol.name,
        reference=job.protocol.reference,
        lpips=lpips,
        lpips_note=lpips_note,
        ranks=ranks,
        batch_size=1 if job.protocol.makes_films else job.data.val_batch_size,  # videos have many targets
        num_workers=job.data.num_workers,
        views_per_call=cfg.views_per_call,
        resume=switch(cfg, "resume"),
        overwrite=switch(cfg, "overwrite"),
        origin=weights_origin(path_setting(cfg, "weights")) | job.origin,
        show_progress=True,
        save_images=switch(cfg, "save_images"),
    )
    if ranks.rank == 0:
        _write_results(cfg, summary, job, out=out, device=device)
    return summary


def _check_settings(cfg: DictConfig, ranks: Ranks) -> None:
    if cfg["from"] is not None:
        raise ValueError("from converts an index and needs make_index=FILE.json; to evaluate one, set protocol.index")
    for name in ("views_per_call", "num_sheet_scenes"):
        check_setting(name, cfg[name], int)
    if cfg.num_sheet_scenes < 0:
        raise ValueError(f"num_sheet_scenes must be at least 0, got {cfg.num_sheet_scenes}")
    check_setting("lpips", cfg.lpips, str | None)
    for name in ("resume", "overwrite", "save_images"):
        switch(cfg, name)
    if ranks.world_size == 1:
        return
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise ValueError("a sweep (-m) runs its jobs in one process; start each job separately with torchrun")
    overrides = HydraConfig.get().overrides
    if not any(item.startswith(("out=", "hydra.run.dir=")) for item in [*overrides.task, *overrides.hydra]):
        raise ValueError("out must be set if several processes share an evaluation: its default depends on the time")


def _open_job(cfg: DictConfig, ranks: Ranks) -> _Job:
    data_config, protocol_config = with_roots(cfg.data), with_paths(cfg.protocol)
    model = KoNet.from_pretrained(path_setting(cfg, "weights"))
    if ranks.rank == 0:
        warn_of_pose_normalization(model, cfg.data)
        warn_of_image_size(path_setting(cfg, "weights"), cfg.data)
    data: ExampleDataModule = instantiate(data_config, _convert_="all")
    protocol: Protocol = instantiate(protocol_config, _convert_="all")
    settings = {
        "weights": str(cfg.weights),
        "fingerprint": fingerprint(model),
        "protocol": {"name": protocol.name, **protocol_settings(protocol_config)},
        "data": data_settings(data_config),
    }
    digests = index_digests(protocol_config)
    origin: dict[str, Any] = {"num_parameters": sum(parameter.numel() for parameter in model.parameters())}
    if digests:
        origin["index_sha256"] = digests
    return _Job(model, data, protocol, protocol.variants(data), settings, origin)


def _write_results(cfg: DictConfig, summary: Summary, job: _Job, *, out: Path, device: torch.device) -> None:
    """Write the table and example images, and print the table and file names."""
    choices = HydraConfig.get().runtime.choices
    title = f"{cfg.weights} on data={choices['data']}, protocol={choices['protocol']}"
    table = f"{title}\n\n{summary_table(summary, name='KoNet')}"
    with atomic_file(out / TABLE_FILE, overwrite=True) as file:
        file.write(f"{table}\n".encode())
    say(f"\n{table}\n")
    files = [RECORDS_FILE, SUMMARY_FILE, TABLE_FILE]
    if cfg.num_sheet_scenes:
        images = write_example_images(
            job.model,
            job.variants,
            read_records(out),
            out=out,
            count=cfg.num_sheet_scenes,
            device=device,
            with_films=job.protocol.makes_films,
            views_per_call=cfg.views_per_call,
        )
        files += [path.name for path in images]
    if cfg.save_images:
        files.append(IMAGES_FOLDER)
    say(f"In {out}: {', '.join(files)}")


def _make_index(cfg: DictConfig) -> None:
    """Write the frames that the protocol chooses to a JSON file."""
    path = Path(path_setting(cfg, "make_index"))
    overwrite = switch(cfg, "overwrite")
    if path.suffix != ".json":
        raise ValueError(f"make_index must name a .json file, got {path}")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; choose another make_index= or pass overwrite=true")
    if cfg["from"] is None:
        data = instantiate(with_roots(cfg.data), _convert_="all")
        protocol = instantiate(with_paths(cfg.protocol), _convert_="all")
        index, nulls = choose_frames(protocol, data), "too short"
    else:
        index, nulls = _convert_index(cfg), "without frames"
    lines = (f"  {json.dumps(scene)}: {json.dumps(choice)}" for scene, choice in index.items())
    with atomic_file(path, overwrite=overwrite) as file:
        file.write(("{\n" + ",\n".join(lines) + "\n}\n").encode())
    num_null = sum(choice is None for choice in index.values())
    say(f"{path}: {len(index)} scenes, {num_null} of them {nulls} (null)")
    remove_start(Path(HydraConfig.get().runtime.output_dir))


def _convert_index(cfg: DictConfig) -> dict[str, dict[str, list[int]] | None]:
    """Read the index `from` in any form that is known."""
    num_context = OmegaConf.select(cfg, "protocol.num_context")
    index = IndexSampler(path=path_setting(cfg, "from"), num_context=num_context)
    if all(choice.target for choice in index.choices.values()):
        return index.plain()
    data = instantiate(with_roots(cfg.data), _convert_="all")
    return index.plain(open_scenes(data, sampler=index).num_frames)


if __name__ == "__main__":
    main()
