"""Open `scene=synthetic:INDEX`, a validation scene of the synthetic world."""

from hydra.utils import instantiate
from omegaconf import DictConfig

from wnv.synthetic.dataset import SyntheticDataset

SYNTHETIC = "synthetic:"


def open_synthetic(cfg: DictConfig, scene: str) -> tuple[SyntheticDataset, int]:
    """Open the validation scenes of `cfg.data`, at least up to the requested one, and parse its index.

    Args:
        cfg: Has `data`, `context`, `num_context`, `image_size` and `pose_normalization`.
        scene: `synthetic:INDEX`.

    Raises:
        ValueError: If the index is not a number, or a setting is for scene files only.
    """
    if cfg.context is not None:
        raise ValueError(f"context={cfg.context} is for scene files; for a synthetic scene set num_context")
    if cfg.pose_normalization is not None:
        raise ValueError(
            f"pose_normalization={cfg.pose_normalization} is for scene files; for a synthetic scene set "
            f"data.pose_normalization={cfg.pose_normalization}"
        )
    number = scene.removeprefix(SYNTHETIC)
    if not number.isdecimal():
        raise ValueError(f"scene=synthetic:INDEX needs an index of 0 or more, got {scene!r}")
    data = cfg.data.copy()
    data.num_val_scenes = max(data.num_val_scenes, int(number) + 1)
    if cfg.num_context is not None:
        data.num_context = cfg.num_context
    if cfg.image_size is not None:
        data.image_size = cfg.image_size
    return instantiate(data, _convert_="all").val_dataset, int(number)
