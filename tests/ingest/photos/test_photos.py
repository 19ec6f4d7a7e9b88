"""Photographs become scenes: any format, upright, mixed lenses and sizes, folders as scenes."""

import importlib.util
import json
import logging
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_stages import FakeStage, InlineExecutor
from PIL import Image
from pose_fakes import walk
from posed_video import similarity_errors

from wnv.ingest.clip.clip_stage import ClipStage
from wnv.ingest.clip.segments import ClipRules
from wnv.ingest.driver import run
from wnv.ingest.fetch.fetch_stage import FetchStage
from wnv.ingest.ledger import Ledger
from wnv.ingest.manifest.manifest import make_manifest
from wnv.ingest.pack_stage import PackStage
from wnv.ingest.photos.import_photos import import_photos
from wnv.ingest.photos.photo_set import Lens, PhotoEntry
from wnv.ingest.photos.read_photo import read_photo
from wnv.ingest.pose.colmap import ColmapEstimator
from wnv.ingest.pose.estimator import PhotosEstimate, PoseStatistics
from wnv.ingest.pose.filters import PoseFilters
from wnv.ingest.pose.pose_stage import PoseStage
from wnv.ingest.tasks import Outcome, Stage, StageError, StageName
from wnv.scenes.importers.capture import ImportOptions
from wnv.scenes.listing import open_scene
from wnv.scenes.scene_file import validate_scene
from wnv.scenes.undistort import Distortion

SHARED_DATA = Path(__file__).parents[3].parent / "shared" / "data"
# Red, green, blue and white quarters.
CORNERS = np.array([[[200, 30, 30], [30, 200, 30]], [[30, 30, 200], [200, 200, 200]]], dtype=np.uint8)
FOCAL = 0.8  # over the longer side


def write_photo(path: Path, *, width: int = 96, height: int = 64, orientation: int = 1, film_mm: int = 0) -> Path:
    """Write four colored quarters, upright if the EXIF orientation is applied."""
    image = CORNERS.repeat(height // 2, axis=0).repeat(width // 2, axis=1)
    if orientation == 6:  # stored turned to the left; viewers turn it right by 90 degrees
        image = np.rot90(image)
    exif = Image.Exif()
    exif[0x0112], exif[0x0110] = orientation, "phone"
    if film_mm:
        exif.get_ifd(0x8769)[0xA405] = film_mm
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(image)).save(path, exif=exif, quality=95)
    return path


def quarters(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    return image[height // 4 :: height // 2, width // 4 :: width // 2][:2, :2].astype(int)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_photographs_are_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    photo = read_photo(write_photo(tmp_path / f"a{suffix}", orientation=orientation, film_mm=27))
    assert photo.image.shape == (64, 96, 3)
    assert np.abs(quarters(photo.image) - CORNERS).max() < 25
    # Pillow writes no lens data into TIFF.
    assert photo.focal == (None if suffix == ".tif" else pytest.approx(0.75))
    assert "phone" in photo.lens


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "CMYK"])
def test_photographs_become_8_bit_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(np.full((8, 8), 60_000, dtype=np.uint16)) if mode == "I;16" else Image.new(mode, (8, 8))
    image.save(tmp_path / "a.tif")
    photo = read_photo(tmp_path / "a.tif")
    assert (photo.image.shape, photo.image.dtype, photo.focal) == ((8, 8, 3), np.uint8, None)


def test_heic_needs_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"0" * 99)
    with pytest.raises(StageError, match=r"a\.heic.*wnv\[heif\]") as caught:
        read_photo(tmp_path / "a.heic")
    assert caught.value.outcome.reason == "unsupported_photo"


def test_heic_is_read(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    image = Image.fromarray(CORNERS.repeat(32, axis=0).repeat(48, axis=1))
    heif.from_pillow(image).save(tmp_path / "a.heic", quality=90)
    assert np.abs(quarters(read_photo(tmp_path / "a.heic").image) - CORNERS).max() < 25


def test_folders_of_photographs_are_scenes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("IMG_10.JPG", "IMG_2.JPG", "sub/deep/a.png", "sub/b.txt"):
        (tmp_path / "house" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "house" / name).touch()
    lines = make_manifest([tmp_path / "house"], kind="static", out=tmp_path / "a.jsonl").lines
    assert [(line.key, line.title, line.photos) for line in lines] == [
        ("photos:house/.", "house", ("IMG_2.JPG", "IMG_10.JPG")),
        ("photos:sub/deep", "deep", ("a.png",)),
    ]
    assert make_manifest([tmp_path / "a.jsonl"]).lines == lines
    with Ledger.open(tmp_path / "root", val_fraction=0.0, test_fraction=0.0) as ledger:
        assert ledger.add_videos(lines)["new"] == 2
        (tmp_path / "house" / "IMG_11.JPG").touch()
        counts = ledger.add_videos(make_manifest([tmp_path / "house"], kind="static").lines)
        assert (counts["changed"], counts["known"]) == (1, 1)
    for name in ("IMG_2.mov", "raw.CR2"):  # of a Live Photo, and a format that must be converted
        (tmp_path / "house" / name).touch()
    assert len(make_manifest([tmp_path / "house"], kind="static").lines) == 2
    assert "1 .mov files of Live Photos" in caplog.text
    assert re.search(r"1 photographs .*\(raw\.CR2\)", caplog.text)
    (tmp_path / "house" / "video.mp4").touch()
    (line,) = make_manifest([tmp_path / "house"], kind="static").lines
    assert line.key == "file:video.mp4"
    assert "4 photographs beside videos" in caplog.text


class WalkingPhotos:
    """Cameras along x for all photographs but those named in `lost`."""

    def __init__(self, lost: Sequence[str] = ()) -> None:
        self.lost = tuple(lost)

    def versions(self) -> dict[str, str]:
        return {}

    def estimate(self, frames: Sequence[Path], **_: Any) -> None:
        raise AssertionError("not a video")

    def estimate_photos(self, photos: Sequence[Path], *, entries: Sequence[PhotoEntry], **_: Any) -> PhotosEstimate:
        lenses = {}
        for entry in entries:
            focal = FOCAL * max(entry.width, entry.height)
            K = np.array([[focal, 0, entry.width / 2], [0, focal, entry.height / 2], [0, 0, 1.0]])
            lenses[entry.camera] = Lens(K=K, distortion=Distortion())
        cameras = walk(len(photos))
        found = {index: cameras[index] for index, entry in enumerate(entries) if entry.name not in self.lost}
        statistics = PoseStatistics(reprojection_px=0.5, parallax_deg=9.0)
        return PhotosEstimate(lenses=lenses, camtoworlds=found, statistics=statistics)


def run_photos(folder: Path, root: Path, pose: PoseStage, *, photo_short_side: int = 48) -> dict[str, Outcome]:
    """Take a folder of photographs through all stages."""
    stages: dict[StageName, Stage] = {
        "fetch": FetchStage(videos=folder),
        "clip": ClipStage(rules=ClipRules(), photo_short_side=photo_short_side),
        "pose": pose,
        "pack": PackStage(image_format="png"),
    }
    with Ledger.open(root, val_fraction=0.0, test_fraction=0.0) as ledger:
        ledger.add_videos(make_manifest([folder], kind="static").lines)
        run(ledger, stages, InlineExecutor())
        return {
            row.stage: Outcome(state=row.state, reason=row.reason, message=row.message, result=row.result)
            for row in ledger.rows()
        }


def walking(*lost: str) -> PoseStage:
    return PoseStage(estimator=WalkingPhotos(lost), filters=PoseFilters())


@pytest.mark.usefixtures("in_this_process")
def test_mixed_photographs_become_one_scene(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    photos = tmp_path / "photos"
    for number in range(4):
        write_photo(photos / f"{number}.jpg", orientation=6 if number == 1 else 1)
    write_photo(photos / "4.png", width=64, height=96)  # portrait
    write_photo(photos / "5.jpg", width=48, height=32)  # small
    write_photo(photos / "6.jpg")
    (photos / "7.jpg").write_bytes(b"no photograph")
    outcomes = run_photos(photos, tmp_path / "root", walking("6.jpg"))
    assert {stage: outcome.state for stage, outcome in outcomes.items()} == dict.fromkeys(outcomes, "done")
    assert "1 of 8 photographs left out; left out: 7.jpg" in outcomes["clip"].message
    assert outcomes["clip"].result["clips"][0]["stats"] == {"num_cameras": 3, "num_sizes": 3, "num_with_focal": 0}
    assert "1 photographs without a pose: 6.jpg" in outcomes["pose"].message
    assert outcomes["pack"].message == "1 of 6 photographs were cropped to 72 x 48"
    for stage in ("clip", "pose", "pack"):
        assert f"photos:photos/.: {stage}: {outcomes[stage].message}" in caplog.text
    path = tmp_path / "root" / outcomes["pack"].result["file"]
    info = validate_scene(path)
    assert (info.width, info.height, len(info.frames)) == (72, 48, 6)
    assert info.source["photos"] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.png", "5.jpg"]
    scene = open_scene(path)
    for index in range(6):
        image, K = scene.image_u8(index), info.frames[index].K
        assert np.abs(quarters(image) - CORNERS).max() < 40, index
        assert K[:2, 2].tolist() == [36.0, 24.0]
        # The portrait photograph is scaled to the scene's width: its longer side becomes 108 pixels.
        assert K[0, 0] == pytest.approx(FOCAL * (108 if index == 4 else 72))
    assert np.array_equal(info.frames[0].camtoworld, np.eye(4))


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("num_photos", "lost", "stage", "reason", "text"),
    [
        (2, [], "clip", "few_photos", "2 of 2 photographs can be used, at least 3"),
        (5, ["0.jpg", "1.jpg"], "pose", "few_registered", "3 of 5.*at least 4.*min_registered=0.7"),
    ],
)
def test_refusals_name_value_limit_and_setting(
    tmp_path: Path, num_photos: int, lost: list[str], stage: str, reason: str, text: str
) -> None:
    for number in range(num_photos):
        write_photo(tmp_path / "photos" / f"{number}.jpg")
    outcome = run_photos(tmp_path / "photos", tmp_path / "root", walking(*lost))[stage]
    assert (outcome.state, outcome.reason) == ("refused", reason)
    assert re.search(text, outcome.message)


@pytest.mark.usefixtures("in_this_process")
def test_folders_are_imported_without_a_root(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source, out = tmp_path / "house", tmp_path / "scenes"
    for name in ("0.jpg", "1.jpg", "2.jpg", "attic/0.jpg", "attic/1.jpg", "attic/2.jpg", "few/0.jpg"):
        write_photo(source / name)
    stages: dict[StageName, Stage] = {"pose": walking()}
    result = import_photos(source, out, stages=stages, options=ImportOptions(max_side=48, image_format="png"))
    assert result.written == [out / "house.zip", out / "attic.zip"]
    (rejection,) = result.rejected
    assert rejection.where == str(source / "few")
    assert re.search("few_photos: 1 of 1 photographs can be used, at least 3", str(rejection))
    info = validate_scene(out / "house.zip")
    assert (info.id, info.width, info.height, len(info.frames)) == ("house", 48, 32, 3)
    assert sorted(path.name for path in out.iterdir()) == ["attic.zip", "house.zip"]
    again = import_photos(source, out, stages=stages)
    assert (again.written, again.skipped) == ([], result.written)
    (tmp_path / "house" / "clip.mp4").touch()
    with pytest.raises(ValueError, match="holds videos; import them with wnv-data run"):
        import_photos(source, out, stages=stages)


@pytest.mark.usefixtures("in_this_process")
def test_photographs_with_the_same_problem_are_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "photos").mkdir()
    for number in range(7):
        (tmp_path / "photos" / f"{number}.heic").write_bytes(b"0" * 99)
    outcome = run_photos(tmp_path / "photos", tmp_path / "root", walking())["clip"]
    assert (outcome.state, outcome.reason) == ("refused", "unsupported_photo")
    assert "0.heic, 1.heic, 2.heic, 3.heic, 4.heic, ...: HEIC" in outcome.message
    assert outcome.message.count("pip install") == 1


@pytest.mark.usefixtures("in_this_process")
def test_a_full_disk_ends_an_import_of_photographs(tmp_path: Path) -> None:
    for number in range(3):
        write_photo(tmp_path / "house" / f"{number}.jpg")
    full = FakeStage(name="pack", failures={"house": ["no_space"]})
    with pytest.raises(OSError, match="No space left"):
        import_photos(tmp_path / "house", tmp_path / "out", stages={"pose": walking(), "pack": full})
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["heic", "avif", "webp", "mixedori", "mixedres", "exif6_raw"])
@pytest.mark.skipif(not (SHARED_DATA / "failing").is_dir(), reason="../shared/data is not on this machine")
def test_given_photographs_of_each_format_are_read_or_refused(tmp_path: Path, name: str) -> None:
    folder = SHARED_DATA / "failing" / "photo_formats" / name / "images"
    if name == "heic" and importlib.util.find_spec("pillow_heif") is None:
        with pytest.raises(StageError, match=r"wnv\[heif\]"):
            read_photo(folder / "0.heic")
        return
    photos = [read_photo(path) for path in sorted(folder.iterdir())]
    assert len(photos) == 4
    assert all(photo.image.std() > 5 for photo in photos)
    sizes = {photo.image.shape[:2] for photo in photos}
    assert len(sizes) == (2 if name.startswith("mixed") else 1)
    if name == "exif6_raw":
        with Image.open(folder / "0.jpg") as stored:
            assert sizes == {(stored.width, stored.height)}  # height and width change places


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED_DATA / "fox").is_dir(), reason="../shared/data is not on this machine")
def test_photographs_of_the_fox_get_their_cameras(tmp_path: Path) -> None:
    pytest.importorskip("pycolmap", reason="pycolmap has no wheel for this machine")
    (tmp_path / "fox").mkdir()
    for path in sorted((SHARED_DATA / "fox" / "images").iterdir())[::4]:
        shutil.copy(path, tmp_path / "fox")
    stage = PoseStage(estimator=ColmapEstimator(), filters=PoseFilters())
    outcomes = run_photos(tmp_path / "fox", tmp_path / "root", stage, photo_short_side=540)
    assert outcomes["pose"].result["num_registered"] == 13
    info = validate_scene(tmp_path / "root" / outcomes["pack"].result["file"])
    given = json.loads((SHARED_DATA / "fox" / "transforms.json").read_text())["frames"]
    opengl = {Path(frame["file_path"]).name: np.array(frame["transform_matrix"]) for frame in given}
    true = np.stack([opengl[name] @ np.diag([1.0, -1.0, -1.0, 1.0]) for name in info.source["photos"]])
    position, rotation_deg = similarity_errors(info.camtoworld, true)
    assert position < 0.01
    assert rotation_deg < 0.5
