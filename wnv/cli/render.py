"""`wnv-render`: draw a camera path through a scene."""

import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from wnv.cli.app import hydra_main
from wnv.cli.eval import shorten
from wnv.cli.settings import check_setting, path_setting, plain, switch
from wnv.device import resolve_device
from wnv.evaluation.film import film_path
from wnv.evaluation.sources import open_context
from wnv.evaluation.weights import open_weights
from wnv.types import Example

SYNTHETIC = "synthetic:"
_KINDS = {
    "context": list[int] | None,
    "num_context": int,
    "image_size": list[int] | None,
    "trajectory": str,
    "trajectory_options": dict | None,
    "num_views": int,
    "time": int | float | list[int | float] | None,
    "fps": int | float,
    "min_side": int,
    "views_per_call": int,
}


def run(cfg: DictConfig) -> None:
    """Draw the path and say where its files are."""
    out = shorten(Path(HydraConfig.get().runtime.output_dir))
    device = resolve_device(cfg.trainer.accelerator)
    switches = {name: switch(cfg, name) for name in ("there_and_back", "write_frames", "overwrite")}
    for name, kind in _KINDS.items():
        check_setting(name, plain(cfg, name), kind)
    model = open_weights(path_setting(cfg, "weights"))
    example = _open_scene(cfg, patch_size=model.patch_size)
    film = film_path(
        model,
        example.context,
        out=out,
        trajectory=cfg.trajectory,
        num_views=cfg.num_views,
        device=device,
        options=plain(cfg, "trajectory_options"),
        time=plain(cfg, "time"),
        fps=cfg.fps,
        min_side=cfg.min_side,
        views_per_call=cfg.views_per_call,
        title=example.scene,
        **switches,
    )
    sys.stdout.write(f"{cfg.num_views} views of {example.scene} along '{cfg.trajectory}':\n")
    for path in (film.mp4, film.gif, film.sheet, film.frames):
        if path is not None:
            sys.stdout.write(f"  {path}\n")


def _open_scene(cfg: DictConfig, *, patch_size: int) -> Example:
    scene = path_setting(cfg, "scene")
    if not scene.startswith(SYNTHETIC):
        return open_context(
            scene,
            frames=plain(cfg, "context"),
            num_context=cfg.num_context,
            image_size=plain(cfg, "image_size"),
            size_multiple=patch_size,
            pose_normalization=cfg.pose_normalization,
        )
    if cfg.context is not None:
        raise ValueError("context names frames of a scene file; a synthetic scene has num_context views, set that")
    number = scene.removeprefix(SYNTHETIC)
    if not number.isdecimal():
        raise ValueError(f"scene=synthetic:INDEX needs a number from 0 up, got {scene!r}")
    data = cfg.data.copy()
    data.num_val_scenes = max(data.num_val_scenes, int(number) + 1)
    data.num_context = cfg.num_context
    if cfg.image_size is not None:
        data.image_size = cfg.image_size
    return instantiate(data, _convert_="all").val_dataset[int(number)]


main = hydra_main(config_name="render", prog="wnv-render")(run)


if __name__ == "__main__":
    main()
