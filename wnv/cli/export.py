"""`wnv-export`: writes scene files in the formats of other tools."""

from pathlib import Path

from omegaconf import DictConfig

from wnv.cli.app import hydra_main
from wnv.scenes.exporters.formats import EXPORTERS
from wnv.scenes.index import find_scenes


@hydra_main(config_name="export", prog="wnv-export")
def main(cfg: DictConfig) -> None:
    """Export a scene file, or every one of a folder."""
    if cfg.format not in EXPORTERS:
        raise ValueError(f"format must be one of {', '.join(EXPORTERS)}, got {cfg.format}")
    export = EXPORTERS[cfg.format]
    source, out = Path(cfg.scene).expanduser(), Path(cfg.out).expanduser()
    if not source.is_dir():
        # What is no local file may be a URL, which a Path would spoil.
        print(export(source if source.exists() else cfg.scene, out, overwrite=cfg.overwrite))
        return
    for path in find_scenes(source):
        print(export(path, out / path.relative_to(source).with_suffix(""), overwrite=cfg.overwrite))


if __name__ == "__main__":
    main()
