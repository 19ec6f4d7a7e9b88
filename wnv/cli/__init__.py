"""The commands. torch does not load its device libraries automatically; `wnv.runtime.device` loads the requested one.

torch loads all that are installed, and is not to be imported where one of them lacks what it needs.
"""

import os

os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
