"""Inputs of the README's commands: captures, scene files, videos and a list of videos."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from posed_video import render_room

from wnv.evaluation.images import to_u8
from wnv.evaluation.path_file import PathCamera, PathFile, format_path
from wnv.ingest.manifest.manifest import make_manifest
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import Frame, SceneInfo
from wnv.scenes.video import open_video
from wnv.synthetic.dataset import SyntheticDataset
from wnv.synthetic.render import render_images


def photograph_room(
    *, seed: int, height: int, width: int, num_frames: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A walk through a synthetic room: images in bytes, K and camtoworld of each frame."""
    dataset = SyntheticDataset(
        num_scenes=1, seed=seed, image_size=(height, width), num_context=1, num_target=num_frames
    )
    sample = dataset.sample([0])
    cameras, times = sample.cameras[:, 1:], sample.times[:, 1:]  # after the context
    images = render_images(sample.world, cameras, times)[0]
    return to_u8(images), cameras.K[0].double().numpy(), cameras.camtoworld[0].double().numpy()


def write_room(folder: Path, *, seed: int) -> None:
    """A scene file, long enough for the context gaps of training on clips."""
    images, K, camtoworld = photograph_room(seed=seed, height=32, width=48, num_frames=30)
    frames = tuple(Frame(time_s=i, K=K[i], camtoworld=camtoworld[i]) for i in range(len(images)))
    write_scene(folder, SceneInfo(id=f"room{seed}", kind="static", width=48, height=32, frames=frames), list(images))


def write_films(place: Path) -> None:
    """A phone video, and a list of two videos, which belong to different splits."""
    for seed, name in ((21, "phone_videos/desk.mp4"), (23, "kokoni_videos/room1.mp4"), (24, "kokoni_videos/room2.mp4")):
        path = place / name
        path.parent.mkdir(exist_ok=True)
        render_room(path, num_frames=24, width=224, height=126, supersample=1, fps=Fraction(8), seed=seed)
    (place / "photos").mkdir()
    with open_video(place / "phone_videos" / "desk.mp4") as film:
        for number, image in enumerate(film.read(range(0, 24, 2))):
            Image.fromarray(image).save(place / "photos" / f"{number}.jpg", quality=95)
    make_manifest([place / "kokoni_videos"], kind="static", out=place / "kokoni.jsonl")
    (place / "kokoni.jsonl.report.json").unlink()
    (place / "cookies.txt").write_text("# Netscape HTTP Cookie File\n")


def write_capture(folder: Path) -> None:
    """Upright photographs as nerfstudio lists them: OpenGL axes, and a lens that bends."""
    images, K, camtoworld = photograph_room(seed=4, height=160, width=90, num_frames=16)
    (folder / "images").mkdir(parents=True)
    path = [PathCamera(torch.from_numpy(pose), fov_y=1.0) for pose in camtoworld[:3]]
    (folder.parents[1] / "fox-path.json").write_text(format_path(PathFile(path, path, aspect=0.5625, fps=24)))
    frames = []
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / "images" / f"{i:04d}.jpg", quality=95)
        opengl = camtoworld[i] @ np.diag([1.0, -1.0, -1.0, 1.0])
        frames.append({"file_path": f"images/{i:04d}.jpg", "transform_matrix": opengl.tolist()})
    lens = {"fl_x": K[0, 0, 0], "fl_y": K[0, 1, 1], "cx": K[0, 0, 2], "cy": K[0, 1, 2], "w": 90, "h": 160}
    lens |= {"k1": 0.058, "k2": -0.081, "p1": -0.001, "p2": 0.0002}
    (folder / "transforms.json").write_text(json.dumps({**lens, "frames": frames}))
