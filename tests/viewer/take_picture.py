"""Makes the README's picture of the viewer: `python tests/viewer/take_picture.py wnv/viewer/viewer.jpg`.

Chromium looks at `wnv-view weights=konet_tiny scene=synthetic:3`; the view is dragged a little, and the nearest
photograph is shown beside it.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from browser import start_browser, wait_for
from PIL import Image

COMMAND = [sys.executable, "-m", "wnv.cli.view", "device=cpu", "scene=synthetic:3", "port=0"]
CLOSES_NOTICE = (288, 81)  # that there is no graphics card
SETTLED_S = 4.0  # until the notice is there, or the picture is sharp


def main(out: str) -> None:
    """Write the picture."""
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(COMMAND, cwd=folder, stdout=subprocess.PIPE) as viewer,
    ):
        try:
            lines = [viewer.stdout.readline().decode() for _ in range(2)]
            with start_browser(Path(folder) / "profile") as browser:
                page = browser.open(lines[1].split()[0], width=1100, height=860)
                wait_for(lambda: "Show beside" in page.text(), what="the panel", timeout_s=60)
                time.sleep(SETTLED_S)
                page.click(*CLOSES_NOTICE)
                page.toggle("Show beside")
                page.drag(20, 8)
                time.sleep(SETTLED_S)
                Image.fromarray(page.screenshot()).save(out, quality=85, optimize=True)
        finally:
            viewer.terminate()


if __name__ == "__main__":
    main(*sys.argv[1:])
