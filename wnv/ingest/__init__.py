"""From video to scene file: manifest, fetch, clip, pose, pack. Independent of models.

The package can be called, as the public function `wnv.ingest(stage, overrides)`; see `wnv.cli.api.ingest`.
"""

import importlib
import sys
from types import ModuleType
from typing import Any


class _CallableRoom(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> None:
        importlib.import_module("wnv.cli.api").ingest(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableRoom
