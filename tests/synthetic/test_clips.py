"""Clips of the synthetic world: rendered frames, and covisibility compared with single rays."""

import json
import pickle

import numpy as np
import pytest
import torch

from wnv.data.evaluation_index import IndexSampler
from wnv.data.scene_dataset import SceneDataset
from wnv.data.view_sampling import BoundedSampler
from wnv.geometry.cameras import crop_K, project
from wnv.geometry.poses import invert_se3
from wnv.geometry.resample import cover_window
from wnv.synthetic.clips import SyntheticClips
from wnv.synthetic.covisibility import count_views_that_see
from wnv.synthetic.render import render_geometry, render_images
from wnv.synthetic.world import move_points
from wnv.types import Cameras

CLIPS = SyntheticClips(num_scenes=3, num_frames=9, seed=5, image_size=(24, 40), kind="dynamic", zoom_range=(1.0, 2.0))


def test_a_frame_is_the_image_of_its_camera() -> None:
    clip = CLIPS.open_scene("1")
    frames = [7, 2]
    cameras = clip.cameras(frames)
    images = render_images(clip.world, cameras[None], clip.world_times[None, frames])[0]
    pixels = torch.from_numpy(np.stack(clip.images_u8(frames))).permute(0, 3, 1, 2)
    torch.testing.assert_close(pixels / 255, images, rtol=0, atol=0.5 / 255 + 1e-6)
    part = clip.images_u8(frames, box=(5, 3, 38, 20))
    assert part[0].shape == (17, 33, 3)
    np.testing.assert_allclose(part[1].astype(int), clip.images_u8([2])[0][3:20, 5:38], atol=1)


def test_clips_are_a_collection_of_scenes(tmp_path) -> None:
    sampler = BoundedSampler(num_context=2, num_target=2, min_gap=5, max_gap=8)
    dataset = pickle.loads(pickle.dumps(SceneDataset(root=CLIPS, sampler=sampler, image_size=(24, 40))))
    assert dataset.scene_ids == ("synthetic-5-0", "synthetic-5-1", "synthetic-5-2")
    assert dataset.num_frames["synthetic-5-1"] == 9
    assert [dataset.scene_of(i) for i in range(3)] == list(dataset.scene_ids)
    pick = dataset.pick(1)
    example = dataset[1]
    seen = np.stack(pick.source.images_u8(pick.choice.target))
    torch.testing.assert_close(example.target.images * 255, torch.from_numpy(seen).permute(0, 3, 1, 2).float())
    assert float(example.context.times[0]) == 0
    assert float(example.context.times[-1]) == 1
    path = tmp_path / "index.json"
    path.write_text(json.dumps({"synthetic-5-2": {"context": [0, 8], "target": [4]}}))
    named = SceneDataset(root=CLIPS, sampler=IndexSampler(path=path), image_size=(24, 40))
    assert named.pick(0).choice.target == (4,)


def test_zoomed_frames_are_rendered_and_not_enlarged() -> None:
    """The centre of an image three times as large is the image of a camera with three times the focal length."""
    one, three = (
        SyntheticClips(num_scenes=1, num_frames=4, seed=5, image_size=(24 * zoom, 40 * zoom)).open_scene("0")
        for zoom in (1, 3)
    )
    torch.testing.assert_close(three.cameras([1]).K[0, :2], 3 * one.cameras([1]).K[0, :2])
    torch.testing.assert_close(three.cameras([1]).camtoworld, one.cameras([1]).camtoworld)
    window = cover_window(72, 120, height=24, width=40, zoom=3)
    assert window.scale == pytest.approx(1)
    assert three.images_u8([1], box=window.box)[0].shape == (24, 40, 3)


def test_covisibility_agrees_with_single_rays() -> None:
    """Move each pixel's point to the other view's time, and cast one ray towards it."""
    clip = CLIPS.open_scene("2")
    window = cover_window(24, 40, height=24, width=40)
    counts = count_views_that_see(clip, target=[4, 0], context=[0, 8], window=window)
    assert torch.equal(counts[1] >= 1, torch.ones(24, 40, dtype=torch.bool)), "a view sees itself"
    cameras, times = clip.cameras([4, 0, 8]), clip.world_times[[4, 0, 8]]
    _, ids, points = (part[0, 0] for part in render_geometry(clip.world, cameras[None, :1], times[None, :1]))
    chosen = torch.randperm(24 * 40, generator=torch.Generator().manual_seed(0))[:250]
    points, ids = (part.reshape(1, 24 * 40, -1)[:, chosen] for part in (points, ids))
    expected = torch.zeros(len(chosen))
    for j in (1, 2):
        moved = move_points(clip.world, points, ids[..., 0], times_from=times[:1], times_to=times[j : j + 1])
        where, depth = project(moved[0], cameras.K[j], invert_se3(cameras.camtoworld[j]))
        inside = (depth > 0) & (where >= 0).all(-1) & (where < torch.tensor([40, 24])).all(-1)
        rays = Cameras(
            K=crop_K(cameras.K[j], left=where[:, 0] - 0.5, top=where[:, 1] - 0.5)[None],
            camtoworld=cameras.camtoworld[j].expand(1, len(chosen), 4, 4),
            width=1,
            height=1,
        )
        met = render_geometry(clip.world, rays, times[j].expand(1, len(chosen)))[0].flatten()
        expected += inside & (depth < met * 1.001)
    agreed = counts[0].flatten()[chosen] == expected
    assert agreed.float().mean() > 0.95, "a pixel beside an edge may be taken for its neighbour"
    assert 0.1 < (counts[0] >= 1).float().mean() < 1, "some is hidden and some is not"
