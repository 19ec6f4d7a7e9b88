"""Structure from motion with COLMAP and SIFT features, for the ordered frames of one video."""

import importlib.metadata
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from wnv.ingest.pose.estimator import PoseEstimate, PoseStatistics
from wnv.ingest.tasks import StageError
from wnv.scenes.undistort import Distortion

CAMERA_MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")

MAX_SEED = 2**31 - 1


@dataclass(eq=False, kw_only=True)
class ColmapEstimator:
    """Incremental structure from motion with pycolmap on the CPU.

    All frames share one camera. With one thread, the same frames and seed give bit-identical cameras. Features are
    SIFT: pycolmap's wheels lack ALIKED and LightGlue, and requesting them aborts the process.

    Args:
        num_features: Maximum number of SIFT features per frame.
        overlap: Each frame is matched with the next `overlap` frames, and with the 2nd, 4th, 8th, ... after it.
        exhaustive_up_to: With at most this many frames, all pairs are matched.
        loop_every: Match every n-th frame with every other n-th frame, to close loops; 0 for off.
        camera_model: COLMAP's camera model: SIMPLE_PINHOLE, PINHOLE, SIMPLE_RADIAL, RADIAL or OPENCV.
        focal_guess: Initial focal length over the longer side of the image.
        init_min_parallax_deg: Minimum parallax of the initial pair, degrees (halved if no pair has it).
        pose_min_inliers: Minimum number of inliers to register a frame.
        max_homography_ratio: Maximum share of matched frame pairs that a homography explains. Above it the camera only
            turns (or sees a plane) and the clip is rejected: COLMAP's result would be wrong despite good statistics.
        num_threads: CPU threads per clip.
    """

    num_features: int = 2048
    overlap: int = 10
    exhaustive_up_to: int = 24
    loop_every: int = 4
    camera_model: str = "SIMPLE_RADIAL"
    focal_guess: float | int = 1.2
    init_min_parallax_deg: float | int = 8.0
    pose_min_inliers: int = 30
    max_homography_ratio: float | int = 0.95
    num_threads: int = 1

    def __post_init__(self) -> None:
        if self.camera_model not in CAMERA_MODELS:
            raise ValueError(f"camera_model must be one of {', '.join(CAMERA_MODELS)}, got {self.camera_model!r}")
        minimum = {"num_features": 100, "overlap": 1, "exhaustive_up_to": 0, "loop_every": 0, "pose_min_inliers": 6}
        for name, least in {**minimum, "num_threads": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0.1 <= self.focal_guess <= 10:
            raise ValueError(f"focal_guess must be in 0.1..10 (focal length over longer side), got {self.focal_guess}")
        if not 0 < self.init_min_parallax_deg < 90:
            raise ValueError(f"init_min_parallax_deg must be between 0 and 90, got {self.init_min_parallax_deg}")
        if not 0 < self.max_homography_ratio <= 1:
            raise ValueError(f"max_homography_ratio must be above 0 and at most 1, got {self.max_homography_ratio}")

    def versions(self) -> dict[str, str]:
        """Return the version of pycolmap.

        Raises:
            ImportError: If it is not installed.
        """
        try:
            return {"pycolmap": importlib.metadata.version("pycolmap")}
        except importlib.metadata.PackageNotFoundError:
            raise _missing() from None

    def estimate(
        self, frames: Sequence[Path], *, masks: Sequence[Path] | None, seed: int, workspace: Path
    ) -> PoseEstimate | None:
        """See `PoseEstimator.estimate`."""
        pycolmap = _import_pycolmap(self.num_threads)
        seed %= MAX_SEED  # COLMAP takes -1 for a random seed
        pycolmap.set_random_seed(seed)
        database = workspace / "database.db"
        names = [frame.name for frame in frames]
        images = frames[0].parent
        reader = pycolmap.ImageReaderOptions(
            camera_model=self.camera_model, default_focal_length_factor=self.focal_guess
        )
        if masks is not None:
            reader.mask_path = _link_masks(names, masks, workspace / "masks")
        # Images are imported first, so that their ids do not depend on thread timing.
        pycolmap.Database.open(database).close()
        pycolmap.import_images(
            database, images, camera_mode=pycolmap.CameraMode.SINGLE, image_names=names, options=reader
        )
        _check_images(pycolmap, database, len(names))
        self._extract(pycolmap, database, images, names, reader)
        self._match(pycolmap, database, names, seed, workspace / "pairs.txt")
        homography_ratio = _homography_ratio(pycolmap, database)
        if homography_ratio > self.max_homography_ratio:
            raise StageError(
                "refused",
                "low_parallax",
                f"the camera only turns, or sees a single plane: a homography explains {homography_ratio:.1%} of the "
                f"frame pairs, max_homography_ratio={self.max_homography_ratio:.1%}",
            )
        (workspace / "models").mkdir()
        models = pycolmap.incremental_mapping(
            database, images, workspace / "models", self._mapping_options(pycolmap, seed)
        )
        # Without parallax COLMAP may return cameras without points, which are guesses.
        solid = [models[number] for number in sorted(models) if models[number].num_points3D() > 0]
        if not solid:
            return None
        largest = max(solid, key=lambda model: model.num_reg_images())
        return _read_model(largest, names, num_models=len(models), homography_ratio=homography_ratio)

    def _extract(self, pycolmap: Any, database: Path, images: Path, names: list[str], reader: Any) -> None:
        options = pycolmap.FeatureExtractionOptions(num_threads=self.num_threads, use_gpu=False)
        options.type = pycolmap.FeatureExtractorType.SIFT
        options.sift.max_num_features = self.num_features
        pycolmap.extract_features(
            database,
            images,
            image_names=names,
            camera_mode=pycolmap.CameraMode.SINGLE,
            reader_options=reader,
            extraction_options=options,
            device=pycolmap.Device.cpu,
        )

    def _match(self, pycolmap: Any, database: Path, names: list[str], seed: int, pairs_file: Path) -> None:
        pairs = frame_pairs(
            len(names), overlap=self.overlap, exhaustive_up_to=self.exhaustive_up_to, loop_every=self.loop_every
        )
        pairs_file.write_text("".join(f"{names[first]} {names[second]}\n" for first, second in pairs))
        matching = pycolmap.FeatureMatchingOptions(num_threads=self.num_threads, use_gpu=False)
        matching.type = pycolmap.FeatureMatcherType.SIFT_BRUTEFORCE
        verification = pycolmap.TwoViewGeometryOptions()
        verification.ransac.random_seed = seed
        pycolmap.match_image_pairs(
            database,
            matching_options=matching,
            pairing_options=pycolmap.ImportedPairingOptions(match_list_path=pairs_file),
            verification_options=verification,
            device=pycolmap.Device.cpu,
        )

    def _mapping_options(self, pycolmap: Any, seed: int) -> Any:
        options = pycolmap.IncrementalPipelineOptions(
            num_threads=self.num_threads,
            random_seed=seed,
            min_model_size=3,
            max_num_models=3,  # each costs the same time, and only the largest is used
            extract_colors=False,
            # Video frames differ little, so global bundle adjustment is needed less often than for photographs.
            ba_global_frames_ratio=1.4,
            ba_global_points_ratio=1.4,
        )
        options.mapper.num_threads = self.num_threads
        options.mapper.random_seed = seed
        options.triangulation.random_seed = seed
        options.mapper.init_min_tri_angle = self.init_min_parallax_deg
        options.mapper.abs_pose_min_num_inliers = self.pose_min_inliers
        return options


def frame_pairs(num_frames: int, *, overlap: int, exhaustive_up_to: int, loop_every: int) -> list[tuple[int, int]]:
    """Return the frame pairs to match, as sorted positions.

    COLMAP's sequential matching with quadratic overlap, and loop closure without a vocabulary tree.
    """
    if num_frames <= exhaustive_up_to:
        return [(first, second) for first in range(num_frames) for second in range(first + 1, num_frames)]
    gaps = {*range(1, overlap + 1), *(2**power for power in range(num_frames.bit_length()))}
    pairs = {(first, first + gap) for gap in gaps for first in range(num_frames - gap)}
    if loop_every:
        anchors = range(0, num_frames, loop_every)
        pairs |= {(first, second) for first in anchors for second in anchors if first < second}
    return sorted(pairs)


def _import_pycolmap(num_threads: int) -> Any:
    # OpenMP reads it when pycolmap is imported.
    os.environ["OMP_NUM_THREADS"] = str(num_threads)
    try:
        import pycolmap
    except ImportError as error:
        raise _missing() from error
    # COLMAP logs a line per frame and pair.
    pycolmap.logging.minloglevel = int(pycolmap.logging.Level.ERROR)
    return pycolmap


def _missing() -> ImportError:
    return ImportError(
        "ColmapEstimator needs pycolmap 4: pip install 'wnv[pose]' (Linux x86_64, macOS arm64, Windows), or set "
        "another estimator with pose.estimator._target_"
    )


def _check_images(pycolmap: Any, database: Path, num_frames: int) -> None:
    # COLMAP skips images it cannot read. One cause is decord in the same process, whose zlib conflicts with libpng.
    with pycolmap.Database.open(database) as opened:
        found = opened.num_images()
    if found != num_frames:
        raise RuntimeError(
            f"COLMAP could read {found} of {num_frames} frames; it cannot read PNG in a process that imported decord, "
            "so call the estimator in a separate process"
        )


def _homography_ratio(pycolmap: Any, database: Path) -> float:
    kinds = pycolmap.TwoViewGeometryConfiguration
    with pycolmap.Database.open(database) as opened:
        found = [geometry.config for geometry in opened.read_two_view_geometries()[1]]
    flat = [kinds.PLANAR, kinds.PANORAMIC, kinds.PLANAR_OR_PANORAMIC]
    matched = [kind for kind in found if kind not in (kinds.UNDEFINED, kinds.DEGENERATE)]
    return sum(kind in flat for kind in matched) / len(matched) if matched else 0.0


def _link_masks(names: list[str], masks: Sequence[Path], folder: Path) -> Path:
    """Link the masks under the names that COLMAP expects."""
    folder.mkdir()
    for name, mask in zip(names, masks, strict=True):
        (folder / f"{name}.png").symlink_to(mask.resolve())
    return folder


def _read_model(model: Any, names: list[str], *, num_models: int, homography_ratio: float) -> PoseEstimate:
    positions = {name: position for position, name in enumerate(names)}
    camtoworlds: dict[int, np.ndarray] = {}
    centres: dict[int, np.ndarray] = {}
    for image in model.images.values():
        if image.has_pose:
            camtoworld = np.eye(4)
            camtoworld[:3] = image.cam_from_world().inverse().matrix()
            camtoworlds[positions[image.name]] = camtoworld
            centres[image.image_id] = camtoworld[:3, 3]
    (camera,) = model.cameras.values()
    K, distortion = _read_camera(camera)
    return PoseEstimate(
        K=K,
        distortion=distortion,
        camtoworlds=dict(sorted(camtoworlds.items())),
        statistics=PoseStatistics(
            reprojection_px=float(model.compute_mean_reprojection_error()),
            parallax_deg=_median_parallax_deg(model, centres),
            num_points=int(model.num_points3D()),
            track_length=float(model.compute_mean_track_length()),
            num_models=num_models,
            homography_ratio=homography_ratio,
        ),
    )


def _read_camera(camera: Any) -> tuple[Float64[np.ndarray, "3 3"], Distortion]:
    K = np.asarray(camera.calibration_matrix(), dtype=np.float64)
    lens = [float(value) for value in np.asarray(camera.params)[list(camera.extra_params_idxs())]]
    return K, Distortion(*lens)  # k1, k2, p1, p2 in this order, as many as the model has


def _median_parallax_deg(model: Any, centres: dict[int, Float64[np.ndarray, "3"]]) -> float:
    widest = []
    for point in model.points3D.values():
        seen_from = np.stack([centres[element.image_id] for element in point.track.elements])
        rays = seen_from - point.xyz
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        widest.append(math.acos(float(np.clip((rays @ rays.T).min(), -1.0, 1.0))))
    return math.degrees(float(np.median(widest))) if widest else 0.0
