"""Checks of estimated cameras. Each records its value and has a reason code."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float64

from wnv.ingest.photos.photo_set import Lens, PhotoEntry
from wnv.ingest.pose.estimator import NoCameras, PhotosEstimate, PoseEstimate
from wnv.scenes.undistort import pinhole_without_borders

CamtoWorlds = Mapping[int, Float64[np.ndarray, "4 4"]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Verdict:
    """Result of the filters.

    Attributes:
        estimate: The accepted cameras, in the normalized world; None if rejected.
        stats: All checked values, as JSON values.
        reason: Reason code of the first failed check, or `ok`.
        message: Value and limit of that check.
    """

    estimate: PoseEstimate | None
    stats: Mapping[str, Any]
    reason: str = "ok"
    message: str = ""


@dataclass(eq=False, kw_only=True)
class PoseFilters:
    """Requirements on estimated cameras.

    Args:
        min_registered: Minimum share of the sampled frames that have a pose, 0..1.
        min_frames: Minimum number of frames that have a pose.
        min_photos: The same for photographs.
        max_reprojection_px: Maximum mean reprojection error, pixels of the clip.
        min_parallax_deg: Minimum median parallax, degrees.
        fov_deg: Minimum and maximum field of view along the longer side of the image, degrees.
        max_jump: Maximum step between neighboring frames, in median steps. The path is cut at longer steps, and its
            longest piece is kept.
        max_turn_deg: Maximum rotation between neighboring frames, degrees. The path is cut at larger ones, too.
    """

    min_registered: float | int = 0.7
    min_frames: int = 5
    min_photos: int = 3
    max_reprojection_px: float | int = 1.5
    min_parallax_deg: float | int = 2.5
    fov_deg: Sequence[float | int] = (15.0, 120.0)
    max_jump: float | int = 12.0
    max_turn_deg: float | int = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.min_registered <= 1:
            raise ValueError(f"min_registered must be above 0 and at most 1, got {self.min_registered}")
        for name, least in (("min_frames", 2), ("min_photos", 3)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if len(self.fov_deg) != 2 or not 0 < self.fov_deg[0] < self.fov_deg[1] < 180:
            raise ValueError(f"fov_deg must be two increasing angles between 0 and 180 degrees, got {self.fov_deg}")
        if self.max_jump <= 1:
            raise ValueError(f"max_jump must be above 1 median step, got {self.max_jump}")
        for name in ("max_reprojection_px", "max_turn_deg"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.min_parallax_deg < 0:
            raise ValueError(f"min_parallax_deg must be 0 or more, got {self.min_parallax_deg}")
        self.fov_deg = (float(self.fov_deg[0]), float(self.fov_deg[1]))

    def check(
        self,
        estimate: PoseEstimate | NoCameras | None,
        *,
        width: int,
        height: int,
        num_frames: int,
        is_path: bool = True,
    ) -> Verdict:
        """Check the cameras of a clip with `num_frames` sampled frames of this size.

        Jumps and turns are tested only if the frames are a path, and not a sequence of single pictures.
        """
        if not isinstance(estimate, PoseEstimate):
            return Verdict(estimate=None, stats={}, reason="no_model", message=_why(estimate))
        found = asdict(estimate.statistics)
        K = estimate.K
        fov_deg = 2 * math.degrees(math.atan2(max(width, height) / 2, K[0, 0] if width >= height else K[1, 1]))
        positions = sorted(estimate.camtoworlds)
        if is_path:
            positions = longest_run(estimate.camtoworlds, max_jump=self.max_jump, max_turn_deg=self.max_turn_deg)
        kept = {position: estimate.camtoworlds[position] for position in positions}
        step, jump, turn_deg = path_steps(estimate.camtoworlds)
        num_registered = len(estimate.camtoworlds)
        stats = {
            "num_sampled": num_frames,
            "num_registered": num_registered,
            "registered_ratio": num_registered / num_frames,
            "num_kept": len(kept),
            **{name: value for name, value in found.items() if value is not None},
            "focal_over_long_side": float(K[0, 0] / max(width, height)),
            "fov_deg": fov_deg,
            "max_jump": jump,
            "max_turn_deg": turn_deg,
        }
        required = max(self.min_frames, math.ceil(self.min_registered * num_frames - 1e-9))
        needed = (
            f"at least {required} are needed (pose.filters.min_registered={self.min_registered:g}, "
            f"pose.filters.min_frames={self.min_frames})"
        )
        parallax, reprojection = found["parallax_deg"], found["reprojection_px"]
        reason, message = "ok", ""
        if num_registered < required:
            reason = "few_registered"
            message = f"{num_registered} of {num_frames} frames have a pose, {needed}"
        elif (parallax is not None and parallax < self.min_parallax_deg) or step == 0:
            found_deg = f"median parallax {parallax:.2f}" if parallax is not None and step else "no motion, parallax 0"
            reason, message = (
                "low_parallax",
                f"{found_deg} degrees, pose.filters.min_parallax_deg={self.min_parallax_deg:g}",
            )
        elif not self.fov_deg[0] <= fov_deg <= self.fov_deg[1]:
            low, high = self.fov_deg
            reason, message = (
                "focal",
                f"field of view {fov_deg:.1f} degrees on the longer side, pose.filters.fov_deg=[{low:g},{high:g}]",
            )
        elif problem := _lens_error(estimate, width, height):
            reason, message = "focal", problem
        elif reprojection is not None and reprojection > self.max_reprojection_px:
            reason = "reprojection"
            limit = f"pose.filters.max_reprojection_px={self.max_reprojection_px:g}"
            message = f"mean reprojection error {reprojection:.2f} px, {limit}"
        elif len(kept) < required:
            reason = "jump"
            message = (
                f"steps of {jump:.1f} medians (pose.filters.max_jump={self.max_jump:g}) and turns of {turn_deg:.0f} "
                f"degrees (pose.filters.max_turn_deg={self.max_turn_deg:g}) leave {len(kept)} frames in one piece, "
                f"{needed}"
            )
        if reason != "ok":
            return Verdict(estimate=None, stats=stats, reason=reason, message=message)
        return Verdict(estimate=replace(estimate, camtoworlds=place_world(kept)), stats=stats)

    def check_photos(
        self, estimate: PhotosEstimate | NoCameras | None, *, entries: Sequence[PhotoEntry]
    ) -> tuple[str, str]:
        """Check the cameras of photographs, which have no order; return reason code and message, `ok` if accepted."""
        if not isinstance(estimate, PhotosEstimate):
            return "no_model", _why(estimate)
        statistics, found = estimate.statistics, len(estimate.camtoworlds)
        required = max(self.min_photos, math.ceil(self.min_registered * len(entries) - 1e-9))
        if found < required:
            return "few_registered", (
                f"{found} of {len(entries)} photographs have a pose, at least {required} are needed "
                f"(pose.filters.min_registered={self.min_registered:g}, pose.filters.min_photos={self.min_photos})"
            )
        parallax, error = statistics.parallax_deg, statistics.reprojection_px
        if parallax is not None and parallax < self.min_parallax_deg:
            limit = f"pose.filters.min_parallax_deg={self.min_parallax_deg:g}"
            return "low_parallax", f"median parallax {parallax:.2f} degrees, {limit}"
        if error is not None and error > self.max_reprojection_px:
            limit = f"pose.filters.max_reprojection_px={self.max_reprojection_px:g}"
            return "reprojection", f"mean reprojection error {error:.2f} px, {limit}"
        for camera, lens in estimate.lenses.items():
            first = next(entry for entry in entries if entry.camera == camera)
            low, high = self.fov_deg
            if not low <= (angle := lens_fov_deg(lens, first)) <= high:
                limit = f"pose.filters.fov_deg=[{low:g},{high:g}]"
                return "focal", f"field of view {angle:.1f} degrees of {first.name}, {limit}"
            if problem := _lens_error(lens, first.width, first.height):
                return "focal", f"{first.name}: {problem}"
        return "ok", ""


def lens_fov_deg(lens: Lens, entry: PhotoEntry) -> float:
    """Return the field of view along the longer side, degrees."""
    focal = lens.K[0, 0] if entry.width >= entry.height else lens.K[1, 1]
    return 2 * math.degrees(math.atan2(max(entry.width, entry.height) / 2, focal))


def path_steps(camtoworlds: CamtoWorlds) -> tuple[float, float, float]:
    """Return the median step (world units), the longest step (medians) and the widest rotation (degrees).

    Steps across frames without a pose are divided by the number of frames.
    """
    steps, turns = _steps(camtoworlds)
    if not len(steps):
        return 0.0, 0.0, 0.0
    median = float(np.median(steps))
    return median, float(steps.max() / median) if median > 0 else 0.0, float(turns.max())


def longest_run(camtoworlds: CamtoWorlds, *, max_jump: float | int, max_turn_deg: float | int) -> list[int]:
    """Return the positions of the longest piece of the path within these limits."""
    positions = sorted(camtoworlds)
    steps, turns = _steps(camtoworlds)
    if not len(steps):
        return positions
    broken = (steps > max_jump * np.median(steps)) | (turns > max_turn_deg)
    cuts = [0, *(np.flatnonzero(broken) + 1).tolist(), len(positions)]
    pieces = [positions[start:end] for start, end in pairwise(cuts)]
    return max(pieces, key=len)


def place_world(camtoworlds: CamtoWorlds) -> dict[int, Float64[np.ndarray, "4 4"]]:
    """Normalize a path: the first camera becomes the world frame, the median step 1."""
    median, _, _ = path_steps(camtoworlds)
    return _place(camtoworlds, median)


def place_photos(camtoworlds: CamtoWorlds) -> dict[int, Float64[np.ndarray, "4 4"]]:
    """Normalize cameras without order: the first becomes the world frame, their median distance from the middle 1."""
    centers = np.stack([camtoworld[:3, 3] for camtoworld in camtoworlds.values()])
    return _place(camtoworlds, float(np.median(np.linalg.norm(centers - centers.mean(axis=0), axis=-1))))


def _place(camtoworlds: CamtoWorlds, unit: float) -> dict[int, Float64[np.ndarray, "4 4"]]:
    positions = sorted(camtoworlds)
    first = np.linalg.inv(camtoworlds[positions[0]])
    placed = {}
    for position in positions:
        camtoworld = first @ camtoworlds[position]
        camtoworld[:3, 3] /= unit
        # Removes rounding errors of the product; scenes need rotations to 1e-5.
        left, _, right = np.linalg.svd(camtoworld[:3, :3])
        camtoworld[:3, :3] = left @ right
        placed[position] = camtoworld
    placed[positions[0]] = np.eye(4)
    return placed


def _steps(camtoworlds: CamtoWorlds) -> tuple[Float64[np.ndarray, " step"], Float64[np.ndarray, " step"]]:
    positions = sorted(camtoworlds)
    stacked = np.stack([camtoworlds[position] for position in positions])
    gaps = np.diff(positions)
    steps = np.linalg.norm(np.diff(stacked[:, :3, 3], axis=0), axis=-1) / gaps
    relative = np.einsum("nji,njk->nik", stacked[:-1, :3, :3], stacked[1:, :3, :3])
    cosines = (np.trace(relative, axis1=1, axis2=2) - 1) / 2
    return steps, np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0))) / gaps


def _why(failure: NoCameras | None) -> str:
    return "reconstruction failed" if failure is None else failure.message


def _lens_error(estimate: PoseEstimate | Lens, width: int, height: int) -> str:
    """Return why packing cannot undistort the frames; empty if it can."""
    if estimate.distortion:
        try:
            pinhole_without_borders(estimate.K, estimate.distortion, width=width, height=height, where="estimate")
        except ValueError as error:
            return str(error)
    return ""
