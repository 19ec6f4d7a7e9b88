"""A camera path through keyframes, and its file."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from wnv.evaluation.path_file import PathCamera, PathFile
from wnv.geometry.trajectories import interpolate
from wnv.viewer.camera import vertical_fov
from wnv.viewer.scenes import ViewerScene
from wnv.viewer.session import ViewRequest


def smooth_path(keyframes: Sequence[ViewRequest], *, num_frames: int) -> list[ViewRequest]:
    """Move smoothly through keyframes of one scene in equal times, from the context of the first."""
    cameras = [replace(keyframe.camera, aspect=1.0).pinhole() for keyframe in keyframes]
    K, poses = (torch.cat([getattr(camera, name) for camera in cameras]) for name in ("K", "camtoworld"))
    path = interpolate(replace(cameras[0], K=K, camtoworld=poses), num_views=num_frames)
    places = np.linspace(0, len(keyframes) - 1, num_frames)
    times = np.interp(places, np.arange(len(keyframes)), [keyframe.time for keyframe in keyframes])
    first = keyframes[0]
    return [
        replace(first, camera=replace(first.camera, camtoworld=pose, fov_y=fov), time=time)
        for pose, fov, time in zip(path.camtoworld, vertical_fov(path).tolist(), times.tolist(), strict=True)
    ]


def path_to_file(
    keyframes: Sequence[ViewRequest], frames: Sequence[ViewRequest], scene: ViewerScene, *, fps: float | int
) -> PathFile:
    """Describe a path in the scene's own world."""
    first, last = float(scene.times.min()), float(scene.times.max())

    def camera(request: ViewRequest) -> PathCamera:
        share = (request.time - first) / (last - first) if scene.is_dynamic and last > first else None
        pose = scene.shown_world.undo(request.camera.camtoworld[None])[0]
        return PathCamera(pose, fov_y=request.camera.fov_y, time=share)

    return PathFile(
        frames=[camera(request) for request in frames],
        keyframes=[camera(request) for request in keyframes],
        aspect=frames[0].camera.aspect,
        fps=fps,
    )


def path_from_file(file: PathFile, scene: ViewerScene, current: ViewRequest) -> tuple[list[ViewRequest], float]:
    """Read the keyframes of a path, or its frames if it has none, and the seconds from one to the next."""
    first, last = float(scene.times.min()), float(scene.times.max())
    cameras = file.keyframes or file.frames
    poses = scene.shown_world.apply(torch.stack([camera.camtoworld for camera in cameras]))
    requests = [
        replace(
            current,
            camera=replace(current.camera, camtoworld=pose, fov_y=camera.fov_y),
            time=current.time if camera.time is None else first + camera.time * (last - first),
        )
        for pose, camera in zip(poses, cameras, strict=True)
    ]
    return requests, len(file.frames) / file.fps / max(1, len(cameras) - 1)
