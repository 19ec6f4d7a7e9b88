"""Every rendered target and its ground truth as PNG files, for FID and other metrics."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from wnv.evaluation.images import to_u8
from wnv.evaluation.layout import IMAGES_FOLDER
from wnv.evaluation.loading import CaseBatch
from wnv.evaluation.protocols.cases import Variant
from wnv.evaluation.records import RecordKey
from wnv.runtime.atomic import atomic_folder
from wnv.scenes.schema import safe_id


class SavedImages:
    """The images of an evaluation: `images/rendered/SCENE/color/000123.png`, and the same below `images/truth`.

    The two trees have equal names, so that a tool can compare them as a whole. With several variants, `VARIANT` comes
    before `SCENE`; an example of a scene that has several is `SCENE-INDEX`. The number is that of the frame in the
    scene file, or the position among the targets if frames have no numbers. A folder `color` is complete or absent.

    Args:
        out: Folder of the evaluation.
        variants: The variants of the protocol.
    """

    def __init__(self, out: str | Path, variants: Sequence[Variant]) -> None:
        self._folder = Path(out) / IMAGES_FOLDER
        self._has_variants = len(variants) > 1
        scenes = {variant.name: [variant.scene_of(index) for index in range(len(variant))] for variant in variants}
        self._counts = {name: Counter(found) for name, found in scenes.items()}

    def has(self, key: RecordKey, scene: str) -> bool:
        """Whether the images of an example are there."""
        return all(folder.is_dir() for folder in self._folders(key, scene))

    def write(self, batch: CaseBatch, rendered: Float[Tensor, "case target 3 height width"]) -> None:
        """Write the images of the cases of a batch that are not there."""
        target = batch.batch.target
        for key, (_, frames), scene, own, truth in zip(
            batch.keys, batch.frames, batch.batch.scenes, rendered, target.images, strict=True
        ):
            names = [f"{number:06d}.png" for number in frames or range(len(truth))]
            for folder, images in zip(self._folders(key, scene), (own, truth), strict=True):
                if not folder.is_dir():
                    with atomic_folder(folder, entries=names) as temporary:
                        for name, image in zip(names, to_u8(images), strict=True):
                            Image.fromarray(image).save(temporary / name)

    def _folders(self, key: RecordKey, scene: str) -> list[Path]:
        """The folders of the rendered images and of the ground truth."""
        variant, index = key
        name = safe_id(scene)
        counts = self._counts[variant]
        if counts[scene] > 1 or None in counts:  # a data set of one's own may not know its scenes in advance
            name = f"{name}-{index:06d}"
        below = Path(variant, name) if self._has_variants else Path(name)
        return [self._folder / kind / below / "color" for kind in ("rendered", "truth")]
