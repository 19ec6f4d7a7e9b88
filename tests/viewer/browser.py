"""A headless Chromium, driven over its DevTools protocol."""

import base64
import io
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    # WebGL without a GPU.
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    # Background tabs keep rendering.
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    "--disable-background-timer-throttling",
)


class Browser:
    """A running Chromium, made by `start_browser`."""

    def __init__(self, connection: ClientConnection, process: subprocess.Popen) -> None:
        self.process = process
        self._connection = connection
        self._numbers = count(1)

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result; events are ignored."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        self._connection.send(json.dumps(message if session is None else {**message, "sessionId": session}))
        while True:
            answer = json.loads(self._connection.recv(timeout=100))
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def open(self, url: str, *, width: int = 960, height: int = 640) -> "Page":
        """Open a tab of a size in pixels."""
        target = self.call("Target.createTarget", url="about:blank", newWindow=True)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, target, session)
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        page.call("Emulation.setFocusEmulationEnabled", enabled=True)
        page.call("Page.navigate", url=url)
        return page


class Page:
    """A tab."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def evaluate(self, script: str) -> Any:
        """Evaluate a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def text(self) -> str:
        """The visible text."""
        return self.evaluate("document.body ? document.body.innerText : ''")

    def screenshot(self) -> np.ndarray:
        """The tab as RGB bytes."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))

    def canvas(self) -> np.ndarray:
        """The 3D view as RGB bytes, without the panel."""
        x, y, width, height = self.canvas_box()
        return self.screenshot()[y : y + height, x : x + width]

    def canvas_box(self) -> tuple[int, int, int, int]:
        """Left, top, width and height of the 3D view."""
        box = self.evaluate(
            "(() => { const boxes = [...document.querySelectorAll('canvas')].map(c => c.getBoundingClientRect());"
            " const b = boxes.sort((p, q) => q.width * q.height - p.width * p.height)[0];"
            " return b && [b.x, b.y, b.width, b.height]; })()"
        )
        if box is None:
            raise RuntimeError("the page has no canvas")
        return tuple(round(value) for value in box)

    def mouse(self, kind: str, x: float, y: float, *, button: str = "left") -> None:
        buttons = 1 if kind != "mouseReleased" and button == "left" else 0
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=buttons, clickCount=1)

    def click(self, x: float, y: float) -> None:
        self.mouse("mouseMoved", x, y, button="none")
        self.mouse("mousePressed", x, y)
        self.mouse("mouseReleased", x, y)

    def click_text(self, text: str) -> None:
        """Click a button by its text, once it stops moving."""
        self._click_once_still(
            f"[...document.querySelectorAll('button,label,[role=tab]')].find(e =>"
            f" e.innerText.trim() === {json.dumps(text)})",
            what=f"the button {text!r}",
        )

    def toggle(self, text: str) -> None:
        """Click the checkbox beside a text, once it stops moving."""
        self._click_once_still(
            f"(() => {{ let e = [...document.querySelectorAll('label,div,span')].find(e => e.children.length === 0 &&"
            f" e.innerText.trim() === {json.dumps(text)}); while (e && !e.querySelector('input[type=checkbox]'))"
            " e = e.parentElement; return e && e.querySelector('input[type=checkbox]'); })()",
            what=f"a checkbox beside {text!r}",
        )

    def _click_once_still(self, element: str, *, what: str) -> None:
        script = (
            f"(() => {{ const e = {element}; if (!e) return null; e.scrollIntoView({{block: 'center'}});"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        last = None

        def stays() -> Any:
            nonlocal last
            before, last = last, self.evaluate(script)
            return last is not None and last == before and last

        self.click(*wait_for(stays, what=what))

    def drag(self, dx: float, dy: float, *, steps: int = 8, pause_s: float = 0.02) -> None:
        """Drag from the middle of the 3D view."""
        x, y, width, height = self.canvas_box()
        x, y = x + width / 2, y + height / 2
        self.mouse("mouseMoved", x, y, button="none")
        self.mouse("mousePressed", x, y)
        for step in range(1, steps + 1):
            self.mouse("mouseMoved", x + dx * step / steps, y + dy * step / steps)
            time.sleep(pause_s)
        self.mouse("mouseReleased", x + dx, y + dy)

    def close(self) -> None:
        """Close the tab."""
        self._browser.call("Target.closeTarget", targetId=self._target)


def wait_for(condition: Callable[[], Any], *, what: str, timeout_s: float = 100.0) -> Any:
    """Poll a condition and return its first true value."""
    end = time.monotonic() + timeout_s
    while not (answer := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout_s} s for {what}")
        time.sleep(0.05)
    return answer


@contextmanager
def start_browser(profile: Path) -> Iterator[Browser]:
    """Run Chromium with a new profile."""
    if CHROMIUM is None:
        raise FileNotFoundError("Chromium is not installed")
    command = [CHROMIUM, *_FLAGS, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
    with open(profile.with_suffix(".log"), "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        port_file = profile / "DevToolsActivePort"
        wait_for(lambda: port_file.is_file() and len(port_file.read_text().split()) == 2, what="Chromium to start")
        port, path = port_file.read_text().split()
        with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, compression=None, proxy=None) as connection:
            yield Browser(connection, process)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
