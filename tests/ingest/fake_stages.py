"""Fast stages with scripted failures, and an executor without processes."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wnv.ingest.layout import clip_file, clip_id, scene_folder, video_file
from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.tasks import Outcome, Stage, StageError, StageName, Task, run_task
from wnv.runtime.atomic import atomic_file


@dataclass(kw_only=True)
class FakeStage:
    """Writes one file per output.

    Attributes:
        name: The stage it replaces.
        seconds: Duration of a task, during which a file is half-written.
        num_clips: Clips per video.
        failures: Failures of an item per attempt; later attempts succeed.
        setting: A setting that the outputs depend on.
    """

    name: StageName
    seconds: float = 0.0
    num_clips: int = 2
    failures: Mapping[str, Sequence[str]] = field(default_factory=dict)
    setting: str = "1"

    def versions(self) -> dict[str, str]:
        return {"setting": self.setting, "tool": "0.1"}

    def __call__(self, task: Task) -> Outcome:
        self._fail_as_scripted(task)
        payload = task.payload
        if self.name == "fetch":
            file = video_file(task.item, 0, ".mp4")
            num_bytes = self._write(task, file)
            part = {"file": file, "start_s": 0.0, "end_s": 60.0}
            result = {"duration_s": 60.0, "segments": payload["segments"], "parts": [part], "setting": self.setting}
        elif self.name == "clip":
            result, num_bytes = {"clips": [], "dropped": []}, 0
            for index in range(self.num_clips):
                about = {name: payload[name] for name in ("key", "kind", "split")}
                clip = clip_id(payload["key"], 10.0 * index)
                file = clip_file(clip, kind=payload["kind"], split=payload["split"])
                num_bytes += self._write(task, file)
                result["clips"].append({"id": clip, "file": file, **about, "start_s": 10.0 * index, "stats": {}})
            if not self.num_clips:
                raise StageError("refused", "too_short", "no clip at all")
        elif self.name == "pose":
            file = str(Path(payload["file"]).with_suffix(".json"))
            num_bytes = self._write(task, file)
            result = {"sidecar": file, "num_frames": 9, "num_registered": 9, "stats": {}}
        else:
            file = f"{scene_folder(kind=payload['kind'], split=payload['split'])}/{task.item}.zip"
            num_bytes = self._write(task, file)
            result = {"file": file, "num_frames": 9, "width": 32, "height": 24}
        return Outcome(state="done", result=result, num_bytes=num_bytes)

    def _write(self, task: Task, file: str) -> int:
        content = f"{self.name} {task.item} {self.setting} {file}".encode()
        path = task.root / file
        if self.seconds:
            with atomic_file(path, overwrite=True) as target:
                target.write(content[:5])
                target.flush()
                time.sleep(self.seconds)
                target.write(content[5:])
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".tmp").write_bytes(content)
            path.with_suffix(".tmp").replace(path)
        # One line per output, unbuffered since several processes write.
        with open(task.root / "made.log", "ab", buffering=0) as log:
            log.write(f"{self.name} {file}\n".encode())
        return len(content)

    def _fail_as_scripted(self, task: Task) -> None:
        plan = self.failures.get(task.item, ())
        what = plan[task.attempt] if task.attempt < len(plan) else "none"
        if what in ("transient", "risk_control", "error_reason"):
            raise StageError("failed", what, f"{what} as scripted")
        if what in ("gone", "too_dark"):
            raise StageError("refused", what, f"{what} as scripted")
        if what == "no_space":
            raise OSError(28, "No space left on device")
        if what == "no_space_elsewhere":
            raise OSError(28, "No space left on device", "/elsewhere/file")
        if what in ("SIGKILL", "SIGABRT"):
            sys.stderr.write("last words 遗言\n")
            sys.stderr.flush()
            os.kill(os.getpid(), getattr(signal, what))
        if what == "exit":
            os._exit(3)
        if what == "hang":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            (task.root / "child.pid").write_text(f"{child.pid} {os.getpid()}")
            time.sleep(600)


class InlineExecutor:
    """Runs tasks in this process; `finished` lists them."""

    def __init__(self, *, num_workers: int = 2, num_fetchers: int = 2, on_task: Callable[[Task], None] | None = None):
        self.rooms = {"fetch": num_fetchers, "other": num_workers}
        self.queue: deque[tuple[Stage, Task]] = deque()
        self.finished: list[tuple[StageName, str]] = []
        self.num_cancelled = 0
        self.on_task = on_task

    def room(self, stage: StageName) -> int:
        lane = "fetch" if stage == "fetch" else "other"
        busy = sum(("fetch" if task.stage == "fetch" else "other") == lane for _, task in self.queue)
        assert busy <= self.rooms[lane]
        return self.rooms[lane] - busy

    def submit(self, stage: Stage, task: Task) -> None:
        self.queue.append((stage, task))

    def wait(self, timeout_s: float) -> list[tuple[Task, Outcome]]:
        if not self.queue:
            time.sleep(timeout_s)
            return []
        stage, task = self.queue.popleft()
        if self.on_task is not None:
            self.on_task(task)
        self.finished.append((task.stage, task.item))
        return [(task, run_task(stage, task))]

    def cancel(self) -> None:
        self.num_cancelled += len(self.queue)
        self.queue.clear()

    def close(self) -> None:
        pass


def fake_stages(**settings: object) -> dict[StageName, Stage]:
    """Return all four stages with the same settings."""
    return {name: FakeStage(name=name, **settings) for name in ("fetch", "clip", "pose", "pack")}  # type: ignore[arg-type]


def manifest(num_videos: int, *, host: str = "videos.example") -> list[ManifestLine]:
    """Return lines of videos that are not fetched."""
    return [
        ManifestLine(
            key=f"url:{index:03d}",
            url=f"https://{host}/{index}",
            title="北京 🚶 walk",
            kind="static" if index % 2 else "dynamic",
            segments=((1.0, 20.0),),
        )
        for index in range(num_videos)
    ]


def written(root: Path) -> set[str]:
    """Return all files under videos, clips and scenes, relative to the root."""
    folders = [root / name for name in ("videos", "clips", "scenes")]
    return {str(path.relative_to(root)) for folder in folders for path in folder.rglob("*") if path.is_file()}
