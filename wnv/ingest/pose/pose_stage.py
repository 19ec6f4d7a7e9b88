"""The pose stage: estimate the cameras of a clip and write them beside it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import wnv
from wnv.ingest.clip.segments import SLOW_FPS
from wnv.ingest.photos.photo_poses import PhotoPoses, write_photo_poses
from wnv.ingest.photos.photo_set import PHOTOS_SUFFIX, extract, read_entries
from wnv.ingest.pose.estimator import (
    ClipContext,
    ClipEstimator,
    PhotosEstimate,
    PhotosEstimator,
    PoseEstimate,
    PoseEstimator,
)
from wnv.ingest.pose.filters import PoseFilters, Verdict, place_photos
from wnv.ingest.pose.limits import run_limited
from wnv.ingest.pose.sample import Masks, Sample, Sampling
from wnv.ingest.pose.workspace import temporary_workspace
from wnv.ingest.tasks import Outcome, StageError, StageName, Task
from wnv.scenes.clip_poses import POSES_SUFFIX, ClipPoses, PosedFrame, write_poses

WORLD_UNIT = "median step between sampled frames"
PHOTOS_UNIT = "median distance of the cameras from their middle"

_SETTINGS = ("max_frames", "frame_step", "masks", "min_moving", "mask_overlays", "seed", "photos_exhaustive_up_to")
# The time limit grows with the number of pairs of photographs.
_PHOTOS_IN_TIME_LIMIT = 48


@dataclass(eq=False, kw_only=True)
class PoseStage:
    """Estimates the cameras of a clip and writes them beside it.

    An estimator runs on sampled frames in a separate process, and its cameras are filtered. If they are rejected or the
    process crashes, a second estimator is used once. The world frame is that of the first camera; one unit is the
    median step between neighboring sampled frames, at unknown metric scale. Seeds are the same for every clip and
    attempt, so that repeated runs give the same poses.

    Args:
        estimator: The first estimator.
        retry: Second estimator, used when the first result is rejected or the process crashed; None for none.
        filters: Requirements on cameras.
        max_frames: Maximum number of frames of a video, sampled evenly; None for no limit.
        frame_step: Sample every n-th frame; None samples every frame, up to `max_frames`.
        masks: Whether to mask moving objects of videos: in `dynamic` clips, `always`, `never`, or `auto`: in dynamic
            clips, and in static ones of which at least `min_moving` moves.
        min_moving: See there; share of the picture that moves against the camera, 0..1.
        mask_overlays: Whether to find burnt-in text, logos and the like in videos, and to leave them out.
        photos_exhaustive_up_to: With at most this many photographs, all pairs are matched; of more, those near by name
            or alike.
        seed: Seed of the first estimator; the second one uses `seed + 1`.
        time_limit_s: Wall clock seconds per estimate; for photographs, per 48^2 pairs.
        memory_limit_gb: Memory per estimate, in 2^30 bytes.
        workspace: Folder for temporary files, about 0.5 MB per frame; None for the system's.
    """

    name: ClassVar[StageName] = "pose"

    estimator: PoseEstimator
    retry: PoseEstimator | None = None
    filters: PoseFilters
    max_frames: int | None = 48
    frame_step: int | None = None
    masks: Masks = "auto"
    min_moving: float | int = 0.15
    mask_overlays: bool = True
    photos_exhaustive_up_to: int = 150
    seed: int = 0
    time_limit_s: float | int = 900.0
    memory_limit_gb: float | int = 4.0
    workspace: str | None = None

    def __post_init__(self) -> None:
        self._sampling()  # checks its settings
        if self.photos_exhaustive_up_to < 2:
            raise ValueError(f"photos_exhaustive_up_to must be at least 2, got {self.photos_exhaustive_up_to}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        for name in ("time_limit_s", "memory_limit_gb"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")

    def versions(self) -> dict[str, str]:
        """Return the settings and tool versions that the poses depend on."""
        estimators = self._estimators()
        settings = {
            "estimators": [describe(estimator) for estimator in estimators],
            "filters": describe(self.filters),
            **{name: getattr(self, name) for name in _SETTINGS},
        }
        tools = {name: version for estimator in estimators for name, version in estimator.versions().items()}
        return {"wnv": wnv.__version__, **tools, "settings": json.dumps(settings, sort_keys=True)}

    def __call__(self, task: Task) -> Outcome:
        """Write the poses of one clip."""
        sidecar = str(PurePosixPath(task.payload["file"]).with_suffix(POSES_SUFFIX))
        try:
            outcome = self._pose(task, sidecar)
        except StageError as error:
            outcome = error.outcome
        if outcome.state == "refused":
            (task.root / sidecar).unlink(missing_ok=True)  # poses of an earlier run are no longer valid
        return outcome

    def _pose(self, task: Task, sidecar: str) -> Outcome:
        clip = task.payload
        with temporary_workspace(None if self.workspace is None else Path(self.workspace)) as workspace:
            if clip["file"].endswith(PHOTOS_SUFFIX):
                return self._pose_photos(task, sidecar, workspace)
            sample = self._sampling().sample(
                task.root / clip["file"], workspace, kind=clip["kind"], min_frames=self.filters.min_frames
            )
            times_s = tuple(float(clip["start_s"] + index / sample.fps) for index in sample.indices)
            context = ClipContext(video=str(clip.get("url") or clip["key"]), times_s=times_s)
            verdict, record = self._estimate(sample, context, workspace)
        stats = {
            **verdict.stats,
            "moving_share": sample.moving_share,
            "overlay_share": sample.overlay_share,
            "is_masked": sample.masks is not None,
            "num_tries": len(record["tries"]),
        }
        if verdict.estimate is None:
            return _refused(verdict.reason, record["tries"], stats)
        poses = _clip_poses(clip, sample, verdict.estimate, {**record, "sfm": stats})
        path = write_poses(task.root / sidecar, poses)
        return _done(path, sidecar, num_frames=len(sample.indices), num_registered=len(poses.frames), stats=stats)

    def _pose_photos(self, task: Task, sidecar: str, workspace: Path) -> Outcome:
        file = task.root / task.payload["file"]
        entries = read_entries(file)
        photos = extract(file, workspace / "frames", entries)
        tries: list[dict[str, str]] = []
        reason, stats, estimate, estimator, number = "no_model", {}, None, self.estimator, 0
        for number, estimator in enumerate(self._estimators()):
            if not isinstance(estimator, PhotosEstimator):
                message = f"{describe(estimator)['name']} has no estimate_photos and cannot pose photographs"
                raise StageError("refused", "unsupported_photo", message)
            estimate = self._run(
                estimator.estimate_photos,
                number,
                tries,
                workspace,
                slowness=max(1.0, (len(photos) / _PHOTOS_IN_TIME_LIMIT) ** 2),
                photos=photos,
                entries=entries,
                exhaustive_up_to=self.photos_exhaustive_up_to,
            )
            if estimate is _CRASHED:
                continue
            reason, message = self.filters.check_photos(estimate, entries=entries)
            tries.append({"reason": reason, "message": message})
            if reason == "ok":
                break
        num_registered = len(estimate.camtoworlds) if isinstance(estimate, PhotosEstimate) else 0
        if isinstance(estimate, PhotosEstimate):
            values = {name: value for name, value in asdict(estimate.statistics).items() if value is not None}
            stats = {"num_sampled": len(photos), "num_registered": num_registered, **values}
        stats = {**stats, "registered_ratio": num_registered / len(photos), "num_tries": len(tries)}
        if reason != "ok" or not isinstance(estimate, PhotosEstimate):
            return _refused(reason, tries, stats)
        record = self._record(estimator, number, tries)
        missing = [entry.name for index, entry in enumerate(entries) if index not in estimate.camtoworlds]
        source = _source(task.payload, PHOTOS_UNIT) | {**record, "sfm": stats, "without_pose": missing}
        camtoworlds = place_photos(estimate.camtoworlds)
        write_photo_poses(
            task.root / sidecar, PhotoPoses(lenses=estimate.lenses, camtoworlds=camtoworlds, source=source)
        )
        notes = [f"{len(missing)} photographs without a pose: {', '.join(missing[:5])}"] if missing else []
        if self.masks == "always" or (self.masks != "never" and task.payload["kind"] == "dynamic"):
            notes.append("moving objects are not masked in photographs")
        outcome = _done(
            task.root / sidecar, sidecar, num_frames=len(photos), num_registered=num_registered, stats=stats
        )
        return replace(outcome, message="; ".join(notes))

    def _sampling(self) -> Sampling:
        return Sampling(**{entry.name: getattr(self, entry.name) for entry in fields(Sampling)})

    def _estimate(self, sample: Sample, clip: ClipContext, workspace: Path) -> tuple[Verdict, dict[str, Any]]:
        """Return the verdict on the first accepted cameras, or on the last ones, and a record of all attempts."""
        tries: list[dict[str, str]] = []
        verdict, estimator, number = Verdict(estimate=None, stats={}), self.estimator, 0
        for number, estimator in enumerate(self._estimators()):
            function: Callable[..., Any] = estimator.estimate
            about: dict[str, Any] = {}
            if isinstance(estimator, ClipEstimator):
                function, about = estimator.estimate_clip, {"clip": clip}
            estimate = self._run(function, number, tries, workspace, frames=sample.frames, masks=sample.masks, **about)
            if estimate is _CRASHED:
                continue
            verdict = self.filters.check(
                estimate,
                width=sample.width,
                height=sample.height,
                num_frames=len(sample.frames),
                is_path=sample.fps > SLOW_FPS,
            )
            tries.append({"reason": verdict.reason, "message": verdict.message})
            if verdict.estimate is not None:
                break
        return verdict, self._record(estimator, number, tries)

    def _estimators(self) -> list[PoseEstimator]:
        return [self.estimator] + ([self.retry] if self.retry is not None else [])

    def _run(
        self,
        function: Callable[..., Any],
        number: int,
        tries: list[dict[str, str]],
        workspace: Path,
        *,
        slowness: float = 1.0,
        **arguments: Any,
    ) -> Any:
        """Run an estimator in a limited process; return `_CRASHED` if it crashed and another one is left to try."""
        folder = workspace / f"try{number}"
        (folder / "estimator").mkdir(parents=True)
        try:
            return run_limited(
                function,
                folder=folder,
                time_limit_s=self.time_limit_s * slowness,
                memory_limit_gb=self.memory_limit_gb,
                seed=self.seed + number,
                workspace=folder / "estimator",
                **arguments,
            )
        except StageError as error:
            # Other settings may avoid a crash; an estimate that took too long is not repeated.
            if error.outcome.reason != "crashed" or number == len(self._estimators()) - 1:
                raise
            tries.append({"reason": "crashed", "message": error.outcome.message})
            return _CRASHED

    def _record(self, estimator: PoseEstimator, number: int, tries: list[dict[str, str]]) -> dict[str, Any]:
        return {
            "estimator": describe(estimator),
            "seed": self.seed + number,
            "tools": {"wnv": wnv.__version__, **estimator.versions()},
            "tries": tries,
        }


_CRASHED = object()


def _refused(reason: str, tries: list[dict[str, str]], stats: Mapping[str, Any]) -> Outcome:
    message = "; then ".join(f"{entry['reason']}: {entry['message']}" for entry in tries)
    return Outcome(state="refused", reason=reason, message=message, result={"stats": stats})


def _done(path: Path, sidecar: str, **result: Any) -> Outcome:
    return Outcome(state="done", result={"sidecar": sidecar, **result}, num_bytes=path.stat().st_size)


def describe(thing: object) -> dict[str, Any]:
    """Return class name and plain attributes of an object, as JSON values, without those in its `unrecorded`."""
    unrecorded = getattr(thing, "unrecorded", ())
    plain = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(thing).items()
        if name not in unrecorded and isinstance(value, (str, int, float, bool, type(None), tuple, list))
    }
    return {"name": f"{type(thing).__module__}.{type(thing).__qualname__}", **plain}


def _clip_poses(clip: Mapping[str, Any], sample: Sample, estimate: PoseEstimate, record: dict[str, Any]) -> ClipPoses:
    source = _source(clip, WORLD_UNIT) | record
    indices = [sample.indices[position] for position in sorted(estimate.camtoworlds)]
    return ClipPoses(
        id=clip["id"],
        kind=clip["kind"],
        width=sample.width,
        height=sample.height,
        fps=sample.fps,
        K=estimate.K,
        distortion=estimate.distortion,
        frames=tuple(
            PosedFrame(index=index, time_s=float(index / sample.fps), camtoworld=estimate.camtoworlds[position])
            for index, position in zip(indices, sorted(estimate.camtoworlds), strict=True)
        ),
        scale=None,
        source=source,
    )


def _source(clip: Mapping[str, Any], unit: str) -> dict[str, Any]:
    return {
        "format": "wnv-data",
        "manifest_key": clip["key"],
        "url": clip.get("url"),
        "title": clip.get("title"),
        "segment": [clip["start_s"], clip["end_s"]],
        **({"bars": clip["bars"]} if clip.get("bars") else {}),
        "world": {"unit": unit, **({"median_step": 1.0} if unit == WORLD_UNIT else {}), "frame": "the first camera"},
    }
