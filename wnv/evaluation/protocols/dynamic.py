"""The protocol for dynamic scenes: targets far from the contexts in time, also scored on the visible parts."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from wnv.data.datamodule import ExampleDataModule
from wnv.data.protocol_sampling import SparseSampler
from wnv.data.scene_dataset import Pick
from wnv.data.synthetic_datamodule import SyntheticDataModule
from wnv.evaluation.protocols.cases import Variant
from wnv.evaluation.protocols.protocol import SampledProtocol
from wnv.evaluation.protocols.scenes import open_scenes, scene_variant
from wnv.synthetic.clips import SyntheticClip
from wnv.synthetic.covisibility import count_views_that_see


class Dynamic(SampledProtocol):
    """Contexts at random gaps, targets far from them in time and place; masked scores as well.

    A new view of a dynamic scene cannot be right where nothing was observed. Following DyCheck (arXiv:2210.13445),
    scores are reported over all pixels and over those seen by the context. DyCheck requires that max(5, n / 10) of its
    n training frames (hundreds) see a pixel; with few context views, `min_seen` of them must: by default a tenth.

    Args:
        index: JSON file of frames; None samples them.
        num_context: Context frames.
        num_target: Target frames.
        min_gap: Smallest number of frames between consecutive contexts.
        max_gap: Largest number of frames between consecutive contexts.
        min_distance: Smallest number of frames from a target to any context.
        masks: Folder of masks, `SCENE/000012.png` for frame 12, with the size of the stored frames; pixels that are
            not black count. None: the synthetic world computes masks, scene files have none.
        min_seen: Context views that must see a pixel of the synthetic world; None is a tenth of them, at least one.

    Raises:
        FileNotFoundError: If `masks` is not a folder.
        ValueError: If a number is out of range.
    """

    name = "dynamic"

    def __init__(
        self,
        *,
        index: str | Path | None = None,
        num_context: int = 4,
        num_target: int = 3,
        min_gap: int = 6,
        max_gap: int = 24,
        min_distance: int = 2,
        masks: str | Path | None = None,
        min_seen: int | None = None,
    ) -> None:
        if masks is not None and not Path(masks).is_dir():
            raise FileNotFoundError(f"masks must be a folder with one folder of PNG files per scene, got {masks}")
        if min_seen is not None and min_seen < 1:
            raise ValueError(f"min_seen must be at least 1 context view, got {min_seen}")
        self._masks = masks
        self._min_seen = min_seen
        sampler = SparseSampler(
            num_context=num_context,
            num_target=num_target,
            min_gap=min_gap,
            max_gap=max_gap,
            min_distance=min_distance,
        )
        super().__init__(index, sampler)

    def variants(self, data: ExampleDataModule) -> list[Variant]:
        """Return the only variant."""
        make_masks = None
        if self._masks is not None:
            make_masks = StoredMasks(Path(self._masks))
        elif isinstance(data, SyntheticDataModule):
            make_masks = ComputedMasks(self._min_seen)
        return [scene_variant("", data, open_scenes(data, sampler=self.frames), make_masks=make_masks)]


@dataclass(frozen=True)
class StoredMasks:
    """Masks from a folder of PNG files, `SCENE/000012.png` for frame 12, fitted to the images."""

    folder: Path

    def __call__(self, pick: Pick) -> Bool[Tensor, "target height width"]:
        """Read the masks of the targets."""
        return torch.stack([self._read(pick, frame) for frame in pick.choice.target])

    def _read(self, pick: Pick, frame: int) -> Bool[Tensor, "height width"]:
        info, window = pick.source.info, pick.window
        path = self.folder / info.id / f"{frame:06d}.png"
        if not path.is_file():
            raise FileNotFoundError(
                f"frame {frame} of scene {info.id!r} has no mask: {path} does not exist; add it or set "
                "protocol.masks=null"
            )
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"))
        if pixels.shape != (info.height, info.width):
            raise ValueError(
                f"mask {path} is {pixels.shape[1]} x {pixels.shape[0]} but the frames are {info.width} x {info.height} "
                "(width x height); make it the size of the frames"
            )
        left, top, right, bottom = window.box
        # Resample pure black and white, then threshold at half: edge pixels follow the majority.
        binary = torch.from_numpy(np.where(pixels[top:bottom, left:right] > 0, 255, 0).astype(np.uint8))
        return window.resample(binary[..., None].expand(-1, -1, 3).contiguous())[0] >= 128


@dataclass(frozen=True)
class ComputedMasks:
    """Masks of the synthetic world, from its geometry; see `Dynamic` for `min_seen`."""

    min_seen: int | None = None

    def __call__(self, pick: Pick) -> Bool[Tensor, "target height width"]:
        """Compute the masks of the targets."""
        num_context = len(pick.choice.context)
        min_seen = max(1, num_context // 10) if self.min_seen is None else self.min_seen
        if min_seen > num_context:
            raise ValueError(f"min_seen must be at most the number of context views, {num_context}, got {min_seen}")
        clip = cast(SyntheticClip, pick.source)
        seen = count_views_that_see(clip, target=pick.choice.target, context=pick.choice.context, window=pick.window)
        return seen >= min_seen
