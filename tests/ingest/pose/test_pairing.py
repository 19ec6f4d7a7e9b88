"""Which images are matched."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
from posed_video import PosedVideo, render_room, similarity_errors

from wnv.ingest.photos.photo_set import PhotoEntry
from wnv.ingest.pose.colmap import ColmapEstimator
from wnv.ingest.pose.estimator import PhotosEstimate
from wnv.ingest.pose.limits import run_limited
from wnv.ingest.pose.pairing import frame_pairs, similar_pairs
from wnv.scenes.video import open_video

needs_pycolmap = pytest.mark.skipif(
    importlib.util.find_spec("pycolmap") is None, reason="pycolmap has no wheel for this machine"
)


def test_frame_pairs() -> None:
    assert len(frame_pairs(4, overlap=1, exhaustive_up_to=4, loop_every=0)) == 6
    pairs = frame_pairs(48, overlap=3, exhaustive_up_to=24, loop_every=10)
    assert pairs == sorted(set(pairs))
    assert all(0 <= first < second < 48 for first, second in pairs)
    assert [second for first, second in pairs if first == 1] == [2, 3, 4, 5, 9, 17, 33]
    assert [second for first, second in pairs if first == 10] == [11, 12, 13, 14, 18, 20, 26, 30, 40, 42]
    without = frame_pairs(48, overlap=3, exhaustive_up_to=24, loop_every=0)
    assert (10, 30) not in without


def write_photos(folder: Path, videos: list[PosedVideo], order: np.ndarray) -> list[Path]:
    """Write the frames of videos, one after another, as photographs in this order.

    COLMAP cannot read PNG in a process that has imported decord.
    """
    folder.mkdir()
    images = []
    for video in videos:
        with open_video(video.path) as reader:
            images += list(reader.read(range(reader.num_frames)))
    paths = [folder / f"{position:06d}.bmp" for position in range(len(order))]
    for path, index in zip(paths, order, strict=True):
        cv2.imwrite(str(path), images[index][..., ::-1])
    return paths


@needs_pycolmap
@pytest.mark.slow
def test_photographs_of_one_place_are_paired_in_any_order(tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    videos = [
        render_room(tmp_path / f"{n}.mp4", num_frames=8, width=224, height=126, supersample=1, seed=n) for n in range(4)
    ]
    order = np.random.default_rng(0).permutation(32)
    photos = write_photos(tmp_path / "photos", videos, order)
    database = tmp_path / "database.db"
    settings = {"num_similar": 5, "seed": 0, "num_threads": 1, "workspace": tmp_path}
    pycolmap.Database.open(database).close()
    names = [photo.name for photo in photos]
    extraction = pycolmap.FeatureExtractionOptions(num_threads=1, use_gpu=False)
    pycolmap.extract_features(database, tmp_path / "photos", image_names=names, extraction_options=extraction)
    pairs = similar_pairs(pycolmap, database, names, **settings)
    assert similar_pairs(pycolmap, database, names, **settings) == pairs
    rooms = order // 8
    assert np.mean([rooms[first] == rooms[second] for first, second in pairs]) > 0.95
    assert 32 * 5 / 2 <= len(pairs) <= 32 * 5
    neighbours = [
        tuple(sorted(np.flatnonzero((order == index) | (order == index + 1)))) for index in range(31) if index % 8 < 7
    ]
    assert np.mean([pair in pairs for pair in neighbours]) > 0.9


@needs_pycolmap
@pytest.mark.slow
def test_many_photographs_in_a_made_up_order_get_their_cameras(tmp_path: Path) -> None:
    video = render_room(tmp_path / "a.mp4", num_frames=12, width=224, height=126, supersample=1)
    order = np.random.default_rng(1).permutation(12)
    photos = write_photos(tmp_path / "photos", [video], order)
    (tmp_path / "work").mkdir()
    # Neighbours by name are anywhere, and only some pairs are matched.
    estimate = run_limited(
        ColmapEstimator(num_features=600, overlap=1).estimate_photos,
        folder=tmp_path,
        time_limit_s=300,
        memory_limit_gb=4,
        photos=photos,
        entries=[PhotoEntry(name=photo.name, width=224, height=126, camera=0, focal=0.9) for photo in photos],
        exhaustive_up_to=2,
        seed=0,
        workspace=tmp_path / "work",
    )
    assert isinstance(estimate, PhotosEstimate)
    assert len(estimate.camtoworlds) == 12
    found = np.stack([estimate.camtoworlds[position] for position in range(12)])
    position, rotation_deg = similarity_errors(found, video.camtoworlds[order])
    assert position < 0.01
    assert rotation_deg < 0.5
