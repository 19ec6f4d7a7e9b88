"""Masks: from files, fitted like the images; computed in the synthetic world."""

import numpy as np
import pytest
import torch
from PIL import Image

from wnv.evaluation.protocols.dynamic import Dynamic

GAPS = {"min_gap": 6, "max_gap": 10}


def write_mask(folder, scene: str, frame: int, pixels: np.ndarray) -> None:
    (folder / scene).mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / scene / f"{frame:06d}.png")


@pytest.fixture
def masks(make_scenes, tmp_path):
    """Masks of all frames of scene `a`: the left half is scored; every value but black counts."""
    pixels = np.zeros((20, 32), np.uint8)
    pixels[:, :16] = 7
    for frame in range(40):
        write_mask(tmp_path / "masks", "a", frame, pixels)
    return tmp_path / "masks"


def test_targets_are_far_from_the_contexts_in_time(make_scenes) -> None:
    (variant,) = Dynamic(**GAPS).variants(make_scenes({"a": 40, "b": 40}))
    for i in range(2):
        case = variant[i]
        assert case.masks is None, "scene files have none of their own"
        for target, time in zip(case.target_frames, case.example.target.times, strict=True):
            assert min(abs(target - given) for given in case.context_frames) >= 2
            assert not (case.example.context.times == time).any()


def test_masks_from_a_folder_are_fitted_as_the_images_are(make_scenes, masks) -> None:
    (variant,) = Dynamic(masks=masks, **GAPS).variants(make_scenes({"a": 40}))
    found = variant[0].masks
    assert found.shape == (3, 16, 24)
    expected = torch.zeros(16, 24, dtype=torch.bool)
    expected[:, :12] = True
    assert torch.equal(found, expected.expand(3, -1, -1))


def test_a_mask_that_is_not_there_or_of_another_size_is_named(make_scenes, masks) -> None:
    (variant,) = Dynamic(masks=masks, **GAPS).variants(make_scenes({"a": 40}))
    frame = variant[0].target_frames[0]
    write_mask(masks, "a", frame, np.zeros((16, 24), np.uint8))
    with pytest.raises(ValueError, match=r"24 x 16 .*32 x 20"):
        variant[0]
    (masks / "a" / f"{frame:06d}.png").unlink()
    with pytest.raises(FileNotFoundError, match=rf"frame {frame} of scene 'a'.*protocol.masks"):
        variant[0]
    with pytest.raises(FileNotFoundError, match=r"masks .*nowhere"):
        Dynamic(masks=masks / "nowhere")


def test_the_synthetic_world_computes_what_enough_contexts_have_seen(make_world) -> None:
    data = make_world("dynamic", num_val_scenes=1)
    seen, seen_by_all, default = (Dynamic(min_seen=n).variants(data)[0][0].masks for n in (1, 4, None))
    assert torch.equal(default, seen), "a tenth of four contexts is one"
    assert (seen | ~seen_by_all).all()
    assert seen_by_all.sum() < seen.sum() <= seen.numel()
    with pytest.raises(ValueError, match=r"min_seen.*4.*5"):
        Dynamic(min_seen=5).variants(data)[0][0]
    with pytest.raises(ValueError, match=r"min_seen.*0"):
        Dynamic(min_seen=0)
