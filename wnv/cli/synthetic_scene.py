"""`scene=synthetic:INDEX`: a validation scene of the synthetic world, for the commands that show one scene."""

from hydra.utils import instantiate
from omegaconf import DictConfig

from wnv.synthetic.dataset import SyntheticDataset

SYNTHETIC = "synthetic:"


def open_synthetic(cfg: DictConfig, scene: str) -> tuple[SyntheticDataset, int]:
    """The validation scenes of `cfg.data`, at least up to the one that is asked for, and its number.

    Args:
        cfg: Has `data`, `context`, `num_context`, `image_size` and `pose_normalization`.
        scene: `synthetic:INDEX`.

    Raises:
        ValueError: If there is no number, or what only a scene file has is asked for.
    """
    if cfg.context is not None:
        raise ValueError("context names frames of a scene file; a synthetic scene has num_context views, set that")
    if cfg.pose_normalization is not None:
        raise ValueError(
            "pose_normalization is for scene files; a synthetic scene is placed as its data are, set "
            f"data.pose_normalization={cfg.pose_normalization}"
        )
    number = scene.removeprefix(SYNTHETIC)
    if not number.isdecimal():
        raise ValueError(f"scene=synthetic:INDEX needs a number from 0 up, got {scene!r}")
    data = cfg.data.copy()
    data.num_val_scenes = max(data.num_val_scenes, int(number) + 1)
    data.num_context = cfg.num_context
    if cfg.image_size is not None:
        data.image_size = cfg.image_size
    return instantiate(data, _convert_="all").val_dataset, int(number)
