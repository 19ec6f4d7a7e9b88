"""The commands. Of torch's libraries for other devices `wnv.device` loads the one that is wanted, and torch none.

torch loads all that are installed, and is not to be imported where one of them lacks what it needs.
"""

import os

os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
