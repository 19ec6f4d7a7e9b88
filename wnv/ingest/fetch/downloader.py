"""A restricted yt-dlp: one video, no external programs, no cache or config files, every request checked."""

# yt-dlp's published stubs know neither these parameters nor the fields of its info dictionary.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportTypedDictNotRequiredAccess=false
# pyright: reportAttributeAccessIssue=false

import functools
import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from yt_dlp import YoutubeDL
from yt_dlp.cookies import YoutubeDLCookieJar
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
        # External programs would bypass the guard. yt-dlp looks for ffmpeg in both places, and for JavaScript runtimes.
        FFmpegPostProcessor._ffmpeg_location.set(_NOWHERE)
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

    def hang_up(self) -> None:
        """Close open responses: extractors read the head of a file and leave the server sending the rest."""
        for response in self._responses:
            response.close()
        self._responses.clear()

    def close(self) -> None:
        """Close responses and yt-dlp."""
        self.hang_up()
        super().close()


class _Log:
    """Collects yt-dlp's warnings; some causes of failure appear only there. Errors also come as exceptions."""

    def __init__(self, warnings: list[str]) -> None:
        self._warnings = warnings

    def debug(self, message: str) -> None:
        pass

    def warning(self, message: str) -> None:
        self._warnings.append(message)

    def error(self, message: str) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Media:
    """The stream of a video to download.

    Attributes:
        info: yt-dlp's info dictionary, for its own downloader.
        url: Address of the media file.
        headers: HTTP headers to send.
        has_ranges: The media is a single file, so range requests are possible.
        duration_s: Duration according to the site, if given.
        num_bytes: Size according to the site, if given.
        short_side: Shorter side in pixels according to the site, if given.
        video_id: The site's id of the video.
        format: The site's and yt-dlp's name of the stream.
        is_preview: The site offers only a preview.
    """

    info: Mapping[str, Any]
    url: str
    headers: Mapping[str, str]
    has_ranges: bool
    duration_s: float | None
    num_bytes: int | None
    short_side: int | None
    video_id: str | None
    format: str | None
    is_preview: bool


def downloader_params(
    *,
    format: str,
    format_sort: Sequence[str],
    cookies: str | None,
    proxy: str | None,
    ratelimit: float | None,
    min_rate: float,
    socket_timeout_s: float,
    request_pause_s: float,
    num_retries: int,
    retry_pause_s: float,
) -> dict[str, Any]:
    """Build yt-dlp parameters for downloading one video quietly.

    Args:
        format: yt-dlp format selector.
        format_sort: yt-dlp sort order of the selected formats.
        cookies: Text of a cookie file. Not its path: yt-dlp writes cookies back.
        proxy: Proxy address; None uses the environment's.
        ratelimit: Maximum bytes per second.
        min_rate: Minimum bytes per second; a slower server counts as stalled.
        socket_timeout_s: Seconds a server may be silent.
        request_pause_s: Seconds between the requests of one page.
        num_retries: Retries of a media request.
        retry_pause_s: Seconds before the first retry; doubled for each further one.
    """
    params: dict[str, Any] = {
        "quiet": True,
        "noprogress": True,
        "color": "never",
        "noplaylist": True,
        "playlistend": 1,  # playlists are rejected; do not list them
        "ignoreerrors": False,
        "cachedir": False,
        "format": format,
        "format_sort": list(format_sort),
        "cookiefile": None if cookies is None else io.StringIO(cookies),
        "ratelimit": ratelimit,
        "throttledratelimit": min_rate,
        "socket_timeout": socket_timeout_s,
        "sleep_interval_requests": request_pause_s,
        "retries": num_retries,
        "fragment_retries": num_retries,
        "retry_sleep_functions": dict.fromkeys(("http", "fragment"), lambda n: retry_pause_s * 2**n),
        "skip_unavailable_fragments": False,
        "continuedl": False,
        "updatetime": False,
        "fixup": "never",
        "hls_prefer_native": True,
    }
    if proxy is not None:
        params["proxy"] = proxy
    return params


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


def extract(ydl: GuardedYoutubeDL, url: str) -> Media:
    """Query the site for a video's stream.

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
    if info.get("_type", "video") != "video":
        raise ExtractorError("playlists and videos in several pieces are not supported", expected=True)
    if info.get("requested_formats"):
        raise ExtractorError("fetch.format selects several streams to merge; select a single one", expected=True)
    if info.get("live_status") in ("is_live", "is_upcoming"):
        raise ExtractorError("live streams are not supported", expected=True)
    ydl.hang_up()
    protocol = (info.get("protocol") or urlsplit(info["url"]).scheme).replace("m3u8_native", "m3u8")
    protocol = "m3u8_native" if protocol == "m3u8" else protocol
    if protocol not in _PROTOCOLS:
        raise ExtractorError(f"protocol '{protocol}' is not supported", expected=True)
    size = info.get("filesize")
    return Media(
        info={**info, "protocol": protocol},
        url=info["url"],
        headers=dict(info.get("http_headers") or {}),
        has_ranges=protocol in ("http", "https") and not info.get("fragments"),
        duration_s=float(info["duration"]) if info.get("duration") else None,
        num_bytes=int(size) if size else None,
        short_side=min(info["width"], info["height"]) if info.get("width") and info.get("height") else None,
        video_id=str(info["id"]) if info.get("id") else None,
        format=str(info["format"]) if info.get("format") else None,
        is_preview=any(_PREVIEW.search(warning) for warning in ydl.warnings),
    )


def download_whole(ydl: GuardedYoutubeDL, media: Media, path: Path, *, check_size: Callable[[int], None]) -> None:
    """Download the whole stream with yt-dlp's own downloader.

    Args:
        ydl: The object that extracted the media.
        media: Stream to download.
        path: Output file; partial files are written beside it.
        check_size: Called with the number of bytes so far; may raise to abort.

    Raises:
        Exception: Any error of yt-dlp; see `classify`.
    """
    ydl.add_progress_hook(lambda progress: check_size(int(progress.get("downloaded_bytes") or 0)))
    ydl.dl(str(path), dict(media.info))
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
