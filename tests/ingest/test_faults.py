"""Faults, second table: disk, videos, lists. Every row runs `wnv-data` on real files.

disk                                this run                        the next run, once fixed
full, at once or half-way           one-line error, exit code 2     all scenes, byte for byte
read-only, new or finished          one-line error, exit code 2     all scenes, byte for byte

local video                         result
corrupt, cut off, empty, 1 frame    a reason in the ledger; once replaced by a good file, a scene
odd sizes, rotated, HDR, VFR        a scene, upright, even sizes, standard range
Chinese and emoji in its name       a scene with that title

list                                result
of 10,000 rows                      in the ledger within seconds
of file:// and ../                  reasons; no file outside the root is read or written
"""

import errno
import itertools
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from fake_stages import manifest
from loopback.site import LoopbackSite
from pipeline import (
    NO_COLMAP,
    NO_PARALLAX,
    QUICK,
    assert_complete,
    assert_sound,
    copy_root,
    leftovers,
    outcomes,
    scenes,
    wnv_data,
    write_list,
)
from video_files import moving, write_video

from wnv.ingest.ledger import Ledger
from wnv.ingest.status import status_text
from wnv.ingest.tasks import Outcome
from wnv.pages.ingest.report import write_ingest_report
from wnv.scenes.scene_file import validate_scene

# One worker of each kind, since starting them takes longest.
SETTINGS = (*QUICK, *NO_PARALLAX, *NO_COLMAP, "executor.num_workers=1", "executor.num_fetchers=1")


class SmallDisk:
    """A tmpfs whose size and permissions can be changed."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        self._mount("-t", "tmpfs", "-o", "size=64m", "tmpfs")

    def resize(self, num_bytes: int) -> None:
        self._mount("-o", f"remount,size={num_bytes}")

    def set_writable(self, writable: bool) -> None:
        self._mount("-o", f"remount,{'rw' if writable else 'ro'}")

    def num_bytes(self) -> int:
        state = os.statvfs(self.place)
        return (state.f_blocks - state.f_bfree) * state.f_frsize

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", self.place], check=True)

    def _mount(self, *arguments: str) -> None:
        try:
            subprocess.run(["mount", *arguments, str(self.place)], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            output = getattr(error, "stderr", b"") or str(error).encode()
            pytest.skip(f"a small file system cannot be mounted here: {output.decode().strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    made = SmallDisk(tmp_path / "disk")
    yield made
    made.unmount()


@dataclass(frozen=True)
class Undisturbed:
    source: Path
    root: Path
    scenes: dict[str, str]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Undisturbed]:
    """An undisturbed run of three videos."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with LoopbackSite() as site:
        video = write_video(folder / "video.mp4", moving(16), fps=10)
        source = write_list(folder / "walk.csv", [site.add(f"/{number}.mp4", video) for number in range(3)])
        wnv_data("run", f"source={source}", "root=root", *SETTINGS, cwd=folder)
        found = assert_sound(folder / "root")
        assert len(found) == 3
        yield Undisturbed(source, folder / "root", found)


@pytest.mark.slow
def test_a_full_disk(disk: SmallDisk, undisturbed: Undisturbed, tmp_path: Path) -> None:
    root = disk.place / "root"
    copy_root(undisturbed.root, root)
    full = disk.num_bytes()
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    root.rmdir()
    command = ("run", f"source={undisturbed.source}", f"root={root}", *SETTINGS)
    for share in (0.02, 0.5):
        disk.resize(int(share * full))
        _, err = wnv_data(*command, cwd=tmp_path, code=2)
        last = err.strip().splitlines()[-1]
        assert last.startswith("wnv-data run: error: ")
        # SQLite does not always name the error of a disk.
        assert any(text in last for text in (os.strerror(errno.ENOSPC), "disk is full", "(0.0 MB free)")), err
        assert "Traceback" not in err
    before = assert_sound(root)
    with Ledger.read(root) as ledger:
        states = {state for counts in ledger.counts().values() for state in counts}
    assert states <= {"done", "pending", "running"}, "an item failed because of the disk"
    disk.resize(4 * full)
    wnv_data(*command, cwd=tmp_path)
    assert_complete(root, undisturbed.scenes)
    assert before.items() <= scenes(root).items()


@pytest.mark.slow
def test_a_read_only_root(disk: SmallDisk, undisturbed: Undisturbed, tmp_path: Path) -> None:
    root = disk.place / "root"
    command = ("run", f"source={undisturbed.source}", f"root={root}", *SETTINGS)
    for is_finished in (False, True):
        disk.set_writable(True)
        if is_finished:
            copy_root(undisturbed.root, root)
        disk.set_writable(False)
        _, err = wnv_data(*command, cwd=tmp_path, code=2)
        assert err.startswith(f"wnv-data run: error: root={root} cannot be written to: ")
        assert len(err.splitlines()) == 1
        assert root.exists() == is_finished
    out, _ = wnv_data("status", f"root={root}", cwd=tmp_path)
    assert "3 videos" in out
    wnv_data("report", f"root={root}", "out=page.html", cwd=tmp_path)
    disk.set_writable(True)
    wnv_data(*command, cwd=tmp_path)
    assert_complete(root, undisturbed.scenes)


NO_SCENE = {
    "junk.mp4": "fetch refused corrupt",
    "cut_off.mp4": "fetch refused corrupt",
    "empty.mp4": "fetch refused empty_file",
    "one_frame.mp4": "fetch refused few_frames",
}
# Width and height of the scene.
SCENES = {
    "odd.mp4": (190, 106),
    "phone.mp4": (108, 192),
    "hdr.mp4": (192, 108),
    "varying.mp4": (192, 108),
    "泰迪熊 🧸 'café' \"Ä\" – 第1集.mp4": (192, 108),
    "a/b/лес.MOV": (192, 108),
}
SHOT = dict.fromkeys(NO_SCENE, None) | SCENES


def _distinct(content: bytes, number: int) -> bytes:
    """The same video as another file: with a box of this size at its end."""
    return content + (8 + number).to_bytes(4, "big") + b"free" + bytes(number)


def _make_videos(folder: Path) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    plain = write_video(folder / "a" / "b" / "лес.MOV", moving(16), fps=10)
    content = plain.read_bytes()
    (folder / "泰迪熊 🧸 'café' \"Ä\" – 第1集.mp4").write_bytes(_distinct(content, 1))
    (folder / "junk.mp4").write_bytes(np.random.default_rng(0).bytes(50_000))
    (folder / "cut_off.mp4").write_bytes(content[: len(content) // 2])
    (folder / "empty.mp4").write_bytes(b"")
    write_video(folder / "one_frame.mp4", moving(1), fps=10)
    odd = (np.ascontiguousarray(image[:107, :191]) for image in moving(16))
    write_video(folder / "odd.mp4", odd, fps=10, pix_fmt="yuv444p")
    write_video(folder / "phone.mp4", moving(16), fps=10, rotation=90)
    write_video(
        folder / "hdr.mp4",
        moving(16),
        fps=10,
        codec="libx265",
        pix_fmt="yuv420p10le",
        colours={"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1},
        options={"x265-params": "log-level=none:pools=1:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"},
    )
    ticks = np.cumsum(np.random.default_rng(0).choice([50, 100, 150], size=16)).tolist()
    write_video(folder / "varying.mp4", moving(16), fps=10, pts=ticks, time_base=Fraction(1, 1000))


@pytest.mark.slow
def test_videos_of_all_kinds(tmp_path: Path) -> None:
    videos, root = tmp_path / "我的视频 (1)", tmp_path / "root"
    _make_videos(videos)
    before = {path: path.read_bytes() for path in videos.rglob("*") if path.is_file()}
    wnv_data("run", f"source={videos}", "root=root", *SETTINGS, cwd=tmp_path)
    expected = {f"file:{name}": why for name, why in NO_SCENE.items()} | {f"file:{name}": "done" for name in SCENES}
    assert outcomes(root) == expected
    found = assert_sound(root)
    with Ledger.read(root) as ledger:
        packed = {row.key.removeprefix("file:"): row.result["file"] for row in ledger.rows("pack")}
    assert set(found) == set(packed.values())
    for name, size in SCENES.items():
        info = validate_scene(root / packed[name])
        assert (info.width, info.height) == size, name
        assert info.source["manifest_key"] == f"file:{name}"
        assert info.source["title"] == Path(name).stem
    # Rejected videos are not retried; fixed ones are, on request.
    out, _ = wnv_data("run", f"source={videos}", "root=root", *SETTINGS, cwd=tmp_path)
    assert "nothing to do" in out
    assert {path: path.read_bytes() for path in videos.rglob("*") if path.is_file()} == before
    for number, name in enumerate(NO_SCENE, 2):
        (videos / name).write_bytes(_distinct(before[videos / "a" / "b" / "лес.MOV"], number))
    wnv_data("run", f"source={videos}", "root=root", "retry=all", *SETTINGS, cwd=tmp_path)
    assert set(outcomes(root).values()) == {"done"}
    after = assert_sound(root)
    assert found.items() <= after.items()
    assert len(after) == len(SHOT)
    assert_complete(root, after)


@pytest.mark.slow
def test_ten_thousand_videos(tmp_path: Path) -> None:
    # CPU time, since other processes use the machine.
    began = time.process_time()
    lines = manifest(10_000)
    with Ledger.open(tmp_path, val_fraction=0.2, test_fraction=0.1) as ledger:
        assert ledger.add_videos(lines)["new"] == 10_000
        assert ledger.add_videos(lines)["known"] == 10_000
        for item in ledger.pending("fetch")[:2000]:
            ledger.finish(ledger.start("fetch", item), Outcome(state="failed", reason="transient"))
        assert "10000 videos" in status_text(tmp_path)
        write_ingest_report(tmp_path)
    assert time.process_time() - began < 30


TRICKS = (
    "file:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    "/etc/passwd",
    "../../../etc/passwd",
    "C:\\Windows\\win.ini",
    "\\\\server\\share\\a.mp4",
    "http://127.0.0.1:1/../../../../tmp/evil.mp4",
    "http://127.0.0.1:1/%2e%2e%2f%2e%2e%2fevil.mp4",
    "http://127.0.0.1:1/a%00.mp4",
    "http://user:secret@127.0.0.1:1/a.mp4",
    "ftp://127.0.0.1/a.mp4",
    "data:video/mp4;base64,AAAA",
    "javascript:alert(1)",
    "http://169.254.169.254/latest/meta-data",
    "http://[::1]:1/a.mp4",
    "http://2130706433:1/a.mp4",
    "https://www.bilibili.com.evil.example/video/BV1Knp5YJ4st",
    "--exec=touch evil",
)


def _tricky_lines() -> Iterator[str]:
    """Canonical lines that the manifest stage would not write."""
    for key, url in itertools.product(
        ("../../evil", "file:../../etc/passwd", "file:/etc/passwd", "file:link/passwd", "url:../../evil"),
        ("file:///etc/passwd", "../../etc/passwd", "/etc/passwd", "link/passwd"),
    ):
        yield json.dumps({"key": key, "url": url, "title": "<b>../../x", "kind": "static", "segments": []})


@pytest.mark.slow
def test_tricks_with_paths(tmp_path: Path) -> None:
    place = tmp_path / "inside" / "place"
    (place / "videos").mkdir(parents=True)
    (place / "videos" / "link").symlink_to("/etc")
    write_video(place / "videos" / "good.mp4", moving(16), fps=10)
    write_list(place / "static.csv", [f'"{trick}"' for trick in TRICKS])
    (place / "static.jsonl").write_text("\n".join(_tricky_lines()) + "\n", encoding="utf-8")
    before = _everything(tmp_path)
    settings = [text for text in SETTINGS if not text.startswith(("fetch.hosts", "fetch.allow_private"))]
    source = f"source=[{place}/static.csv,{place}/static.jsonl,{place}/videos]"
    wnv_data("run", source, "root=root", "kind=static", *settings, cwd=place)
    found = outcomes(place / "root")
    assert found.pop("file:good.mp4") == "done"
    assert set(found.values()) <= {"fetch refused forbidden_address", "fetch refused gone"}, found
    assert len(found) > 3
    assert len(assert_sound(place / "root")) == 1
    assert leftovers(place / "root") == []
    after = {path for path in _everything(tmp_path) if not path.startswith("inside/place/root")}
    assert after == before
    assert b"root:x:0" not in b"".join(path.read_bytes() for path in (place / "root").rglob("*") if path.is_file())
    write_ingest_report(place / "root")
    assert "<b>../../x" not in (place / "root" / "report.html").read_text(encoding="utf-8")


def _everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
