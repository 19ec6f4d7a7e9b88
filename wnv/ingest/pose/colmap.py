"""Structure from motion with COLMAP and SIFT features, for the ordered frames of one video."""

import importlib.metadata
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float64

from wnv.ingest.photos.photo_set import Lens, PhotoEntry
from wnv.ingest.pose.estimator import NoCameras, PhotosEstimate, PoseEstimate, PoseStatistics
from wnv.ingest.pose.pairing import frame_pairs, similar_pairs
from wnv.ingest.pose.turning import MAX_ERROR, turning_error
from wnv.ingest.tasks import StageError
from wnv.scenes.undistort import Distortion

CAMERA_MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")

# Photographs in all, and per camera, from which principal points are refined.
_MIN_PHOTOS_FOR_PRINCIPAL_POINT = 10
_MIN_PHOTOS_PER_CAMERA = 3

# More photographs than can all be matched are paired with this many that look alike.
_NUM_SIMILAR = 30
# Packages that contain pycolmap.
_PACKAGES = ("pycolmap", "pycolmap-cuda12")
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/gpus")

MAX_SEED = 2**31 - 1


@dataclass(eq=False, kw_only=True)
class ColmapEstimator:
    """Incremental structure from motion with pycolmap.

    All frames of a video share one camera. With one thread and no GPU, the same frames and seed give bit-identical
    cameras. Features are SIFT: pycolmap's wheels lack ALIKED and LightGlue, and requesting them aborts the process.

    Args:
        num_features: Maximum number of SIFT features per frame.
        overlap: Each frame is matched with the next `overlap` frames, and with the 2nd, 4th, 8th, ... after it.
        exhaustive_up_to: With at most this many frames, all pairs are matched.
        loop_every: Match every n-th frame with every other n-th frame, to close loops; 0 for off.
        camera_model: COLMAP's camera model: SIMPLE_PINHOLE, PINHOLE, SIMPLE_RADIAL, RADIAL or OPENCV.
        focal_guess: Initial focal length over the longer side of the image.
        init_min_parallax_deg: Minimum parallax of the initial pair, degrees (halved if no pair has it).
        pose_min_inliers: Minimum number of inliers to register a frame.
        max_homography_ratio: Maximum share of matched frame pairs that a homography explains. Above it, a clip whose
            camera only turns is rejected: COLMAP's result would be wrong despite good statistics. See `turning_error`.
        num_threads: CPU threads per clip.
        use_gpu: Extract and match features on an NVIDIA GPU; `auto` does so where pycolmap has CUDA. Repeated runs may
            then differ slightly.
    """

    unrecorded: ClassVar[frozenset[str]] = frozenset({"use_gpu"})
    """Settings that do not make finished poses outdated."""

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
    use_gpu: Literal["auto"] | bool = "auto"

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
        for package in _PACKAGES:
            try:
                return {"pycolmap": importlib.metadata.version(package)}
            except importlib.metadata.PackageNotFoundError:
                continue
        raise _missing()

    def estimate(
        self, frames: Sequence[Path], *, masks: Sequence[Path] | None, seed: int, workspace: Path
    ) -> PoseEstimate | NoCameras:
        """See `PoseEstimator.estimate`."""
        names = [frame.name for frame in frames]
        pycolmap, seed, database = self.match_frames(frames, masks=masks, seed=seed, workspace=workspace)
        homography_ratio = self._checked_homography_ratio(pycolmap, database)
        # Video frames differ little, so global bundle adjustment is needed less often than for photographs.
        model, num_models = self._map(pycolmap, database, frames[0].parent, seed, workspace, ba_ratio=1.4)
        if model is None:
            return self._no_cameras(pycolmap, database)
        statistics = read_statistics(model, num_models=num_models, homography_ratio=homography_ratio)
        (camera,) = model.cameras.values()
        K, distortion = read_camera(camera)
        return PoseEstimate(K=K, distortion=distortion, camtoworlds=read_poses(model, names), statistics=statistics)

    def estimate_photos(
        self,
        photos: Sequence[Path],
        *,
        entries: Sequence[PhotoEntry],
        exhaustive_up_to: int,
        seed: int,
        workspace: Path,
    ) -> PhotosEstimate | NoCameras:
        """See `PhotosEstimator.estimate_photos`."""
        names = [photo.name for photo in photos]
        images = photos[0].parent
        pycolmap, seed, database = self._begin(seed, workspace)
        for camera in sorted({entry.camera for entry in entries}):
            group = [index for index, entry in enumerate(entries) if entry.camera == camera]
            reader = pycolmap.ImageReaderOptions(
                camera_model=self.camera_model, default_focal_length_factor=self.focal_guess
            )
            first = entries[group[0]]
            if first.focal is not None:
                reader.camera_params = self._parameters(pycolmap, first)
            pycolmap.import_images(
                database,
                images,
                camera_mode=pycolmap.CameraMode.SINGLE,
                image_names=[names[index] for index in group],
                options=reader,
            )
        reader, automatic = pycolmap.ImageReaderOptions(), pycolmap.CameraMode.AUTO
        self._extract(pycolmap, database, photos, camera_mode=automatic, reader=reader)
        pairs = frame_pairs(len(names), overlap=self.overlap, exhaustive_up_to=exhaustive_up_to, loop_every=0)
        if len(names) > exhaustive_up_to:
            similar = similar_pairs(
                pycolmap,
                database,
                names,
                num_similar=_NUM_SIMILAR,
                seed=seed,
                num_threads=self.num_threads,
                workspace=workspace,
            )
            pairs = sorted({*pairs, *similar})
        self._match(pycolmap, database, names, pairs, seed, workspace)
        homography_ratio = self._checked_homography_ratio(pycolmap, database)
        model, num_models = self._map(pycolmap, database, images, seed, workspace, ba_ratio=1.1)
        if model is None:
            return self._no_cameras(pycolmap, database)
        self._refine_principal_points(pycolmap, model)
        lenses: dict[int, Lens] = {}
        for image in model.images.values():
            if image.has_pose:
                K, distortion = read_camera(model.cameras[image.camera_id])
                lenses[entries[names.index(image.name)].camera] = Lens(K=K, distortion=distortion)
        statistics = read_statistics(model, num_models=num_models, homography_ratio=homography_ratio)
        return PhotosEstimate(lenses=lenses, camtoworlds=read_poses(model, names), statistics=statistics)

    def match_frames(
        self,
        frames: Sequence[Path],
        *,
        masks: Sequence[Path] | None,
        seed: int,
        workspace: Path,
        focal_guess: float | int | None = None,
    ) -> tuple[Any, int, Path]:
        """Extract and match the features of frames that share one camera.

        Args:
            frames: See `PoseEstimator.estimate`, also for `masks`, `seed` and `workspace`.
            masks: Masks of the frames.
            seed: Seed.
            workspace: Empty folder.
            focal_guess: Focal length over the longer side; None for that of the settings.

        Returns:
            The module pycolmap, its seed, and the database.
        """
        names = [frame.name for frame in frames]
        pycolmap, seed, database = self._begin(seed, workspace)
        reader = pycolmap.ImageReaderOptions(
            camera_model=self.camera_model, default_focal_length_factor=focal_guess or self.focal_guess
        )
        if masks is not None:
            reader.mask_path = _link_masks(names, masks, workspace / "masks")
        single = pycolmap.CameraMode.SINGLE
        # Images are imported first, so that their ids do not depend on thread timing.
        pycolmap.import_images(database, frames[0].parent, camera_mode=single, image_names=names, options=reader)
        pairs = frame_pairs(
            len(names), overlap=self.overlap, exhaustive_up_to=self.exhaustive_up_to, loop_every=self.loop_every
        )
        self._extract(pycolmap, database, frames, camera_mode=single, reader=reader)
        self._match(pycolmap, database, names, pairs, seed, workspace)
        return pycolmap, seed, database

    def _begin(self, seed: int, workspace: Path) -> tuple[Any, int, Path]:
        """Return pycolmap, its seed, and an empty database."""
        pycolmap = _import_pycolmap(self.num_threads)
        seed %= MAX_SEED  # COLMAP takes -1 for a random seed
        pycolmap.set_random_seed(seed)
        database = workspace / "database.db"
        pycolmap.Database.open(database).close()
        return pycolmap, seed, database

    def _parameters(self, pycolmap: Any, entry: PhotoEntry) -> str:
        """Return COLMAP's parameters of a camera whose focal length EXIF gives."""
        assert entry.focal is not None
        focal = entry.focal * max(entry.width, entry.height)
        camera = pycolmap.Camera.create_from_model_name(1, self.camera_model, focal, entry.width, entry.height)
        return ",".join(f"{value:.6f}" for value in camera.params)

    def _extract(self, pycolmap: Any, database: Path, frames: Sequence[Path], *, camera_mode: Any, reader: Any) -> None:
        """Extract the features of images that are in the database."""
        names = [frame.name for frame in frames]
        _check_images(pycolmap, database, len(names))
        uses_gpu = self._uses_gpu(pycolmap)
        extraction = pycolmap.FeatureExtractionOptions(num_threads=self.num_threads, use_gpu=uses_gpu)
        extraction.type = pycolmap.FeatureExtractorType.SIFT
        extraction.sift.max_num_features = self.num_features
        pycolmap.extract_features(
            database,
            frames[0].parent,
            image_names=names,
            camera_mode=camera_mode,
            reader_options=reader,
            extraction_options=extraction,
            device=pycolmap.Device.cuda if uses_gpu else pycolmap.Device.cpu,
        )

    def _match(
        self,
        pycolmap: Any,
        database: Path,
        names: Sequence[str],
        pairs: Sequence[tuple[int, int]],
        seed: int,
        workspace: Path,
    ) -> None:
        """Match the features of pairs of images."""
        pairs_file = workspace / "pairs.txt"
        pairs_file.write_text("".join(f"{names[first]} {names[second]}\n" for first, second in pairs))
        uses_gpu = self._uses_gpu(pycolmap)
        matching = pycolmap.FeatureMatchingOptions(num_threads=self.num_threads, use_gpu=uses_gpu)
        matching.type = pycolmap.FeatureMatcherType.SIFT_BRUTEFORCE
        verification = pycolmap.TwoViewGeometryOptions()
        verification.ransac.random_seed = seed
        pycolmap.match_image_pairs(
            database,
            matching_options=matching,
            pairing_options=pycolmap.ImportedPairingOptions(match_list_path=pairs_file),
            verification_options=verification,
            device=pycolmap.Device.cuda if uses_gpu else pycolmap.Device.cpu,
        )

    def _uses_gpu(self, pycolmap: Any) -> bool:
        """Return whether SIFT runs on a GPU.

        Raises:
            ValueError: If `use_gpu` is set and there is none.
        """
        has_gpu = bool(pycolmap.has_cuda) and _NVIDIA_DRIVER.is_dir() and any(_NVIDIA_DRIVER.iterdir())
        if self.use_gpu is True and not has_gpu:
            what = "no NVIDIA GPU" if pycolmap.has_cuda else "a pycolmap without CUDA (pip install pycolmap-cuda12)"
            raise ValueError(f"pose.estimator.use_gpu=true, but this machine has {what}")
        return has_gpu if self.use_gpu == "auto" else self.use_gpu

    def _checked_homography_ratio(self, pycolmap: Any, database: Path) -> float:
        """Return the share of matched pairs that a homography explains.

        Raises:
            StageError: If it is too high, and not because the camera moves in front of a plane.
        """
        kinds = pycolmap.TwoViewGeometryConfiguration
        flat = (kinds.PLANAR, kinds.PANORAMIC, kinds.PLANAR_OR_PANORAMIC)
        with pycolmap.Database.open(database) as opened:
            ids, found = opened.read_two_view_geometries()
            geometries = [
                (pycolmap.pair_id_to_image_pair(pair_id), geometry)
                for pair_id, geometry in zip(ids, found, strict=True)
                if geometry.config not in (kinds.UNDEFINED, kinds.DEGENERATE)
            ]
            homographies = [(pair, geometry) for pair, geometry in geometries if geometry.config in flat]
            ratio = len(homographies) / len(geometries) if geometries else 0.0
            if ratio <= self.max_homography_ratio:
                return ratio
            images = {image.image_id: image for image in opened.read_all_images()}
            cameras = {camera.camera_id: camera for camera in opened.read_all_cameras()}
            points = {
                number: _centered(opened.read_keypoints(number), cameras[image.camera_id])
                for number, image in images.items()
            }
        pairs = [
            (points[first][geometry.inlier_matches[:, 0]], points[second][geometry.inlier_matches[:, 1]])
            for (first, second), geometry in homographies
            if images[first].camera_id == images[second].camera_id
        ]
        error = turning_error(pairs)
        if error is not None and error > MAX_ERROR:
            return ratio
        how_well = "" if error is None else f", rotations alone to {error:.1%} of the motion (limit {MAX_ERROR:.0%})"
        raise StageError(
            "refused",
            "low_parallax",
            f"the camera only turns: a homography explains {ratio:.1%} of the frame pairs{how_well}, "
            f"pose.estimator.max_homography_ratio={self.max_homography_ratio:.1%}",
        )

    def _map(
        self, pycolmap: Any, database: Path, images: Path, seed: int, workspace: Path, *, ba_ratio: float
    ) -> tuple[Any, int]:
        """Return the largest model, None if there is none, and the number of models."""
        (workspace / "models").mkdir()
        options = self._mapping_options(pycolmap, seed, ba_ratio)
        models = pycolmap.incremental_mapping(database, images, workspace / "models", options)
        # Without parallax COLMAP may return cameras without points, which are guesses.
        solid = [models[number] for number in sorted(models) if models[number].num_points3D() > 0]
        return max(solid, key=lambda model: model.num_reg_images(), default=None), len(models)

    def _no_cameras(self, pycolmap: Any, database: Path) -> NoCameras:
        with pycolmap.Database.open(database) as opened:
            _, geometries = opened.read_two_view_geometries()
        most = max((len(geometry.inlier_matches) for geometry in geometries), default=0)
        needed = pycolmap.IncrementalPipelineOptions().mapper.init_min_num_inliers
        return NoCameras(
            f"no pair of frames to start from: at most {most} matches per pair, {needed} are needed, with a parallax "
            f"of pose.estimator.init_min_parallax_deg={self.init_min_parallax_deg:g}; "
            f"pose.estimator.num_features={self.num_features}"
        )

    def _refine_principal_points(self, pycolmap: Any, model: Any) -> None:
        """Adjust all cameras once more, with the principal point of those that took enough photographs.

        Phones shift it by some percent of the image to stabilize, which otherwise turns every camera by half a degree.
        """
        images = [image for image in model.images.values() if image.has_pose]
        num_images = Counter(image.camera_id for image in images)
        if len(images) < _MIN_PHOTOS_FOR_PRINCIPAL_POINT:
            return
        config = pycolmap.BundleAdjustmentConfig()
        for image in images:
            config.add_image(image.image_id)
        for camera, number in num_images.items():
            if number < _MIN_PHOTOS_PER_CAMERA:
                config.set_constant_cam_intrinsics(camera)
        config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
        options = pycolmap.BundleAdjustmentOptions(refine_principal_point=True, print_summary=False)
        options.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
        options.ceres.solver_options.num_threads = self.num_threads
        pycolmap.create_default_bundle_adjuster(options, config, model).solve()
        model.update_point_3d_errors()

    def _mapping_options(self, pycolmap: Any, seed: int, ba_ratio: float) -> Any:
        options = pycolmap.IncrementalPipelineOptions(
            num_threads=self.num_threads,
            random_seed=seed,
            min_model_size=3,
            max_num_models=3,  # each costs the same time, and only the largest is used
            extract_colors=False,
            ba_global_frames_ratio=ba_ratio,
            ba_global_points_ratio=ba_ratio,
        )
        options.mapper.num_threads = self.num_threads
        options.mapper.random_seed = seed
        options.triangulation.random_seed = seed
        options.mapper.init_min_tri_angle = self.init_min_parallax_deg
        options.mapper.abs_pose_min_num_inliers = self.pose_min_inliers
        return options


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


def _centered(keypoints: np.ndarray, camera: Any) -> Float64[np.ndarray, "point 2"]:
    """Return keypoints relative to the center of the image, over its longer side."""
    center = np.array([camera.width / 2, camera.height / 2])
    return (np.asarray(keypoints[:, :2], dtype=np.float64) - center) / max(camera.width, camera.height)


def _link_masks(names: list[str], masks: Sequence[Path], folder: Path) -> Path:
    """Link the masks under the names that COLMAP expects."""
    folder.mkdir()
    for name, mask in zip(names, masks, strict=True):
        (folder / f"{name}.png").symlink_to(mask.resolve())
    return folder


def read_poses(model: Any, names: list[str]) -> dict[int, Float64[np.ndarray, "4 4"]]:
    """Return world<-camera of each image with a pose, by its position in the list of names."""
    positions = {name: position for position, name in enumerate(names)}
    camtoworlds: dict[int, np.ndarray] = {}
    for image in model.images.values():
        if image.has_pose:
            camtoworld = np.eye(4)
            camtoworld[:3] = image.cam_from_world().inverse().matrix()
            camtoworlds[positions[image.name]] = camtoworld
    return dict(sorted(camtoworlds.items()))


def read_statistics(model: Any, *, num_models: int, homography_ratio: float | None) -> PoseStatistics:
    """Return the statistics of a model."""
    return PoseStatistics(
        reprojection_px=float(model.compute_mean_reprojection_error()),
        parallax_deg=_median_parallax_deg(model),
        num_points=int(model.num_points3D()),
        track_length=float(model.compute_mean_track_length()),
        num_models=num_models,
        homography_ratio=homography_ratio,
    )


def read_camera(camera: Any) -> tuple[Float64[np.ndarray, "3 3"], Distortion]:
    """Return K and the distortion of a camera."""
    K = np.asarray(camera.calibration_matrix(), dtype=np.float64)
    lens = [float(value) for value in np.asarray(camera.params)[list(camera.extra_params_idxs())]]
    return K, Distortion(*lens)  # k1, k2, p1, p2 in this order, as many as the model has


def _median_parallax_deg(model: Any) -> float:
    posed = (image for image in model.images.values() if image.has_pose)
    centres = {image.image_id: np.asarray(image.cam_from_world().inverse().translation) for image in posed}
    widest = []
    for point in model.points3D.values():
        seen_from = np.stack([centres[element.image_id] for element in point.track.elements])
        rays = seen_from - point.xyz
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        widest.append(math.acos(float(np.clip((rays @ rays.T).min(), -1.0, 1.0))))
    return math.degrees(float(np.median(widest))) if widest else 0.0
