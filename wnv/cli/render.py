"""`wnv-render`: render a camera path through a scene."""

import logging
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor

from wnv.cli.commands import render as main
from wnv.cli.eval_settings import warn_of_pose_normalization
from wnv.cli.output import output_folder, say
from wnv.cli.settings import check_setting, path_setting, plain, switch
from wnv.cli.synthetic_scene import SYNTHETIC, open_synthetic
from wnv.evaluation.camera_path import CAMERA_PATHS, RECORDED, CameraPath, follow_file, plan_path
from wnv.evaluation.context import NUM_CONTEXT, default_context, open_cameras, open_context
from wnv.evaluation.path_file import PathFile, read_path_file
from wnv.evaluation.path_video import write_path_video
from wnv.geometry.focus import focus_point
from wnv.geometry.overlap import looks_elsewhere
from wnv.geometry.poses import WorldFrame, fit_world_frame
from wnv.models.konet import KoNet
from wnv.runtime.device import resolve_device
from wnv.types import Views

log = logging.getLogger(__name__)

NUM_VIEWS, FPS = 48, 24  # if neither the settings nor a path file say

_TYPES = {
    "context": list[int] | None,
    "num_context": int | None,
    "image_size": list[int] | None,
    "trajectory": str,
    "trajectory_options": dict | None,
    "num_views": int | None,
    "output_size": list[int] | None,
    "render_size": list[int] | None,
    "time": int | float | list[int | float] | None,
    "fps": int | float | None,
    "min_side": int,
    "views_per_call": int,
}


def run(cfg: DictConfig) -> list[Path]:
    """Render the path; print and return its files."""
    switches = {name: switch(cfg, name) for name in ("there_and_back", "side_by_side", "write_frames", "overwrite")}
    for name, kind in _TYPES.items():
        check_setting(name, plain(cfg, name), kind)
    file = _read_file(cfg)
    out = output_folder()
    device = resolve_device(cfg.trainer.accelerator)
    model = KoNet.from_pretrained(path_setting(cfg, "weights"))
    scene = path_setting(cfg, "scene")
    if scene.startswith(SYNTHETIC):
        warn_of_pose_normalization(model, cfg.data)
        title, context, path = _open_synthetic_path(cfg, scene, file=file)
    else:
        title, context, path = _open_scene_path(cfg, scene, model=model, file=file)
    video = write_path_video(
        model,
        context,
        path,
        out=out,
        device=device,
        render_size=plain(cfg, "render_size") or (context.cameras.height, context.cameras.width),
        patch_size=model.patch_size,
        fps=cfg.fps if cfg.fps is not None else file.fps if file else FPS,
        min_side=cfg.min_side,
        views_per_call=cfg.views_per_call,
        title=title,
        **switches,
    )
    if not (model.config["time_code"] or model.config["adaln_zero"]) and bool((path.times != path.times[0]).any()):
        log.warning("%s ignores time (time_code=false): all frames show the same time", cfg.weights)
    score = "" if video.psnr_db is None else f", {video.psnr_db:.2f} dB PSNR"
    say(f"{len(path.times)} views of {title} along '{cfg.trajectory}'{score}:")
    for result in video.files:
        say(f"  {result}")
    return video.files


def _read_file(cfg: DictConfig) -> PathFile | None:
    """The path file that `trajectory` names, if it is not the name of a path."""
    if cfg.trajectory in CAMERA_PATHS:
        return None
    path = Path(path_setting(cfg, "trajectory"))
    if path.suffix != ".json":
        raise ValueError(
            f"trajectory must be one of {', '.join(CAMERA_PATHS)}, or a .json file, got {cfg.trajectory!r}"
        )
    file = read_path_file(path)
    _refuse(cfg, "num_views", "trajectory_options", reason=f"which has {len(file.frames)} frames")
    if file.frames[0].time is not None:
        _refuse(cfg, "time", reason="which has the time of each frame")
    return file


def _open_scene_path(
    cfg: DictConfig, scene: str, *, model: KoNet, file: PathFile | None
) -> tuple[str, Views, CameraPath]:
    """The id, context and path of a scene file."""
    info, cameras = open_cameras(scene)
    num_frames, frames, num_context = len(info.frames), plain(cfg, "context"), cfg.num_context
    if frames is None:
        if num_context is not None and not 1 <= num_context <= num_frames:
            raise ValueError(
                f"num_context must be in 1..{num_frames}, the number of frames of {info.id!r}, got {num_context}"
            )
        frames = default_context(info, cameras, count=num_context or NUM_CONTEXT)
    pose_normalization = cfg.pose_normalization or model.pose_normalization
    example = open_context(
        scene,
        frames=frames,
        num_target=_num_views(cfg) if cfg.trajectory == RECORDED else None,
        image_size=plain(cfg, "image_size"),
        size_multiple=model.patch_size,
        pose_normalization=pose_normalization,
    )
    if cfg.trajectory == RECORDED:
        reason = "which uses the scene's own frames"
        _refuse(cfg, "trajectory_options", "time", "output_size", reason=reason)
        target = example.target
        return example.scene, example.context, CameraPath(target.cameras, target.times, truth=target.images)
    world = fit_world_frame(cameras.camtoworld[list(frames)], method=pose_normalization)
    seconds = torch.tensor([frame.time_s for frame in info.frames], dtype=torch.float64)
    times = (seconds - seconds[0]) / (seconds[-1] - seconds[0]).clamp_min(1e-9)
    window = float(times[list(frames)].min()), float(times[list(frames)].max())
    poses = world.apply(cameras.camtoworld).float()
    return example.scene, example.context, _plan(cfg, example.context, poses, file=file, world=world, window=window)


def _open_synthetic_path(cfg: DictConfig, scene: str, *, file: PathFile | None) -> tuple[str, Views, CameraPath]:
    """The id, context and path of a synthetic scene, with the ground truth."""
    dataset, index = open_synthetic(cfg, scene)
    if cfg.trajectory == RECORDED:
        raise ValueError(
            f"trajectory={RECORDED} needs a scene file, which has recorded cameras; choose another path, all of which "
            "have a ground truth in the synthetic world (side_by_side=true)"
        )
    example = dataset[index]
    poses = torch.cat([example.context.cameras.camtoworld, example.target.cameras.camtoworld])
    path = _plan(cfg, example.context, poses, file=file)
    return example.scene, example.context, replace(path, truth=dataset.render(index, path.cameras, path.times))


def _plan(
    cfg: DictConfig,
    context: Views,
    scene_poses: Float[Tensor, "frame 4 4"],
    *,
    file: PathFile | None,
    world: WorldFrame | None = None,
    window: tuple[float, float] = (0.0, 1.0),
) -> CameraPath:
    time, output_size = plain(cfg, "time"), plain(cfg, "output_size")
    if file is not None:
        path = follow_file(file, context, world=world, window=window, time=time, output_size=output_size)
    else:
        path = plan_path(
            context,
            cfg.trajectory,
            num_views=_num_views(cfg),
            options=plain(cfg, "trajectory_options"),
            time=time,
            output_size=output_size,
            scene_poses=scene_poses,
        )
    focus = focus_point(context.cameras, scene_poses=scene_poses)
    num_elsewhere = int(looks_elsewhere(path.cameras, context.cameras, focus=focus).sum())
    if num_elsewhere:
        log.warning(
            "%d of %d frames look where no context view looked; choose a shorter path (trajectory_options) or further "
            "context frames (context=[...])",
            num_elsewhere,
            len(path.times),
        )
    return path


def _num_views(cfg: DictConfig) -> int:
    return NUM_VIEWS if cfg.num_views is None else cfg.num_views


def _refuse(cfg: DictConfig, *names: str, reason: str) -> None:
    for name in names:
        if cfg[name] is not None:
            raise ValueError(
                f"{name}={cfg[name]} has no effect with trajectory={cfg.trajectory}, {reason}; leave it out"
            )


if __name__ == "__main__":
    main()
