"""Points of a scene, for example of structure from motion, stored as a binary PLY file."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8

from wnv.scenes.schema import SceneError

_VERTEX = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])
_HEADER = (
    "ply\nformat binary_little_endian 1.0\nelement vertex {count}\n"
    "property float x\nproperty float y\nproperty float z\n"
    "property uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n"
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Points:
    """Colored points.

    Attributes:
        xyz: Positions in the world frame, scene units; stored as float32.
        rgb: Colors.
    """

    xyz: Float64[np.ndarray, "point 3"]
    rgb: UInt8[np.ndarray, "point 3"]

    def __len__(self) -> int:
        return len(self.xyz)


def points_to_ply(points: Points) -> bytes:
    """Encode points as a PLY file."""
    vertices = np.empty(len(points), dtype=_VERTEX)
    vertices["xyz"], vertices["rgb"] = points.xyz, points.rgb
    return _HEADER.format(count=len(points)).encode() + vertices.tobytes()


def points_from_ply(data: bytes, *, where: str) -> Points:
    """Decode a PLY file of `points_to_ply`.

    Raises:
        SceneError: If it has another layout or length, or a position is not finite.
    """
    head, separator, body = data.partition(b"end_header\n")
    count = len(body) // _VERTEX.itemsize
    if head + separator != _HEADER.format(count=count).encode() or len(body) != count * _VERTEX.itemsize:
        raise SceneError(
            f"{where} must be a binary little-endian PLY file of vertices with float x, y, z and uchar red, green, "
            "blue; write the scene again"
        )
    vertices = np.frombuffer(body, dtype=_VERTEX)
    if not np.isfinite(vertices["xyz"]).all():
        raise SceneError(f"{where} holds points that are not finite; write the scene again")
    return Points(xyz=vertices["xyz"].astype(np.float64), rgb=vertices["rgb"].copy())
