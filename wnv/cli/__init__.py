"""Commands. torch does not load its device libraries automatically; `wnv.runtime.device` loads the requested one.

By default torch loads every installed device library, and its import fails if one of them lacks a dependency.
"""

import os

os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
