"""A drawing of a camera path: seen from above, along its two main directions."""

import numpy as np
from jaxtyping import Float64

from wnv.pages.markup import Markup, element

_SIDE, _MARGIN = 200, 30
_MAX_POINTS = 160
_MAX_CAMERAS = 9
_LOOK = 20.0  # length of a viewing direction in the drawing
_HALF_ANGLE = 0.42  # of the wedge that a camera is drawn as, radians


def path_length(camtoworld: Float64[np.ndarray, "frame 4 4"]) -> float:
    """How far the camera goes from frame to frame, in scene units."""
    return float(np.linalg.norm(np.diff(camtoworld[:, :3, 3], axis=0), axis=1).sum())


def draw_path(camtoworld: Float64[np.ndarray, "frame 4 4"], *, label: str) -> Markup:
    """The path as a line from a filled dot (first camera) to a ring (last), with wedges that open where cameras look.

    Right and up in the drawing are the two directions in which the path extends most, seen from the side that the
    cameras' tops point to, so that nothing is mirrored; a path that does not move is drawn as one place.

    Args:
        camtoworld: world<-camera of each frame, OpenCV axes, scene units.
        label: What the drawing is, for those who cannot see it.
    """
    axes = _main_axes(camtoworld)
    points = (camtoworld[:, :3, 3] - camtoworld[:, :3, 3].mean(axis=0)) @ axes.T
    low, high = points.min(axis=0), points.max(axis=0)
    extent = float((high - low).max())
    scale = (_SIDE - 2 * _MARGIN) / extent if extent > 0 else 0.0
    drawn = (points - (low + high) / 2) * scale * (1, -1) + _SIDE / 2  # up in the drawing is minus y in SVG
    looks = camtoworld[:, :3, 2] @ axes.T * (1, -1)

    shapes = [
        element("path", class_="camera", d=_wedge(drawn[index], looks[index]))
        for index in _spread(len(drawn), _MAX_CAMERAS)
    ]
    line = drawn[_spread(len(drawn), _MAX_POINTS)]
    shapes.append(element("polyline", class_="path", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in line)))
    (first_x, first_y), (last_x, last_y) = drawn[0], drawn[-1]
    shapes.append(element("circle", class_="last", cx=f"{last_x:.1f}", cy=f"{last_y:.1f}", r=4.5))
    shapes.append(
        element("circle", element("title", "start"), class_="first", cx=f"{first_x:.1f}", cy=f"{first_y:.1f}", r=5)
    )
    return element("svg", *shapes, class_="cameras", viewBox=f"0 0 {_SIDE} {_SIDE}", role="img", aria_label=label)


def _main_axes(camtoworld: Float64[np.ndarray, "frame 4 4"]) -> Float64[np.ndarray, "2 3"]:
    """Unit vectors of the world that go right and up in the drawing."""
    positions, up, look = camtoworld[:, :3, 3], -camtoworld[:, :3, 1].mean(axis=0), camtoworld[:, :3, 2].mean(axis=0)
    spread = positions - positions.mean(axis=0)
    # Views settle what positions leave open (a straight path, or none), and are too faint to matter otherwise.
    faint = 1e-3 * float(np.abs(spread).max()) or 1.0
    directions = np.vstack([spread, faint * (look - look @ up * up), 0.1 * faint * np.cross(look, up)])
    _, columns = np.linalg.eigh(directions.T @ directions)  # the smallest first
    right, forward = columns[:, 2], columns[:, 1]
    if np.cross(right, forward) @ up < 0:
        forward = -forward
    # Half a turn mirrors nothing: the cameras look up the page, or else to the right.
    toward = look @ forward if abs(look @ forward) > abs(look @ right) else look @ right
    return np.stack([right, forward]) * (-1.0 if toward < 0 else 1.0)


def _spread(count: int, most: int) -> list[int]:
    """At most so many of 0..count-1, evenly, the first and the last among them."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})


def _wedge(at: Float64[np.ndarray, " 2"], look: Float64[np.ndarray, " 2"]) -> str:
    angle, reach = np.arctan2(look[1], look[0]), _LOOK * min(1.0, float(np.hypot(*look)))
    corners = [
        at + reach * np.array([np.cos(angle + turn), np.sin(angle + turn)]) for turn in (-_HALF_ANGLE, _HALF_ANGLE)
    ]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in (at, *corners)) + "Z"
