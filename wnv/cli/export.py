"""`wnv-export`: convert scene files to other formats, or export weights with a model card."""

from pathlib import Path

from omegaconf import DictConfig

from wnv.cli.commands import export as main
from wnv.cli.settings import local_path_setting, path_setting, switch
from wnv.scenes.export_scene import EXPORTERS, export_scene
from wnv.scenes.index import find_scenes

_OF_WEIGHTS = ("dtype", "hub", "private", "license", "datasets", "evaluations")
_OF_CHECKPOINTS = ("checkpoint", "num_heads", "camera_encoding", "ray_code", "pose_normalization")
# Source -> the settings that apply to it, besides `out` and `overwrite`.
SETTINGS = {"scene": ("format",), "weights": _OF_WEIGHTS, "from": (*_OF_CHECKPOINTS, *_OF_WEIGHTS)}


def export(cfg: DictConfig) -> None:
    """Export `scene=`, `weights=` or `from=`."""
    given = [name for name in SETTINGS if cfg[name] is not None]
    if len(given) != 1:
        raise ValueError(
            "set one of scene= (a scene file or folder), weights= (weights or a run) and from= (a project whose "
            f"checkpoint to convert), got {' and '.join(f'{name}={cfg[name]}' for name in given) or 'none'}"
        )
    (what,) = given
    for name in dict.fromkeys(name for names in SETTINGS.values() for name in names):
        if cfg[name] not in (None, False) and name not in SETTINGS[what]:
            owners = " and ".join(f"{owner}=" for owner, names in SETTINGS.items() if name in names)
            raise ValueError(f"{name} applies to {owners}, not to {what}=")
    if what == "scene":
        export_scenes(cfg)
        return
    # Imports Lightning, which is slow and not needed for scenes.
    from wnv.cli.export_weights import convert_weights, export_weights

    (export_weights if what == "weights" else convert_weights)(cfg)


def export_scenes(cfg: DictConfig) -> None:
    """Export a scene file, or all scenes of a folder."""
    if cfg.format not in EXPORTERS:
        raise ValueError(f"format must be one of {', '.join(EXPORTERS)}, got {cfg.format}")
    if cfg.out is None:
        raise ValueError("out has no default; set out=... to the folder to write")
    scene, overwrite = path_setting(cfg, "scene"), switch(cfg, "overwrite")
    source, out = Path(scene), local_path_setting(cfg, "out")
    if not source.is_dir():
        print(export_scene(scene, out, format=cfg.format, overwrite=overwrite))  # a Path would change a URL
        return
    is_new = not out.exists()
    try:
        for path in find_scenes(source):
            target = out / path.relative_to(source).with_suffix("")
            print(export_scene(path, target, format=cfg.format, overwrite=overwrite))
    finally:
        if is_new and out.is_dir() and not any(out.iterdir()):
            out.rmdir()  # created for a first scene that cannot be exported


if __name__ == "__main__":
    main()
