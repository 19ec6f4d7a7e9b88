"""`wnv-demo`: the whole way in minutes, without a download: train, score on unseen scenes, draw a camera path."""

import sys
import time
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from wnv.cli.commands import demo as main
from wnv.cli.eval import evaluate_with_progress, shorten, weights_origin
from wnv.cli.train import train
from wnv.evaluation.camera_path import plan_path
from wnv.evaluation.environment import fingerprint
from wnv.evaluation.examples import spread_by_psnr, target_sheet
from wnv.evaluation.images import write_png
from wnv.evaluation.layout import SHEET_FILE
from wnv.evaluation.path_video import write_path_video
from wnv.evaluation.records import read_records
from wnv.evaluation.summary import SUMMARY_FILE
from wnv.evaluation.table import summary_table
from wnv.models.konet import KoNet
from wnv.runtime.device import resolve_device

RULE = "-" * 100


def run(cfg: DictConfig) -> None:
    """Train, evaluate, draw, and say where everything is."""
    start = time.monotonic()
    out = shorten(Path(HydraConfig.get().runtime.output_dir))
    run_dir = out / "run"
    if run_dir.exists():
        raise FileExistsError(f"{out} holds a demo; choose another out=")
    if cfg.scene is not None and not 0 <= cfg.scene < cfg.num_eval_scenes:
        raise ValueError(f"scene must be in 0..{cfg.num_eval_scenes - 1} (num_eval_scenes), got {cfg.scene}")
    train_cfg = _compose_training(cfg, run_dir=run_dir)
    device = resolve_device(cfg.trainer.accelerator)

    begin = "random weights" if cfg.from_scratch else f"the weights {cfg.init_from}"
    _say(
        f"[1/3] Training on the synthetic world, beginning with {begin}: "
        f"{train_cfg.trainer.max_steps} steps, {_duration(60 * _minutes(cfg))} at most"
    )
    train(train_cfg, run_dir=run_dir)

    _say(f"\n[2/3] Scoring on {cfg.num_eval_scenes} scenes that it has never seen")
    model = KoNet.from_pretrained(run_dir)
    data_cfg = train_cfg.data.copy()
    data_cfg.num_val_scenes = cfg.num_eval_scenes
    data = instantiate(data_cfg, _convert_="all")
    evaluation = out / "eval"
    summary = evaluate_with_progress(
        model,
        data.val_dataset,
        device=device,
        out=evaluation,
        settings={"weights": str(run_dir), "fingerprint": fingerprint(model), "data": "synthetic"},
        batch_size=data.val_batch_size,
        origin=weights_origin(str(run_dir)),
    )
    _say(f"\n{summary_table(summary, name='KoNet')}")

    records = read_records(evaluation)
    median = spread_by_psnr(records, count=3)[1] if len(records) > 2 else 0
    example = data.val_dataset[median if cfg.scene is None else cfg.scene]
    _say(f"\n[3/3] Drawing {cfg.num_views} views of one of them, {example.scene}, along a path")
    film = write_path_video(
        model,
        example.context,
        plan_path(example.context, cfg.trajectory, num_views=cfg.num_views),
        out=out,
        device=device,
        there_and_back=True,
        fps=cfg.fps,
        title=example.scene,
    )
    examples = [data.val_dataset[i] for i in spread_by_psnr(records, count=cfg.num_sheet_scenes)]
    sheet = write_png(out / SHEET_FILE, target_sheet(model, examples, device=device))

    psnr, copy = summary.main.model["psnr"].mean, summary.main.copy["psnr"].mean
    _say(
        f"\n{RULE}\n"
        f"Done in {_duration(time.monotonic() - start)}. "
        f"KoNet {psnr:.2f} dB, copying the nearest context view {copy:.2f} dB.\n\n"
        f"  contact sheet  {sheet}   (context | target | drawn | nearest view)\n"
        f"  camera path    {film.mp4}\n"
        f"                 {film.gif}\n"
        f"                 {film.sheet}\n"
        f"  scores         {evaluation / SUMMARY_FILE}\n"
        f"  weights        {run_dir}\n\n"
        f"Next: wnv-render weights={run_dir} scene=synthetic:1 data.image_size={_size(data_cfg)} trajectory=wobble\n"
        f"{RULE}"
    )


def _compose_training(cfg: DictConfig, *, run_dir: Path) -> DictConfig:
    """The configuration that `wnv-train` would have, made with its own settings."""
    hours, seconds = divmod(max(1, round(60 * _minutes(cfg))), 3600)
    overrides = [
        f"experiment={cfg.train_experiment}",
        f"seed={cfg.seed}",
        f"run_dir={str(run_dir)!r}",
        f"init_from={'null' if cfg.from_scratch else repr(str(cfg.init_from))}",
        f"trainer.accelerator={cfg.trainer.accelerator}",
        f"trainer.max_time='{hours // 24:02}:{hours % 24:02}:{seconds // 60:02}:{seconds % 60:02}'",
        *(cfg.scratch if cfg.from_scratch else cfg.fine_tuning).overrides,
        *cfg.train_overrides,
    ]
    return compose(config_name="train", overrides=overrides)


def _minutes(cfg: DictConfig) -> float | int:
    minutes = cfg.minutes
    if minutes is None:
        minutes = (cfg.scratch if cfg.from_scratch else cfg.fine_tuning).minutes
    if not minutes > 0:
        raise ValueError(f"minutes must be positive, got {minutes}")
    return minutes


def _duration(seconds: float | int) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _size(data_cfg: DictConfig) -> str:
    return f"[{','.join(map(str, data_cfg.image_size))}]"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
