"""The viewer's server: a page on this machine, and a window per client."""

import contextlib
import errno
import io
import socket
import warnings
from collections.abc import Iterator
from threading import Lock
from types import TracebackType

import viser

from wnv.viewer.session import SceneSession
from wnv.viewer.window import Window, WindowSettings


class _Server(viser.ViserServer):
    """Without viser's sharing, which would publish the page through a foreign server."""

    def request_share_url(self, verbose: bool = True) -> str | None:
        return None


class Viewer:
    """Serves a session's scenes until it is closed.

    Args:
        session: Renders the views; closed with the viewer.
        host: Address to listen on: 127.0.0.1 for this machine alone, 0.0.0.0 for every machine that can reach it.
        port: Port to listen on; 0 takes a free one.
        settings: Settings of the windows.

    Raises:
        ValueError: If the address is not this machine's, or the port is in use or not allowed.
    """

    def __init__(
        self, session: SceneSession, *, settings: WindowSettings, host: str = "127.0.0.1", port: int = 8080
    ) -> None:
        _check_address(host, port)
        self.session = session
        self._settings = settings
        self._windows: dict[int, Window] = {}
        self._lock = Lock()
        # A client may disconnect while its image is rendered.
        warnings.filterwarnings("ignore", message="Queued a .* on a closed connection")
        with _quiet():
            self._server = _Server(host=host, port=port, label="World-in-Novel-View", verbose=False)
        self.host, self.port = host, self._server.get_port()
        if port not in (0, self.port):  # viser takes the next free one
            self.close()
            raise ValueError(_in_use(host, port))
        self._server.scene.set_up_direction("-y")
        self._server.gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False)
        self._server.gui.main_panel.dock_right()
        home = session.home(session.scenes.first).camera
        pose = home.camtoworld.numpy()
        self._server.initial_camera.position = pose[:3, 3]
        self._server.initial_camera.look_at = pose[:3, 3] + pose[:3, 2]
        self._server.initial_camera.fov = home.fov_y
        self._server.on_client_connect(self._open_window)
        self._server.on_client_disconnect(self._close_window)

    @property
    def url(self) -> str:
        """Address of the page for a browser on this machine."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def num_windows(self) -> int:
        """Number of open windows."""
        return len(self._windows)

    def close(self) -> None:
        """Disconnect the clients and free the port."""
        with _quiet():
            self._server.stop()
        with self._lock:
            windows = list(self._windows.values())
            self._windows.clear()
        self.session.close()
        for window in windows:
            window.close()

    def __enter__(self) -> "Viewer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _open_window(self, client: viser.ClientHandle) -> None:
        window = Window(client, self.session, self._settings)
        with self._lock:
            # It may have disconnected in the meantime.
            if client.client_id in self._server.get_clients():
                self._windows[client.client_id] = window
                return
        window.close()

    def _close_window(self, client: viser.ClientHandle) -> None:
        with self._lock:
            window = self._windows.pop(client.client_id, None)
        if window is not None:
            window.close()


def _check_address(host: str, port: int) -> None:
    """Test the address, because viser takes another port or waits forever."""
    if not 0 <= port < 2**16:
        raise ValueError(f"port must be in 0..65535, got {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ValueError(f"host={host} is not an address ({error}); use host=127.0.0.1 for this machine") from None
    with socket.socket(family, kind, protocol) as probe:
        # As asyncio does: recently closed connections do not block a port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen()
        except PermissionError:
            raise ValueError(f"port {port} is reserved for the system; use port=1024 or above") from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ValueError(_in_use(host, port)) from None
            raise ValueError(f"cannot listen on host={host} port={port}: {error.strerror}") from None


def _in_use(host: str, port: int) -> str:
    return f"port={port} of {host} is in use; use another port, or port=0 for any free one"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what viser prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
