"""A viser client without a browser: records messages, uses controls and moves its camera."""

import io
import time
from collections.abc import Callable
from threading import Lock, Thread
from typing import Any

import msgspec
import numpy as np
import viser
import zstandard
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

WAIT_S = 60
QUIET_S = 0.2  # without messages, if the status says that the view is at rest
LONG_QUIET_S = 0.6  # and if it does not: viser sends equal texts only once
_CAMERA_FIELDS = {
    "SetCameraPositionMessage": ("position", "position"),
    "SetCameraLookAtMessage": ("look_at", "look_at"),
    "SetCameraUpDirectionMessage": ("up_direction", "position"),
    "SetCameraFovMessage": ("fov", "fov"),
}


class RawClient:
    """A client of a viewer on this machine.

    Args:
        port: Port of the viewer.
        height: Height of the window in pixels.
        width: Width of the window in pixels.
    """

    def __init__(self, port: int, *, height: int = 300, width: int = 400) -> None:
        self.controls: dict[str, dict[str, Any]] = {}  # by uuid
        self.nodes: dict[str, dict[str, Any]] = {}  # by name
        self.notifications: list[str] = []
        self.pictures: list[bytes | None] = []
        self.downloads: dict[str, dict[str, Any]] = {}  # by id
        self.is_open = True
        self._is_initialised = False
        self._seen = 0  # number of images before the last action
        self._is_at_rest = False  # according to the status after the last image
        self._camera = {
            "wxyz": (1.0, 0.0, 0.0, 0.0),
            "position": (0.0, 0.0, 0.0),
            "fov": 1.0,
            "near": 0.01,
            "far": 1000.0,
            "image_height": height,
            "image_width": width,
            "look_at": (0.0, 0.0, 1.0),
            "up_direction": (0.0, -1.0, 0.0),
        }
        self._lock = Lock()
        self._socket = connect(
            f"ws://127.0.0.1:{port}",
            subprotocols=[f"viser-v{viser.__version__}"],
            max_size=None,
            compression=None,
            proxy=None,
        )
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()
        # A browser sends its camera after the initial messages.
        self.wait(lambda: self._is_initialised, what="the beginning")
        self.send_camera()

    # ------------------------------------------------------------------ what a person does

    def move(self, **camera: Any) -> None:
        """Move the camera: position, look_at, up_direction, fov."""
        self._seen = len(self.pictures)
        with self._lock:
            self._camera.update(camera)
        self.send_camera()

    def set(self, label: str, value: Any) -> None:
        """Use the control of that label."""
        uuid = self.control(label)["uuid"]
        self._seen = len(self.pictures)
        self.send("GuiUpdateMessage", uuid=uuid, updates={"value": value})

    def upload(self, label: str, name: str, content: bytes) -> None:
        """Choose a file for the upload button of that label."""
        transfer = {"source_component_uuid": self.control(label)["uuid"], "transfer_uuid": "upload"}
        kind = {"mime_type": "application/json", "part_count": 1, "size_bytes": len(content)}
        self.send("FileTransferStartUpload", **transfer, filename=name, **kind)
        self.send("FileTransferPart", **transfer, part_index=0, content=content)

    def download(self) -> tuple[str, bytes]:
        """Wait for a file, and return its name and content."""
        found = self.wait(
            lambda: next((f for f in list(self.downloads.values()) if len(f["content"]) == f["size"]), None),
            what="a download",
        )
        self.downloads.clear()
        return found["name"], found["content"]

    def click_camera(self, frame: int) -> None:
        """Click a camera in the 3D view."""
        self._seen = len(self.pictures)
        self.send(
            "SceneNodeClickMessage",
            name=f"/cameras/{frame}",
            instance_index=None,
            ray_origin=(0.0, 0.0, 0.0),
            ray_direction=(0.0, 0.0, 1.0),
            screen_pos=(0.5, 0.5),
            modifier=None,
            owner=self.nodes[f"/cameras/{frame}"]["owner"],
        )

    def close(self) -> None:
        """Disconnect as a closed tab does."""
        self._socket.close()
        self._reader.join(WAIT_S)

    # ------------------------------------------------------------------ what it shows

    def control(self, label: str) -> dict[str, Any]:
        """Wait for the control of a label."""
        return self.wait(
            lambda: next((c for c in list(self.controls.values()) if c.get("label") == label), None), what=label
        )

    def text(self) -> str:
        """All text in the panel."""
        return "\n".join(c["_markdown"] for c in list(self.controls.values()) if c.get("_markdown"))

    def picture(self, number: int = -1) -> np.ndarray | None:
        """A received background image, by default the last, as RGB bytes; None if it was removed."""
        data = self.pictures[number]
        return None if data is None else np.asarray(Image.open(io.BytesIO(data)))

    def camera(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Rotation world<-camera, position, and vertical field of view in radians."""
        with self._lock:
            wxyz, position, fov = (self._camera[name] for name in ("wxyz", "position", "fov"))
        return viser.transforms.SO3(np.array(wxyz)).as_matrix(), np.array(position), fov

    def rested_picture(self, is_right: Callable[[np.ndarray], bool] = lambda picture: True) -> np.ndarray:
        """Wait for an image after the last action that is right and followed by no other."""
        self.wait(lambda: len(self.pictures) > self._seen, what="a picture")
        end = time.monotonic() + WAIT_S
        count, since = -1, 0.0
        while True:
            if count != len(self.pictures):
                count, since = len(self.pictures), time.monotonic()
            quiet_s = time.monotonic() - since
            if quiet_s > LONG_QUIET_S or (quiet_s > QUIET_S and self._is_at_rest):
                picture = self.picture()
                if picture is not None and is_right(picture):
                    return picture
            if time.monotonic() > end:
                raise TimeoutError(f"waited {WAIT_S} s for the right picture at rest; {self.text()!r}")
            time.sleep(0.01)

    def wait(self, condition: Callable[[], Any], *, what: str) -> Any:
        """Poll a condition and return its first true value."""
        end = time.monotonic() + WAIT_S
        while not (answer := condition()):
            if time.monotonic() > end:
                raise TimeoutError(f"waited {WAIT_S} s for {what}; {self.text()!r} {self.notifications}")
            time.sleep(0.01)
        return answer

    # ------------------------------------------------------------------ the protocol

    def send(self, kind: str, **fields: Any) -> None:
        self._socket.send(msgspec.msgpack.encode({"type": kind, **fields}))

    def send_camera(self) -> None:
        with self._lock:
            camera = self._camera
            position, look_at, up = (np.array(camera[name]) for name in ("position", "look_at", "up_direction"))
            forward = (look_at - position) / np.linalg.norm(look_at - position)
            right = np.cross(forward, up)
            right /= np.linalg.norm(right)
            rotation = np.stack([right, np.cross(forward, right), forward], axis=1)
            camera["wxyz"] = tuple(viser.transforms.SO3.from_matrix(rotation).wxyz.tolist())
            message = dict(camera)
        self.send("ViewerCameraMessage", **message)

    def _read(self) -> None:
        try:
            while True:
                data = self._socket.recv()
                size = int.from_bytes(data[8:16], "little")
                content = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(data[16 : 16 + size]))
                buffers, at = [], 16 + size
                for length in content["binaryBufferLengths"]:
                    at += -at % 8
                    buffers.append(data[at : at + length])
                    at += length
                is_moved = [self._take(message, buffers) for message in content["messages"]]
                if any(is_moved):
                    self.send_camera()
        except (ConnectionClosed, OSError):
            self.is_open = False

    def _take(self, message: dict[str, Any], buffers: list[bytes]) -> bool:
        """Record a message; returns whether it moved the camera."""
        kind = message["type"]
        if kind == "ReplayDoneMessage":
            self._is_initialised = True
            self.pictures.clear()
        elif kind == "BackgroundImageMessage":
            data = message["rgb_data"]
            self._is_at_rest = False
            self.pictures.append(buffers[data["__binary_index"]] if isinstance(data, dict) else data)
        elif kind == "GuiUpdateMessage":
            self.controls[message["uuid"]].update(message["updates"])
            if "_markdown" in message["updates"] and "At rest" in message["updates"]["_markdown"]:
                self._is_at_rest = True
        elif kind == "GuiRemoveMessage":
            self.controls.pop(message["uuid"], None)
        elif kind.startswith("Gui") and "props" in message:
            self.controls[message["uuid"]] = {**message["props"], **message}
        elif kind == "RemoveSceneNodeMessage":
            self.nodes.pop(message["name"], None)
        elif kind == "SetSceneNodeVisibilityMessage":
            self.nodes[message["name"]]["visible"] = message["visible"]
        elif "name" in message and "props" in message:
            self.nodes[message["name"]] = message
        elif kind == "FileTransferStartDownload":
            self.downloads[message["transfer_uuid"]] = {
                "name": message["filename"],
                "size": message["size_bytes"],
                "content": b"",
            }
        elif kind == "FileTransferPart":
            content = message["content"]
            content = buffers[content["__binary_index"]] if isinstance(content, dict) else content
            self.downloads[message["transfer_uuid"]]["content"] += content
        elif kind == "NotificationShowMessage":
            self.notifications.append(message["props"]["body"])
        elif kind in _CAMERA_FIELDS and not message["initial"]:
            name, value = _CAMERA_FIELDS[kind]
            with self._lock:
                self._camera[name] = message[value]
            return True
        return False
