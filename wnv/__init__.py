"""World-in-Novel-View: feed-forward novel view synthesis from ordinary video.

The public API is what this module exports; everything below it is private and may change without notice.
Names are loaded on first use: `import wnv` alone loads neither torch nor Hydra.

Example:
    >>> import wnv
    >>> model = wnv.KoNet.from_pretrained("konet_tiny")
    >>> metrics = wnv.train(["experiment=konet_tiny", "trainer.max_steps=1000"], run_dir="runs/mine")
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["Batch", "Cameras", "KoNet", "Views", "evaluate", "ingest", "open_data", "open_scene", "render", "train"]

_MODULES = {
    "Batch": "wnv.types",
    "Cameras": "wnv.types",
    "KoNet": "wnv.models.konet",
    "Views": "wnv.types",
    "evaluate": "wnv.cli.api",
    "ingest": "wnv.ingest",  # a package that can be called
    "open_data": "wnv.cli.api",
    "open_scene": "wnv.scenes.listing",
    "render": "wnv.cli.api",
    "train": "wnv.cli.api",
}

if TYPE_CHECKING:  # for type checkers and editors
    from wnv.cli.api import evaluate, ingest, open_data, render, train
    from wnv.models.konet import KoNet
    from wnv.scenes.listing import open_scene
    from wnv.types import Batch, Cameras, Views


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_MODULES[name])
    value = module if name == "ingest" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
