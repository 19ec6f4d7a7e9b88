"""`wnv-demo`: train, score on unseen scenes and render a camera path, in minutes and without a download."""

import time
from pathlib import Path

from hydra import compose
from hydra.utils import instantiate
from omegaconf import DictConfig

from wnv.cli.commands import demo as main
from wnv.cli.eval_settings import weights_origin
from wnv.cli.output import output_folder, say
from wnv.cli.train import train
from wnv.data.datamodule import ExampleDataModule
from wnv.evaluation.camera_path import plan_path
from wnv.evaluation.environment import fingerprint
from wnv.evaluation.evaluator import evaluate
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
    """Train, evaluate, render, and list the results."""
    start = time.monotonic()
    out = output_folder()
    run_dir = out / "run"
    if run_dir.exists():
        raise FileExistsError(f"{out} holds a demo; choose another out=")
    if cfg.scene is not None and not 0 <= cfg.scene < cfg.num_eval_scenes:
        raise ValueError(f"scene must be in 0..{cfg.num_eval_scenes - 1} (num_eval_scenes), got {cfg.scene}")
    train_cfg = _compose_training(cfg, run_dir=run_dir)
    device = resolve_device(cfg.trainer.accelerator)

    begin = "random weights" if cfg.from_scratch else f"the weights {cfg.init_from}"
    say(
        f"[1/3] Training on the synthetic world, starting from {begin}: "
        f"at most {train_cfg.trainer.max_steps} steps and {_duration(60 * _minutes(cfg))}"
    )
    train(train_cfg, run_dir=run_dir)

    say(f"\n[2/3] Scoring on {cfg.num_eval_scenes} unseen scenes")
    model = KoNet.from_pretrained(run_dir)
    data_cfg = train_cfg.data.copy()
    data_cfg.num_val_scenes = cfg.num_eval_scenes
    data: ExampleDataModule = instantiate(data_cfg, _convert_="all")
    evaluation = out / "eval"
    summary = evaluate(
        model,
        data.val_dataset,
        device=device,
        out=evaluation,
        settings={"weights": str(run_dir), "fingerprint": fingerprint(model), "data": "synthetic"},
        batch_size=data.val_batch_size,
        origin=weights_origin(str(run_dir)),
        show_progress=True,
    )
    say(f"\n{summary_table(summary, name='KoNet')}")

    records = read_records(evaluation)
    median = spread_by_psnr(records, count=3)[1] if len(records) > 2 else 0
    example = data.val_dataset[median if cfg.scene is None else cfg.scene]
    say(f"\n[3/3] Rendering {cfg.num_views} views along a path through {example.scene}")
    video = write_path_video(
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
    size = ",".join(map(str, data_cfg.image_size))
    say(
        f"\n{RULE}\n"
        f"Done in {_duration(time.monotonic() - start)}. "
        f"KoNet {psnr:.2f} dB, copying the nearest context view {copy:.2f} dB.\n\n"
        f"  contact sheet  {sheet}   (context | target | rendered | nearest view)\n"
        f"  camera path    {video.mp4}\n"
        f"                 {video.gif}\n"
        f"                 {video.sheet}\n"
        f"  scores         {evaluation / SUMMARY_FILE}\n"
        f"  weights        {run_dir}\n\n"
        f"Next: wnv-render weights={run_dir} scene=synthetic:3 data.image_size=[{size}] trajectory=interpolate\n"
        f"{RULE}"
    )


def _compose_training(cfg: DictConfig, *, run_dir: Path) -> DictConfig:
    """Compose the configuration of `wnv-train`."""
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


if __name__ == "__main__":
    main()
