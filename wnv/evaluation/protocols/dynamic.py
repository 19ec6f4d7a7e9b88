"""Scenes in which things move: time held out as well as camera, scored also where the context has seen anything."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from wnv.data.datamodule import ExampleDataModule
from wnv.data.protocol_sampling import SparseSampler
from wnv.data.scene_dataset import Pick
from wnv.data.synthetic_datamodule import SyntheticDataModule
from wnv.data.view_sampling import ViewSampler
from wnv.evaluation.protocols.case import Variant
from wnv.evaluation.protocols.protocol import Protocol, index_or, scene_variant
from wnv.evaluation.protocols.scenes import open_scenes
from wnv.synthetic.covisibility import count_views_that_see


class Dynamic(Protocol):
    """Contexts random numbers of frames apart, targets far from them in time and place; masked scores as well.

    No new picture of a moving scene can be right where nothing has been seen. So, after DyCheck (arXiv:2210.13445), the
    scores are given over all pixels and over those that the context has seen. DyCheck asks that max(5, n / 10) of
    its n training frames, hundreds, have seen a pixel; of a context of a few views that many cannot be asked, and here
    it is `min_seen`: a tenth of the context views, at least one.

    Args:
        index: JSON file of frames; None draws them by the other settings.
        num_context: Context frames.
        num_target: Target frames.
        min_gap: Fewest frames between one context and the next.
        max_gap: Most frames between one context and the next.
        min_distance: Fewest frames from a target to any context.
        masks: Folder of masks, `SCENE/000012.png` for frame 12, of the size of the stored frames, not black where a
            pixel counts. None: the synthetic world computes its own, scene files have none.
        min_seen: Context views of the synthetic world that must have seen a pixel; None: a tenth, at least one.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If a number is out of its range.
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
            raise FileNotFoundError(f"masks must be a folder with a folder of pngs a scene, got {masks}")
        if min_seen is not None and min_seen < 1:
            raise ValueError(f"min_seen must be at least 1 context view, got {min_seen}")
        self._index = index
        self._masks = masks
        self._min_seen = min_seen
        self._sampler = SparseSampler(
            num_context=num_context,
            num_target=num_target,
            min_gap=min_gap,
            max_gap=max_gap,
            min_distance=min_distance,
        )

    def variants(self, data: ExampleDataModule) -> list[Variant]:
        """One."""
        dataset = open_scenes(data, sampler=index_or(self._index, self._sampler))
        make_masks = None
        if self._masks is not None:
            make_masks = StoredMasks(Path(self._masks))
        elif isinstance(data, SyntheticDataModule):
            make_masks = ComputedMasks(self._min_seen)
        return [scene_variant("", data, dataset, make_masks=make_masks)]

    def sampler(self, data: ExampleDataModule) -> ViewSampler:
        """Sparse random gaps."""
        return self._sampler


@dataclass(frozen=True)
class StoredMasks:
    """Masks from a folder of pngs, fitted to the images.

    Attributes:
        folder: Holds `SCENE/000012.png` for frame 12.
    """

    folder: Path

    def __call__(self, pick: Pick) -> Bool[Tensor, "target height width"]:
        """The masks of the targets.

        Raises:
            FileNotFoundError: If there is none for a target.
            ValueError: If one has another size than the frames.
        """
        return torch.stack([self._read(pick, frame) for frame in pick.choice.target])

    def _read(self, pick: Pick, frame: int) -> Bool[Tensor, "height width"]:
        info, window = pick.source.info, pick.window
        path = self.folder / info.id / f"{frame:06d}.png"
        if not path.is_file():
            raise FileNotFoundError(
                f"no mask for frame {frame} of scene {info.id!r}: {path} is not there; add it, or "
                "set protocol.masks=null"
            )
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"))
        if pixels.shape != (info.height, info.width):
            raise ValueError(
                f"mask {path} is {pixels.shape[1]} x {pixels.shape[0]} and the frames are {info.width} x {info.height} "
                "(width x height); make it of their size"
            )
        left, top, right, bottom = window.box
        # Fully white or black, then at least half: pixels at an edge go where more of them lies.
        binary = torch.from_numpy(np.where(pixels[top:bottom, left:right] > 0, 255, 0).astype(np.uint8))
        return window.resample(binary[..., None].expand(-1, -1, 3).contiguous())[0] >= 128


@dataclass(frozen=True)
class ComputedMasks:
    """Masks of the synthetic world, from its geometry.

    Attributes:
        min_seen: Context views that must have seen a pixel; None: a tenth, at least one.
    """

    min_seen: int | None = None

    def __call__(self, pick: Pick) -> Bool[Tensor, "target height width"]:
        """The masks of the targets.

        Raises:
            ValueError: If more views are asked for than there are.
        """
        num_context = len(pick.choice.context)
        min_seen = max(1, num_context // 10) if self.min_seen is None else self.min_seen
        if min_seen > num_context:
            raise ValueError(f"min_seen must be at most the number of context views, {num_context}, got {min_seen}")
        seen = count_views_that_see(
            pick.source, target=pick.choice.target, context=pick.choice.context, window=pick.window
        )
        return seen >= min_seen
