"""A restricted yt-dlp: one video, no external programs or plugins, no cache or config files, every request checked."""

# yt-dlp's published stubs know neither these parameters nor the fields of its info dictionary.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportTypedDictNotRequiredAccess=false
# pyright: reportAttributeAccessIssue=false

import functools
import io
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from yt_dlp import YoutubeDL
from yt_dlp.cookies import SUPPORTED_BROWSERS, YDLLogger, YoutubeDLCookieJar, extract_cookies_from_browser
from yt_dlp.globals import plugin_dirs
from yt_dlp.networking import Request, Response
from yt_dlp.networking.common import RequestDirector
from yt_dlp.networking.exceptions import HTTPError
from yt_dlp.postprocessor import FFmpegPostProcessor
from yt_dlp.utils import ExtractorError, UnsupportedError

from wnv.ingest.fetch.guard import AddressGuard, GuardedRH

# Protocols that yt-dlp downloads itself; for others it would start ffmpeg, which the guard cannot check.
_PROTOCOLS = ("http", "https", "http_dash_segments", "m3u8_native")

_NOWHERE = "/nonexistent/ffmpeg"

_PREVIEW = re.compile(r"only the preview will be extracted|only preview format is available", re.IGNORECASE)


class GuardedYoutubeDL(YoutubeDL):
    """yt-dlp whose requests all pass an `AddressGuard` and whose warnings are kept instead of printed.

    Args:
        params: yt-dlp parameters.
        guard: Checks every request.
    """

    def __init__(self, params: Mapping[str, Any], *, guard: AddressGuard) -> None:
        self._guard = guard
        self._responses: list[Response] = []
        self.warnings: list[str] = []
        # Programs and plugins would bypass the guard. yt-dlp looks for ffmpeg in both places.
        FFmpegPostProcessor._ffmpeg_location.set(_NOWHERE)
        plugin_dirs.value = []
        super().__init__({**params, "ffmpeg_location": _NOWHERE, "js_runtimes": {}, "logger": _Log(self.warnings)})

    def build_request_director(self, handlers: Any, preferences: Any = None) -> RequestDirector:
        """Build a director with only the guarded handler."""
        return super().build_request_director([functools.partial(GuardedRH, guard=self._guard)])

    def urlopen(self, req: Request | str) -> Response:
        """Send a request and remember its response for `hang_up`."""
        self._responses = [response for response in self._responses if not response.closed]
        try:
            response = super().urlopen(req)
        except HTTPError as error:
            self._responses.append(error.response)
            raise
        self._responses.append(response)
        return response

    @property
    def has_only_preview(self) -> bool:
        """Whether the site offered only a preview."""
        return any(_PREVIEW.search(warning) for warning in self.warnings)

    def hang_up(self) -> None:
        """Close open responses: extractors read the head of a file and leave the server sending the rest."""
        for response in self._responses:
            response.close()
        self._responses.clear()

    def close(self) -> None:
        """Close responses and yt-dlp."""
        self.hang_up()
        super().close()


class _Quiet(YDLLogger):
    """Shows nothing, also no progress."""

    def warning(self, message: str, only_once: bool = False) -> None:
        pass

    debug = info = error = warning

    def progress_bar(self) -> None:
        return None


class _Log:
    """Collects yt-dlp's warnings; some causes of failure appear only there. Errors also come as exceptions."""

    def __init__(self, warnings: list[str]) -> None:
        self.warning = warnings.append

    def debug(self, message: str) -> None:
        pass

    error = debug


def read_cookies(path: Path) -> str:
    """Read and check a cookie file.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is not in Netscape format.
    """
    if not path.is_file():
        raise FileNotFoundError(f"cookies: no file {path}; export cookies.txt from a browser, or unset fetch.cookies")
    text = path.read_text(encoding="utf-8")
    try:
        YoutubeDLCookieJar(io.StringIO(text)).load()
    except Exception as error:
        raise ValueError(
            f"cookies: {path} is not in Netscape format (tab-separated, first line '# Netscape HTTP Cookie File'); "
            "export it again"
        ) from error
    return text


def browser_cookies(browser: str) -> str:
    """Read the cookies of a browser, as the text of a cookie file.

    Args:
        browser: As for yt-dlp: `firefox`, `chrome+gnomekeyring`, `firefox:PROFILE`, `firefox::CONTAINER`.

    Raises:
        ValueError: If the browser is unknown, or its cookies cannot be read.
    """
    match = re.fullmatch(
        r"(?P<name>[^+:]+)(\+(?P<keyring>[^:]+))?(:(?!:)(?P<profile>.+?))?(::(?P<container>.+))?", browser
    )
    if match is None or match["name"].lower() not in SUPPORTED_BROWSERS:
        raise ValueError(
            f"cookies_from_browser must be {', '.join(sorted(SUPPORTED_BROWSERS))}, with +KEYRING, :PROFILE or "
            f"::CONTAINER, got {browser!r}"
        )
    keyring = match["keyring"] and match["keyring"].upper()
    try:
        jar = extract_cookies_from_browser(
            match["name"].lower(), match["profile"], _Quiet(), keyring=keyring, container=match["container"]
        )
    except Exception as error:  # of many kinds, by browser and system
        raise ValueError(
            f"cookies_from_browser={browser}: {error}; name the profile, or export cookies.txt and set fetch.cookies"
        ) from error
    file = io.StringIO()
    jar.save(file, ignore_discard=True, ignore_expires=True)
    return file.getvalue()


def extract(ydl: GuardedYoutubeDL, url: str) -> dict[str, Any]:
    """Query the site for a video's stream; return yt-dlp's info dictionary.

    Raises:
        Exception: Any error of yt-dlp; see `classify`.
    """
    try:
        info = ydl.extract_info(url, download=False)
    except Exception as error:
        desktop = _desktop_address(error)
        if desktop is None:
            raise
        info = ydl.extract_info(desktop, download=False)
    if not info:
        raise ExtractorError("the site returned nothing for this address", expected=True)
    protocol = info.get("protocol") or urlsplit(info.get("url", "")).scheme
    protocol = "m3u8_native" if protocol == "m3u8" else protocol
    unsupported = {
        "playlists and videos in several pieces are not supported": info.get("_type", "video") != "video",
        "fetch.format selects several streams to merge; select a single one": info.get("requested_formats"),
        "live streams are not supported": info.get("live_status") in ("is_live", "is_upcoming"),
        f"protocol '{protocol}' is not supported": protocol not in _PROTOCOLS,
    }
    for message, found in unsupported.items():
        if found:
            raise ExtractorError(message, expected=True)
    ydl.hang_up()
    return {**info, "protocol": protocol}


def download_whole(
    ydl: GuardedYoutubeDL, info: Mapping[str, Any], path: Path, *, on_progress: Callable[[int], None]
) -> None:
    """Download the whole stream with yt-dlp's own downloader, or the rest of it.

    Args:
        ydl: The object that extracted the stream.
        info: What `extract` returned.
        path: Output file; partial files are written beside it and continued by the next call.
        on_progress: Called with the number of bytes so far; may wait, or raise to abort.

    Raises:
        Exception: Any error of yt-dlp; see `classify`.
    """
    ydl.add_progress_hook(lambda progress: on_progress(int(progress.get("downloaded_bytes") or 0)))
    ydl.dl(str(path), dict(info))
    with open(path, "ab") as file:  # creates the file if the answer was empty
        os.fsync(file.fileno())  # on disk before it is renamed


def _desktop_address(error: BaseException) -> str | None:
    """Return the desktop address of a mobile page, which yt-dlp does not support, if a redirect led to one."""
    found: BaseException | None = error
    if (kept := getattr(error, "exc_info", None)) and isinstance(kept[1], UnsupportedError):
        found = kept[1]
    text = str(getattr(found, "url", "") or "")
    parts = urlsplit(text)
    return parts._replace(netloc="www.bilibili.com").geturl() if parts.hostname == "m.bilibili.com" else None
