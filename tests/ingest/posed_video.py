"""Render a video of a room with known cameras."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from wnv.scenes.undistort import Distortion

# Half sizes of the room in metres (x, y down, z), and the boxes that stand in it: centre, half sizes.
_ROOM = np.array([3.0, 1.5, 3.5])
_BOXES = (
    (np.array([-1.3, 0.8, 1.6]), np.array([0.5, 0.7, 0.4])),
    (np.array([1.2, 0.5, 2.0]), np.array([0.4, 1.0, 0.5])),
    (np.array([0.1, 1.0, 1.2]), np.array([0.35, 0.5, 0.35])),
)
_TEXELS_PER_METRE = 110
_TEXTURE_SIZE = 1024


@dataclass(frozen=True)
class PosedVideo:
    """A video and its true cameras."""

    path: Path
    fps: Fraction
    width: int
    height: int
    K: np.ndarray
    distortion: Distortion
    camtoworlds: np.ndarray


def render_room(
    path: Path,
    *,
    num_frames: int = 24,
    width: int = 480,
    height: int = 270,
    focal_over_width: float = 0.9,
    k1: float = -0.06,
    fps: Fraction = Fraction(10),
    path_m: float = 1.6,
    turn_only: bool = False,
    walker: bool = False,
    draw: Callable[[np.ndarray, int], None] | None = None,
    supersample: int = 2,
    seed: int = 0,
) -> PosedVideo:
    """Render the room to `path` as a clip: H.264, constant rate, nearly lossless.

    The camera moves along an arc of `path_m` meters and looks at the far wall; with `turn_only` it only rotates. With
    `walker` a textured box moves through the image. `draw` draws into each image, given its
    index. `supersample` is the number of rays per pixel and axis.
    """
    focal = focal_over_width * width
    K = np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    distortion = Distortion(k1=k1)
    camtoworlds = np.stack([_camera(share, path_m, turn_only) for share in np.linspace(0, 1, num_frames)])
    rays = _pixel_rays(K, distortion, width, height, supersample)
    textures = [_texture(np.random.default_rng([seed, face])) for face in range(6)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "10", "g": "12", "bf": "0", "preset": "veryfast"}
        stream.thread_count = 1
        for index, camtoworld in enumerate(camtoworlds):
            boxes = [*_BOXES]
            if walker:
                x = -1.4 + 2.8 * index / max(1, num_frames - 1)
                boxes.append((np.array([x, 0.5, 0.6]), np.array([0.3, 0.6, 0.2])))
            image = _render(camtoworld, rays, boxes, textures)
            if supersample > 1:
                image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            if draw is not None:
                draw(image, index)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return PosedVideo(path, fps, width, height, K, distortion, camtoworlds)


def similarity_errors(found: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Align by a similarity; return the largest position error over path extent, and rotation error in degrees."""
    a, b = found[:, :3, 3], true[:, :3, 3]
    a0, b0 = a - a.mean(axis=0), b - b.mean(axis=0)
    left, sizes, right = np.linalg.svd(b0.T @ a0)
    sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = left @ sign @ right
    scale = (sizes * np.diag(sign)).sum() / (a0**2).sum()
    extent = np.linalg.norm(b.max(axis=0) - b.min(axis=0))
    position = np.linalg.norm(scale * a0 @ rotation.T - b0, axis=-1).max() / extent
    relative = np.einsum("nji,njk->nik", rotation @ found[:, :3, :3], true[:, :3, :3])
    angles = np.degrees(np.arccos(np.clip((np.trace(relative, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    return float(position), float(angles.max())


def _camera(share: float, path_m: float, turn_only: bool) -> np.ndarray:
    across = share - 0.5
    position = np.array([across * path_m, 0.15 * path_m * np.sin(4 * share), -1.6 + 0.5 * path_m * across**2])
    if turn_only:
        position = np.array([0.0, 0.0, -1.6])
        target = np.array([2.0 * across, 0.2, 2.0])
    else:
        target = np.array([0.5 * across, 0.3, 2.0])
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    camtoworld = np.eye(4)
    camtoworld[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=-1)
    camtoworld[:3, 3] = position
    return camtoworld


def _pixel_rays(K: np.ndarray, distortion: Distortion, width: int, height: int, fine: int) -> np.ndarray:
    """Return rays (x, y, 1) through the lens for an image `fine` times the resolution."""
    x, y = np.meshgrid((np.arange(fine * width) + 0.5) / fine, (np.arange(fine * height) + 0.5) / fine)
    bent = np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1]], axis=-1)
    straight = bent.copy()
    for _ in range(20):
        straight = bent / (1 + distortion.k1 * (straight**2).sum(axis=-1, keepdims=True))
    return np.concatenate([straight, np.ones_like(x)[..., None]], axis=-1).astype(np.float32)


def _texture(rng: np.random.Generator) -> np.ndarray:
    """Return a texture with blobs of many sizes, for SIFT."""
    texture = np.zeros((_TEXTURE_SIZE, _TEXTURE_SIZE, 3), dtype=np.float32)
    for cells in (8, 24, 64, 128, 256):
        noise = rng.random((cells, cells, 3), dtype=np.float32) - 0.5
        texture += cv2.resize(noise, (_TEXTURE_SIZE, _TEXTURE_SIZE), interpolation=cv2.INTER_CUBIC)
    return np.clip(127.5 + 130 * texture, 0, 255).astype(np.uint8)


def _render(
    camtoworld: np.ndarray,
    rays: np.ndarray,
    boxes: list[tuple[np.ndarray, np.ndarray]],
    textures: list[np.ndarray],
) -> np.ndarray:
    directions = rays @ camtoworld[:3, :3].T.astype(np.float32)
    origin = camtoworld[:3, 3].astype(np.float32)
    nearest = np.full(rays.shape[:2], np.inf)
    image = np.zeros((*rays.shape[:2], 3), dtype=np.uint8)
    for number, (centre, half) in enumerate([(np.zeros(3), _ROOM), *boxes]):
        inside = number == 0
        with np.errstate(divide="ignore"):
            one, other = ((centre + side * half - origin) / directions for side in (-1, 1))
        enter, leave = np.minimum(one, other), np.maximum(one, other)
        distance = leave.min(axis=-1) if inside else enter.max(axis=-1)
        axis = leave.argmin(axis=-1) if inside else enter.argmax(axis=-1)
        hit = (distance > 0) & (distance < nearest)
        if not inside:
            hit &= enter.max(axis=-1) < leave.min(axis=-1)
        nearest = np.where(hit, distance, nearest)
        local = origin + directions * np.where(hit, distance, 0)[..., None] - centre
        for face in range(3):
            for far in (False, True):
                there = hit & (axis == face) & ((local[..., face] > 0) == far)
                if there.any():
                    u, v = (local[..., other][there] + number for other in range(3) if other != face)
                    image[there] = _look_up(textures[2 * face + far], u, v)
    return image


def _look_up(texture: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    x = (u * _TEXELS_PER_METRE + _TEXTURE_SIZE / 2).astype(np.float32)[None]
    y = (v * _TEXELS_PER_METRE + _TEXTURE_SIZE / 2).astype(np.float32)[None]
    rows = 32766  # limit of cv2
    parts = [
        cv2.remap(texture, x[:, i : i + rows], y[:, i : i + rows], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)[0]
        for i in range(0, x.shape[1], rows)
    ]
    return np.concatenate(parts)
