"""Speed of sampling examples from scene files and from clips, relative to bare JPEG decoding."""

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from wnv.benchmarks.tables import Table
from wnv.benchmarks.timing import measure_in_turns, seconds_of
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
_STEP = 5  # frames of the clip per posed frame
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
    """Time all cases in turns, in processor time of one thread, on scenes generated for it.

    The bare loop is the lower bound: it opens JPEG files, decodes them with Pillow and converts the pixels to arrays,
    without resizing or cameras. OpenCV, which decodes scene files, is faster and is listed too. Sampling makes examples
    as in training: choose frames, read them from the zip, verify checksums, decode, crop, resample, convert to float,
    and bring the cameras into a common frame. `first visit` opens every scene, `again` finds them open, as from the
    second epoch on. From clips the same frames are decoded from H.264, with a key frame every 12, and undistorted.

    Args:
        num_scenes: Number of scenes.
        num_frames: Posed frames per scene.
        stored_size: Height and width of the stored images in pixels, even numbers.
        image_size: Height and width of the views in pixels.
        num_views: Views per example: two context views, the rest targets.
        zoom_range: Smallest and largest zoom; if they differ, the smallest is also measured alone.
        quality: JPEG quality.
        num_examples: Examples per timed run.
        num_clip_examples: Examples from clips per timed run.
        repeats: Timed runs per case; the table shows the median.

    Raises:
        ValueError: If there are too few frames or views.
    """
    if num_views <= _NUM_CONTEXT or num_frames <= num_views:
        raise ValueError(f"num_views must be over {_NUM_CONTEXT} and under num_frames={num_frames}, got {num_views}")
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
            num_images = num_examples * num_views
            cases: dict[str, tuple[int, Callable[[], object]]] = {
                "bare loop: decode to arrays": (num_images, _bare(jpegs, num_images, _decode)),
                "bare loop, by OpenCV": (num_images, _bare(jpegs, num_images, _decode_by_opencv)),
                "bare loop, and resized": (num_images, _bare(jpegs, num_images, partial(_resize, image_size))),
            }
            smallest, largest = zoom_range
            zooms = {f"zoom {smallest:g}": (smallest, smallest)}
            if smallest != largest:
                zooms[f"zoom {smallest:g} to {largest:g}"] = (smallest, largest)
            for name, zoom in zooms.items():
                dataset = SceneDataset(
                    root=Path(folder) / "scenes", sampler=sampler, image_size=image_size, zoom_range=zoom
                )
                # Every scene once, as in an epoch over more scenes than are kept open.
                rounds = -(-num_examples // len(dataset))
                closed = copy.deepcopy(dataset)
                cases[f"scene files, {name}, first visit"] = (
                    num_views * rounds * len(dataset),
                    partial(_read_first, closed, rounds),
                )
                _read(dataset, len(dataset))
                cases[f"scene files, {name}, again"] = (num_images, partial(_read, dataset, num_examples))
            decoders: tuple[Decoder, ...] = ("decord", "pyav") if find_spec("decord") else ("pyav",)
            for decoder in decoders:
                dataset = SceneDataset(
                    root=Path(folder) / "clips",
                    sampler=sampler,
                    image_size=image_size,
                    zoom_range=(smallest, smallest),
                    decoder=decoder,
                )
                _read(dataset, len(dataset))
                cases[f"clips, {decoder}, zoom {smallest:g}"] = (
                    num_views * num_clip_examples,
                    partial(_read, dataset, num_clip_examples),
                )
            seconds = measure_in_turns(
                {name: partial(seconds_of, call, time.process_time) for name, (_, call) in cases.items()},
                repeats=repeats,
            )
    finally:
        torch.set_num_threads(num_threads)
    speeds = {name: num_frames_read / statistics.median(seconds[name]) for name, (num_frames_read, _) in cases.items()}
    bare = speeds["bare loop: decode to arrays"]
    rows = [
        (name, f"{speed:.0f}", f"{speed / num_views:.1f}", f"{100 * speed / bare:.0f} %")
        for name, speed in speeds.items()
    ]
    title = (
        f"{num_views} views of {image_size[0]} x {image_size[1]} from JPEGs of {stored_size[0]} x {stored_size[1]} "
        f"(height x width), {num_frames} frames per scene, one thread, seconds of processor time"
    )
    columns = ("what", "frames/s", f"examples of {num_views}/s", "of the bare loop")
    return Table(title=title, columns=columns, rows=rows, figures=dict(speeds))


def _make_scenes(
    folder: Path, num_scenes: int, num_frames: int, stored_size: Sequence[int], quality: int
) -> list[Path]:
    """Write scene files, posed clips, and every JPEG of the scene files as a separate file; return the JPEGs."""
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
    """Images of a camera that moves over a wall with detail of every size, and whether each has a pose."""
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


def _bare(jpegs: list[Path], num_images: int, decode: Callable[[Path], np.ndarray]) -> Callable[[], object]:
    order = torch.randperm(len(jpegs), generator=torch.Generator().manual_seed(0)).tolist()
    chosen = [jpegs[index] for index in (order * (num_images // len(order) + 1))[:num_images]]

    def loop() -> None:
        for path in chosen:
            decode(path)

    return loop


def _decode(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def _decode_by_opencv(path: Path) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR))


def _resize(image_size: Sequence[int], path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.resize((image_size[1], image_size[0]), Image.Resampling.BILINEAR))


def _read(dataset: SceneDataset, num_examples: int) -> None:
    for key in islice(SampleOrder(len(dataset), seed=0), num_examples):
        dataset[key]


def _read_first(dataset: SceneDataset, rounds: int) -> None:
    for _ in range(rounds):
        _read(copy.deepcopy(dataset), len(dataset))  # the copy has opened no scene yet
