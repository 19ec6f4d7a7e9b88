"""Refine cameras of another source with COLMAP: match features, triangulate points, and adjust both together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from wnv.ingest.pose.colmap import ColmapEstimator, read_camera, read_poses, read_statistics
from wnv.ingest.pose.estimator import ClipContext, ClipEstimator, NoCameras, PoseEstimate, PoseEstimator
from wnv.ingest.tasks import StageError

_MIN_POINTS = 50
# Wrong cameras still give points, but from pairs of frames that agree by chance.
_MIN_TRACK_LENGTH = 2.3
# Points are triangulated anew after each adjustment, since better cameras find more.
_NUM_ROUNDS = 2


@dataclass(eq=False, kw_only=True)
class RefinedEstimator:
    """Runs another estimator, and refines its cameras by bundle adjustment (COLMAP).

    For cameras of ARKit, SLAM or a neural network, which are right but not exact. Reprojection error and parallax are
    then known and filtered, as for COLMAP's own cameras.

    Args:
        estimator: The estimator.
        colmap: Settings of features and matches.
        lens: Refine focal length and distortion, too.
    """

    estimator: PoseEstimator
    colmap: ColmapEstimator
    lens: bool = True

    def versions(self) -> dict[str, str]:
        """Return the versions of both."""
        return {**self.estimator.versions(), **self.colmap.versions()}

    def estimate(
        self, frames: Sequence[Path], *, masks: Sequence[Path] | None, seed: int, workspace: Path
    ) -> PoseEstimate | NoCameras | None:
        """See `PoseEstimator.estimate`."""
        return self.estimate_clip(frames, clip=None, masks=masks, seed=seed, workspace=workspace)

    def estimate_clip(
        self,
        frames: Sequence[Path],
        *,
        clip: ClipContext | None,
        masks: Sequence[Path] | None,
        seed: int,
        workspace: Path,
    ) -> PoseEstimate | NoCameras | None:
        """See `ClipEstimator.estimate_clip`."""
        folders = {name: workspace / name for name in ("initial", "refined")}
        for folder in folders.values():
            folder.mkdir()
        arguments: dict[str, Any] = {"masks": masks, "seed": seed, "workspace": folders["initial"]}
        if clip is not None and isinstance(self.estimator, ClipEstimator):
            initial = self.estimator.estimate_clip(frames, clip=clip, **arguments)
        else:
            initial = self.estimator.estimate(frames, **arguments)
        if not isinstance(initial, PoseEstimate):
            return initial
        return refine(
            initial,
            frames,
            colmap=self.colmap,
            lens=self.lens,
            masks=masks,
            seed=seed,
            workspace=folders["refined"],
        )


def refine(
    initial: PoseEstimate,
    frames: Sequence[Path],
    *,
    colmap: ColmapEstimator,
    lens: bool,
    masks: Sequence[Path] | None,
    seed: int,
    workspace: Path,
) -> PoseEstimate | NoCameras:
    """Refine the cameras of frames by bundle adjustment; see `RefinedEstimator`.

    Raises:
        StageError: If the lens has a distortion that COLMAP's OPENCV model has not.
    """
    if initial.distortion.k3:
        raise StageError(
            "refused", "focal", f"cameras with k3={initial.distortion.k3:g} cannot be refined, only k1, k2"
        )
    image = cv2.imread(str(frames[0]))
    assert image is not None
    height, width = image.shape[:2]
    focal = float(initial.K[0, 0]) / max(width, height)
    pycolmap, seed, database = colmap.match_frames(
        frames, masks=masks, seed=seed, workspace=workspace, focal_guess=focal
    )
    model = _model(pycolmap, database, initial, frames, width=width, height=height)
    options = pycolmap.BundleAdjustmentOptions(
        refine_focal_length=lens, refine_extra_params=lens, refine_principal_point=False, print_summary=False
    )
    options.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
    options.ceres.solver_options.num_threads = colmap.num_threads
    triangulation = pycolmap.IncrementalPipelineOptions(num_threads=colmap.num_threads, random_seed=seed)
    for number in range(_NUM_ROUNDS):
        folder = workspace / f"model{number}"
        folder.mkdir()
        model = pycolmap.triangulate_points(
            model, database, frames[0].parent, folder, clear_points=True, options=triangulation
        )
        if model.num_points3D() < _MIN_POINTS:
            return NoCameras(
                f"the given cameras fit only {model.num_points3D()} points, {_MIN_POINTS} are needed; check their axes "
                "and times, or omit the refinement"
            )
        pycolmap.bundle_adjustment(model, options)
    track_length = model.compute_mean_track_length()
    if track_length < _MIN_TRACK_LENGTH:
        return NoCameras(
            f"the given cameras do not fit the images: points are seen in {track_length:.2f} frames on average, "
            f"{_MIN_TRACK_LENGTH} are needed; check their axes and times"
        )
    model.update_point_3d_errors()
    (camera,) = model.cameras.values()
    K, distortion = read_camera(camera)
    return PoseEstimate(
        K=K,
        distortion=distortion,
        camtoworlds=read_poses(model, [frame.name for frame in frames]),
        statistics=read_statistics(model, num_models=1, homography_ratio=initial.statistics.homography_ratio),
    )


def _model(
    pycolmap: Any, database: Path, initial: PoseEstimate, frames: Sequence[Path], *, width: int, height: int
) -> Any:
    """Return a COLMAP model with these cameras and no points; ids are those of the database."""
    model = pycolmap.Reconstruction()
    K, lens = initial.K, initial.distortion
    parameters = [K[0, 0], K[1, 1], K[0, 2], K[1, 2], lens.k1, lens.k2, lens.p1, lens.p2]
    with pycolmap.Database.open(database) as opened:
        ids = {image.name: image.image_id for image in opened.read_all_images()}
        (stored,) = opened.read_all_cameras()
        camera = pycolmap.Camera(
            camera_id=stored.camera_id,
            model="OPENCV",
            width=width,
            height=height,
            params=np.array(parameters, dtype=np.float64),
        )
        opened.update_camera(camera)
    model.add_camera_with_trivial_rig(camera)
    for position, camtoworld in initial.camtoworlds.items():
        name = frames[position].name
        image = pycolmap.Image(name=name, camera_id=stored.camera_id, image_id=ids[name])
        viewmat = np.linalg.inv(camtoworld)[:3]
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(np.ascontiguousarray(viewmat)))
    return model
