"""`wnv-render`: draw a camera path through a scene."""

import logging
import sys
from dataclasses import replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from wnv.cli.commands import render as main
from wnv.cli.eval import shorten, warn_of_another_world
from wnv.cli.settings import check_setting, path_setting, plain, switch
from wnv.cli.synthetic_scene import SYNTHETIC, open_synthetic
from wnv.evaluation.camera_path import CAMERA_PATHS, RECORDED, CameraPath, plan_path
from wnv.evaluation.context import open_context
from wnv.evaluation.path_video import write_path_video
from wnv.models.konet import KoNet
from wnv.runtime.device import resolve_device
from wnv.types import Views

log = logging.getLogger(__name__)

_KINDS = {
    "context": list[int] | None,
    "num_context": int,
    "image_size": list[int] | None,
    "trajectory": str,
    "trajectory_options": dict | None,
    "num_views": int,
    "output_size": list[int] | None,
    "render_size": list[int] | None,
    "time": int | float | list[int | float] | None,
    "fps": int | float,
    "min_side": int,
    "views_per_call": int,
}


def run(cfg: DictConfig) -> list[Path]:
    """Render the path, print and return its files."""
    out = shorten(Path(HydraConfig.get().runtime.output_dir))
    device = resolve_device(cfg.trainer.accelerator)
    switches = {name: switch(cfg, name) for name in ("there_and_back", "side_by_side", "write_frames", "overwrite")}
    for name, kind in _KINDS.items():
        check_setting(name, plain(cfg, name), kind)
    if cfg.trajectory not in CAMERA_PATHS:
        raise ValueError(f"trajectory must be one of {', '.join(CAMERA_PATHS)}, got {cfg.trajectory!r}")
    model = KoNet.from_pretrained(path_setting(cfg, "weights"))
    scene = path_setting(cfg, "scene")
    if scene.startswith(SYNTHETIC):
        warn_of_another_world(model, cfg.data)
        title, context, shot = _shoot_synthetic(cfg, scene)
    else:
        title, context, shot = _shoot_file(cfg, scene, model=model)
    film = write_path_video(
        model,
        context,
        shot,
        out=out,
        device=device,
        render_size=plain(cfg, "render_size") or (context.cameras.height, context.cameras.width),
        patch_size=model.patch_size,
        fps=cfg.fps,
        min_side=cfg.min_side,
        views_per_call=cfg.views_per_call,
        title=title,
        **switches,
    )
    if not (model.config["time_code"] or model.config["adaln_zero"]) and bool((shot.times != shot.times[0]).any()):
        log.warning(
            "%s knows of no time (time_code=false): every frame shows the same moment, whatever its time", cfg.weights
        )
    score = "" if film.psnr_db is None else f", {film.psnr_db:.2f} dB PSNR"
    sys.stdout.write(f"{len(shot.times)} views of {title} along '{cfg.trajectory}'{score}:\n")
    files = [path for path in (film.mp4, film.gif, film.sheet, film.frames) if path is not None]
    for path in files:
        sys.stdout.write(f"  {path}\n")
    return files


def _shoot_file(cfg: DictConfig, scene: str, *, model: KoNet) -> tuple[str, Views, CameraPath]:
    example = open_context(
        scene,
        frames=plain(cfg, "context"),
        num_context=cfg.num_context,
        num_target=cfg.num_views if cfg.trajectory == RECORDED else None,
        image_size=plain(cfg, "image_size"),
        size_multiple=model.patch_size,
        pose_normalization=cfg.pose_normalization or model.pose_normalization,
    )
    if cfg.trajectory != RECORDED:
        return example.scene, example.context, _plan(cfg, example.context)
    for name in ("trajectory_options", "time", "output_size"):
        if cfg[name] is not None:
            raise ValueError(
                f"{name} must be left out with trajectory={RECORDED}, which shows the scene's own frames, got "
                f"{cfg[name]}"
            )
    target = example.target
    return example.scene, example.context, CameraPath(target.cameras, target.times, truth=target.images)


def _shoot_synthetic(cfg: DictConfig, scene: str) -> tuple[str, Views, CameraPath]:
    dataset, index = open_synthetic(cfg, scene)
    if cfg.trajectory == RECORDED:
        raise ValueError(
            f"trajectory={RECORDED} is for scene files, whose camera has moved; along every other path the synthetic "
            "world shows its truth (side_by_side=true)"
        )
    example = dataset[index]
    shot = _plan(cfg, example.context)
    return example.scene, example.context, replace(shot, truth=dataset.render(index, shot.cameras, shot.times))


def _plan(cfg: DictConfig, context: Views) -> CameraPath:
    return plan_path(
        context,
        cfg.trajectory,
        num_views=cfg.num_views,
        options=plain(cfg, "trajectory_options"),
        time=plain(cfg, "time"),
        output_size=plain(cfg, "output_size"),
    )


if __name__ == "__main__":
    main()
