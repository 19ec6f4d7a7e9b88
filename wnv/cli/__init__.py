"""The commands. torch loads none of its device libraries by itself; `wnv.runtime.device` loads the one that is wanted.

torch loads all that are installed, and is not to be imported where one of them lacks what it needs.
"""

import os

os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
