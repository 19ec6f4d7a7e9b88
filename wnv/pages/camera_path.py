"""Camera paths as inline SVG, seen from above."""

import numpy as np
from jaxtyping import Float64
from markupsafe import Markup

_SIDE, _MARGIN = 200, 30
_MAX_POINTS = 160
_MAX_CAMERAS = 9
_REACH = 20.0  # length of the wedge that marks a camera
_HALF_ANGLE = 0.42  # of the wedge, radians


def path_length(camtoworld: Float64[np.ndarray, "frame 4 4"]) -> float:
    """Sum the distances from frame to frame, in scene units."""
    return float(np.linalg.norm(np.diff(camtoworld[:, :3, 3], axis=0), axis=1).sum())


def camera_path(camtoworld: Float64[np.ndarray, "frame 4 4"], *, label: str) -> Markup:
    """Plot the path as a line from a dot (first camera) to a ring (last), with wedges that open where cameras look.

    Right and up are the two directions in which the path extends most, seen from the side that the cameras' tops point
    to, so that nothing is mirrored. A path that does not move is a single place.

    Args:
        camtoworld: world<-camera per frame, OpenCV axes, scene units.
        label: Description for screen readers.
    """
    axes = _main_axes(camtoworld)
    points = camtoworld[:, :3, 3] @ axes.T
    low, high = points.min(axis=0), points.max(axis=0)
    extent = float((high - low).max())
    scale = (_SIDE - 2 * _MARGIN) / extent if extent > 0 else 0.0
    points = (points - (low + high) / 2) * scale * (1, -1) + _SIDE / 2  # y points down in SVG
    looks = camtoworld[:, :3, 2] @ axes.T * (1, -1)

    wedge = Markup('<path class="camera" d="{}"/>')
    shapes = [wedge.format(_wedge(points[i], looks[i])) for i in _spread(len(points), _MAX_CAMERAS)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points[_spread(len(points), _MAX_POINTS)])
    shapes.append(Markup('<polyline class="path" points="{}"/>').format(line))
    shapes.append(Markup('<circle class="last" cx="{:.1f}" cy="{:.1f}" r="4.5"/>').format(*points[-1]))
    first = Markup('<circle class="first" cx="{:.1f}" cy="{:.1f}" r="5"><title>start</title></circle>')
    shapes.append(first.format(*points[0]))
    svg = Markup('<svg class="cameras" viewBox="0 0 {0} {0}" role="img" aria-label="{1}">{2}</svg>')
    return svg.format(_SIDE, label, Markup("").join(shapes))


def _main_axes(camtoworld: Float64[np.ndarray, "frame 4 4"]) -> Float64[np.ndarray, "2 3"]:
    """Unit vectors of the world that point right and up in the plot."""
    positions, up, look = camtoworld[:, :3, 3], -camtoworld[:, :3, 1].mean(axis=0), camtoworld[:, :3, 2].mean(axis=0)
    spread = positions - positions.mean(axis=0)
    # View directions decide where positions do not (a straight path, or none); otherwise they are too faint to matter.
    faint = 1e-3 * float(np.abs(spread).max()) or 1.0
    directions = np.vstack([spread, faint * (look - look @ up * up), 0.1 * faint * np.cross(look, up)])
    _, columns = np.linalg.eigh(directions.T @ directions)  # by ascending eigenvalue
    right, forward = columns[:, 2], columns[:, 1]
    if np.cross(right, forward) @ up < 0:
        forward = -forward
    # A half turn mirrors nothing: let the cameras look up the page, or else to the right.
    toward = look @ forward if abs(look @ forward) > abs(look @ right) else look @ right
    return np.stack([right, forward]) * (-1.0 if toward < 0 else 1.0)


def _spread(count: int, most: int) -> list[int]:
    """At most `most` of 0..count-1, evenly spaced, with the first and the last."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})


def _wedge(at: Float64[np.ndarray, " 2"], look: Float64[np.ndarray, " 2"]) -> str:
    angle, reach = np.arctan2(look[1], look[0]), _REACH * min(1.0, float(np.hypot(*look)))
    turns = (angle - _HALF_ANGLE, angle + _HALF_ANGLE)
    corners = [at + reach * np.array([np.cos(turn), np.sin(turn)]) for turn in turns]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in (at, *corners)) + "Z"
