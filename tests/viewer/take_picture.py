"""Make the image of wnv/viewer/README.md: `python tests/viewer/take_picture.py wnv/viewer/viewer.jpg`.

Chromium shows `wnv-view scene=synthetic:10`. Left: the view after a small drag, and the nearest photo. Right: the same
from outside, with the context photos in orange and the rendered view in blue.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from browser import start_browser, wait_for
from PIL import Image

SETTINGS = ["device=cpu", "scene=synthetic:10", "data.zoom_range=[1,1]", "port=0"]
COMMAND = [sys.executable, "-m", "wnv.cli.view", *SETTINGS]
NOTICE = "Software WebGL"  # of machines without a graphics card
SETTLED_S = 4.0  # until the image is sharp


def main(out: str) -> None:
    """Write the image."""
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(COMMAND, cwd=folder, stdout=subprocess.PIPE) as viewer,
    ):
        try:
            lines = [viewer.stdout.readline().decode() for _ in range(2)]
            with start_browser(Path(folder) / "profile") as browser:
                page = browser.open(lines[1].split()[0], width=940, height=880)
                wait_for(lambda: NOTICE in page.text() and "At rest" in page.text(), what="the page", timeout_s=60)
                page.evaluate("document.querySelectorAll('.mantine-Notification-closeButton').forEach(b => b.click())")
                page.toggle("Show beside")
                page.drag(24, 8)
                time.sleep(SETTLED_S)
                inside = page.screenshot()
                page.click_text("All cameras")
                time.sleep(SETTLED_S)
                outside = page.canvas()
            Image.fromarray(np.concatenate([inside, outside], axis=1)).save(out, quality=85, optimize=True)
        finally:
            viewer.terminate()


if __name__ == "__main__":
    main(*sys.argv[1:])
