"""How much of the speed of bare JPEG decoding is left when examples are sampled from scene files, and from clips."""

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from wnv.benchmarks.tables import Table
from wnv.data.sample_order import SampleOrder
from wnv.data.scene_dataset import SceneDataset
from wnv.data.view_sampling import BoundedSampler
from wnv.ingest.clip.write_clip import write_clip
from wnv.scenes.clip_poses import ClipPoses, PosedFrame, write_poses
from wnv.scenes.index import build_index
from wnv.scenes.scene_file import SceneFile
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.undistort import Distortion
from wnv.scenes.video import Decoder

_FPS = Fraction(30)
_STEP = 5  # frames of the clip from one pose to the next
_NUM_CONTEXT = 2


def run(
    *,
    num_scenes: int = 6,
    num_frames: int = 48,
    stored_size: Sequence[int] = (360, 640),
    image_size: Sequence[int] = (256, 256),
    num_views: int = 8,
    zoom_range: Sequence[float | int] = (1.0, 3.0),
    quality: int = 95,
    num_examples: int = 48,
    num_clip_examples: int = 12,
    repeats: int = 5,
) -> Table:
    """Time all sides in turns on one thread, in processor time, on scenes made for it.

    The bare loop is what cannot be saved: of files that are nothing but the JPEGs, it opens one, decodes all of it with
    Pillow and makes an array of the pixels; no resizing, no cameras. OpenCV, which scene files are decoded by, is
    faster at that, and stands beside it. Sampling gives examples as training takes them: frames chosen, read from the
    zip, checked against their checksum, decoded, cropped, resampled, made float, with cameras in a common frame.
    `first visit` has every scene opened anew, `again` has them open, as from the second epoch on. From clips the same
    frames are decoded from H.264 with a key frame every 12, and undistorted.

    Args:
        num_scenes: Scenes made.
        num_frames: Frames with a pose a scene.
        stored_size: Height and width of the stored images in pixels, even numbers.
        image_size: Height and width of the views in pixels.
        num_views: Views an example: two context views, the rest targets.
        zoom_range: Smallest and largest zoom; the smallest is measured as a side of its own if the two differ.
        quality: JPEG quality.
        num_examples: Examples timed a repeat.
        num_clip_examples: Examples from clips timed a repeat.
        repeats: Timed runs of each side; the median counts.

    Raises:
        ValueError: If there are too few frames or views.
    """
    if num_views <= _NUM_CONTEXT or num_frames <= num_views:
        raise ValueError(
            f"num_views must be over {_NUM_CONTEXT} and under num_frames, got {num_views} and {num_frames}"
        )
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            jpegs = _make_scenes(Path(folder), num_scenes, num_frames, stored_size, quality)
            sampler = BoundedSampler(
                num_context=_NUM_CONTEXT,
                num_target=num_views - _NUM_CONTEXT,
                min_gap=num_views,
                max_gap=num_frames // 2,
            )
            settings = {"sampler": sampler, "image_size": image_size}

            def sampling(part: str, zoom: Sequence[float | int], *, decoder: Decoder = "auto") -> SceneDataset:
                return SceneDataset(root=Path(folder) / part, zoom_range=zoom, decoder=decoder, **settings)

            sides: dict[str, Callable[[], int]] = {
                "bare loop: decode to arrays": _bare(jpegs, num_examples * num_views, _decode),
                "bare loop, by OpenCV": _bare(jpegs, num_examples * num_views, _decode_by_opencv),
                "bare loop, and resized": _bare(jpegs, num_examples * num_views, partial(_resize, image_size)),
            }
            zooms = {f"zoom {zoom_range[0]:g}": (zoom_range[0], zoom_range[0])}
            if zoom_range[0] != zoom_range[1]:
                zooms[f"zoom {zoom_range[0]:g} to {zoom_range[1]:g}"] = tuple(zoom_range)
            for name, zoom in zooms.items():
                sides[f"scene files, {name}, first visit"] = _sample(
                    lambda zoom=zoom: sampling("scenes", zoom), num_examples, num_views, warm=False
                )
                sides[f"scene files, {name}, again"] = _sample(
                    lambda zoom=zoom: sampling("scenes", zoom), num_examples, num_views, warm=True
                )
            for decoder in [name for name in ("decord", "pyav") if name == "pyav" or find_spec(name)]:
                sides[f"clips, {decoder}, zoom {zoom_range[0]:g}"] = _sample(
                    lambda decoder=decoder: sampling("clips", (zoom_range[0], zoom_range[0]), decoder=decoder),
                    num_clip_examples,
                    num_views,
                    warm=True,
                )
            speeds = _time_in_turns(sides, repeats)
    finally:
        torch.set_num_threads(num_threads)
    bare = speeds["bare loop: decode to arrays"]
    rows = [
        (name, f"{speed:.0f}", f"{speed / num_views:.1f}", f"{100 * speed / bare:.0f} %")
        for name, speed in speeds.items()
    ]
    title = (
        f"{num_views} views of {image_size[0]} x {image_size[1]} from JPEGs of {stored_size[0]} x {stored_size[1]} "
        f"(height x width), {num_frames} frames a scene, one thread, seconds of processor time"
    )
    columns = ("what", "frames/s", f"examples of {num_views}/s", "of the bare loop")
    return Table(title=title, columns=columns, rows=rows, figures=dict(speeds))


def _make_scenes(
    folder: Path, num_scenes: int, num_frames: int, stored_size: Sequence[int], quality: int
) -> list[Path]:
    """Scene files, clips with poses, and every JPEG of the scene files as a file of its own; gives the last."""
    height, width = stored_size
    jpegs = []
    for number in range(num_scenes):
        video = list(_film(number, num_frames, height=height, width=width))
        K = np.array([[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1]])
        poses = ClipPoses(
            id=f"scene{number:03d}",
            kind="static",
            width=width,
            height=height,
            fps=_FPS,
            K=K,
            distortion=Distortion(k1=-0.05),
            frames=tuple(
                PosedFrame(index=_STEP * index, time_s=float(_STEP * index / _FPS), camtoworld=_camera(index))
                for index in range(num_frames)
            ),
        )
        clip = folder / "clips" / f"{poses.id}.mp4"
        write_clip(clip, (image for image, _ in video), fps=_FPS, gop=12, crf=18, preset="veryfast", threads=1)
        write_poses(clip.with_suffix(".json"), poses)
        path = write_scene(
            folder / "scenes", poses.scene_info(K), (image for image, posed in video if posed), quality=quality
        )
        scene = SceneFile(path)
        for index in range(num_frames):
            jpegs.append(folder / "jpegs" / f"{poses.id}_{index:03d}.jpg")
            jpegs[-1].parent.mkdir(exist_ok=True)
            jpegs[-1].write_bytes(scene.image_bytes(index))
    build_index(folder / "scenes")
    return jpegs


def _film(
    seed: int, num_posed: int, *, height: int, width: int
) -> Iterator[tuple[UInt8[np.ndarray, "height width 3"], bool]]:
    """A camera's way over a painted wall with detail of every size, and whether each frame has a pose."""
    random = np.random.default_rng(seed)
    num_frames = _STEP * (num_posed - 1) + 1
    wall_size = (width + 2 * num_frames, height + num_frames)
    wall = np.zeros((wall_size[1], wall_size[0], 3), dtype=np.float32)
    for pitch in (2, 4, 8, 16, 32, 64):
        cells = random.normal(size=(wall_size[1] // pitch + 1, wall_size[0] // pitch + 1, 3)).astype(np.float32)
        wall += pitch**0.7 * cv2.resize(cells, wall_size, interpolation=cv2.INTER_CUBIC)
    wall = ((wall - wall.min()) / (wall.max() - wall.min()) * 255).astype(np.uint8)
    for index in range(num_frames):
        yield np.ascontiguousarray(wall[index : index + height, 2 * index : 2 * index + width]), index % _STEP == 0


def _camera(index: int) -> np.ndarray:
    camtoworld = np.eye(4)
    camtoworld[:3, 3] = [0.1 * index, 0.05 * index, 0.0]
    return camtoworld


def _bare(jpegs: list[Path], num_images: int, decode: Callable[[Path], np.ndarray]) -> Callable[[], int]:
    order = torch.randperm(len(jpegs), generator=torch.Generator().manual_seed(0)).tolist()
    chosen = [jpegs[index] for index in (order * (num_images // len(order) + 1))[:num_images]]

    def loop() -> int:
        for path in chosen:
            decode(path)
        return len(chosen)

    return loop


def _decode(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def _decode_by_opencv(path: Path) -> np.ndarray:
    return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)


def _resize(image_size: Sequence[int], path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.resize((image_size[1], image_size[0]), Image.Resampling.BILINEAR))


def _sample(make: Callable[[], SceneDataset], num_examples: int, num_views: int, *, warm: bool) -> Callable[[], int]:
    dataset = make()

    def draw(data: SceneDataset, count: int) -> None:
        order = iter(SampleOrder(len(data), seed=0))
        for _ in range(count):
            data[next(order)]

    if warm:
        draw(dataset, len(dataset))

    def sample() -> int:
        if warm:
            draw(dataset, num_examples)
            return num_views * num_examples
        # Every scene once, as an epoch over more scenes than are kept open goes.
        rounds = -(-num_examples // len(dataset))
        for _ in range(rounds):
            draw(copy.deepcopy(dataset), len(dataset))  # of one that has opened nothing yet
        return num_views * rounds * len(dataset)

    return sample


def _time_in_turns(sides: dict[str, Callable[[], int]], repeats: int) -> dict[str, float]:
    """Frames per second of processor time, the median of each side."""
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, side in sides.items():
            start = time.process_time()
            count = side()
            if turn > 0:  # the first is to warm up
                speeds[name].append(count / (time.process_time() - start))
    return {name: statistics.median(values) for name, values in speeds.items()}
