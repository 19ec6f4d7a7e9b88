"""`wnv-export`: writes scene files in the formats of other tools."""

from pathlib import Path

from omegaconf import DictConfig

from wnv.cli.commands import export as main
from wnv.cli.settings import path_setting, switch
from wnv.scenes.exporters.formats import EXPORTERS
from wnv.scenes.index import find_scenes


def export_scenes(cfg: DictConfig) -> None:
    """Export a scene file, or every one of a folder."""
    if cfg.format not in EXPORTERS:
        raise ValueError(f"format must be one of {', '.join(EXPORTERS)}, got {cfg.format}")
    export = EXPORTERS[cfg.format]
    scene, overwrite = path_setting(cfg, "scene"), switch(cfg, "overwrite")
    source, out = Path(scene), Path(path_setting(cfg, "out"))
    if not source.is_dir():
        print(export(scene, out, overwrite=overwrite))  # as typed: a Path would spoil a URL
        return
    for path in find_scenes(source):
        print(export(path, out / path.relative_to(source).with_suffix(""), overwrite=overwrite))


if __name__ == "__main__":
    main()
