"""yt-dlp, kept on a short lead: one video, no other program, no file of its own, every request behind the guard."""

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

# Streams that yt-dlp fetches itself; for others it would start FFmpeg, which no guard stands before.
_PROTOCOLS = ("http", "https", "http_dash_segments", "m3u8_native")

_NOWHERE = "/nonexistent/ffmpeg"

_PREVIEW = re.compile(r"only the preview will be extracted|only preview format is available", re.IGNORECASE)


class GuardedYoutubeDL(YoutubeDL):
    """yt-dlp with every request of it behind an `AddressGuard`; what it would print is kept.

    Args:
        params: As yt-dlp takes them.
        guard: Sees every request.
    """

    def __init__(self, params: Mapping[str, Any], *, guard: AddressGuard) -> None:
        self._guard = guard
        self._responses: list[Response] = []
        self.warnings: list[str] = []
        # No other program: nothing would stand between it and the network. yt-dlp looks in both places.
        FFmpegPostProcessor._ffmpeg_location.set(_NOWHERE)
        super().__init__({**params, "ffmpeg_location": _NOWHERE, "logger": _Log(self.warnings)})

    def build_request_director(self, handlers: Any, preferences: Any = None) -> RequestDirector:
        """A director with the guarded handler and no other."""
        return super().build_request_director([functools.partial(GuardedRH, guard=self._guard)])

    def urlopen(self, req: Request | str) -> Response:
        """Send a request, as yt-dlp does."""
        self._responses = [response for response in self._responses if not response.closed]
        try:
            response = super().urlopen(req)
        except HTTPError as error:
            self._responses.append(error.response)
            raise
        self._responses.append(response)
        return response

    def hang_up(self) -> None:
        """Close what has been opened: extractors look at the head of a file and leave the server sending the rest."""
        for response in self._responses:
            response.close()
        self._responses.clear()

    def close(self) -> None:
        """Give everything back."""
        self.hang_up()
        super().close()


class _Log:
    """Takes what yt-dlp prints: errors come as exceptions too, and some refusals come as warnings alone."""

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
    """The one stream of a video that is fetched.

    Attributes:
        info: What yt-dlp has found out, for its own downloader.
        url: The media file.
        headers: To be sent for it.
        has_ranges: Whether it is one file, so that parts of it can be asked for.
        duration_s: What the site says, if it does.
        num_bytes: What the site says, if it does.
        short_side: Pixels of the shorter side, as the site says, if it does.
        video_id: As the site names the video.
        format: The site's and yt-dlp's name of the stream.
        is_preview: Whether the site gives only the beginning of what there is.
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
    """Parameters of yt-dlp for one quiet, self-contained video.

    Args:
        format: Which streams may be taken.
        format_sort: Which of these is best.
        cookies: The text of a cookie file; yt-dlp writes its cookies back, and must not write into the user's file.
        proxy: Address of a proxy; None for what the environment names.
        ratelimit: Bytes a second.
        min_rate: Bytes a second; a server that gives less counts as stalled.
        socket_timeout_s: How long a server may be silent, seconds.
        request_pause_s: Between the requests for a page and what belongs to it, seconds.
        num_retries: Of a media request.
        retry_pause_s: The first pause between them, seconds; each further one is twice as long.
    """
    params: dict[str, Any] = {
        "quiet": True,
        "noprogress": True,
        "color": "never",
        "noplaylist": True,
        "playlistend": 1,  # what is a playlist all the same is refused; it need not be read to its end
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
    """The text of a cookie file.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is not in Netscape's format.
    """
    if not path.is_file():
        raise FileNotFoundError(f"cookies: no file {path}; export cookies.txt from a browser, or leave cookies out")
    text = path.read_text(encoding="utf-8")
    try:
        YoutubeDLCookieJar(io.StringIO(text)).load()
    except Exception as error:
        raise ValueError(
            f"cookies: {path} is not a cookie file in Netscape's format (tab-separated, first line '# Netscape HTTP "
            "Cookie File'); export it anew"
        ) from error
    return text


def extract(ydl: GuardedYoutubeDL, url: str) -> Media:
    """Ask the site about a video.

    Raises:
        Exception: What yt-dlp raises; see `classify`.
    """
    try:
        info = ydl.extract_info(url, download=False)
    except Exception as error:
        desktop = _desktop_address(error)
        if desktop is None:
            raise
        info = ydl.extract_info(desktop, download=False)
    if not info:
        raise ExtractorError("the site gives nothing for this address", expected=True)
    if info.get("_type", "video") != "video":
        raise ExtractorError("a list of videos, or one in several pieces, is not fetched as one", expected=True)
    if info.get("requested_formats"):
        raise ExtractorError("fetch.format= asks for several streams to be merged; one is fetched", expected=True)
    if info.get("live_status") in ("is_live", "is_upcoming"):
        raise ExtractorError("a live stream cannot be fetched", expected=True)
    ydl.hang_up()
    protocol = (info.get("protocol") or urlsplit(info["url"]).scheme).replace("m3u8_native", "m3u8")
    protocol = "m3u8_native" if protocol == "m3u8" else protocol
    if protocol not in _PROTOCOLS:
        raise ExtractorError(f"streams by '{protocol}' are not fetched", expected=True)
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
    """Fetch the whole stream into a file by yt-dlp's own downloader.

    Args:
        ydl: As it extracted the media.
        media: What to fetch.
        path: The file; partial ones lie beside it.
        check_size: Called with the bytes so far; may raise to end it.

    Raises:
        Exception: What yt-dlp raises; see `classify`.
    """
    ydl.add_progress_hook(lambda progress: check_size(int(progress.get("downloaded_bytes") or 0)))
    ydl.dl(str(path), dict(media.info))
    with open(path, "ab") as file:  # made here if the answer was empty, of which yt-dlp makes no file
        os.fsync(file.fileno())  # on the disk before it gets its name, as what is cut is


def _desktop_address(error: BaseException) -> str | None:
    """Where a mobile page was reached by a redirect, which yt-dlp does not know: the page it does know."""
    found: BaseException | None = error
    if (kept := getattr(error, "exc_info", None)) and isinstance(kept[1], UnsupportedError):
        found = kept[1]
    text = str(getattr(found, "url", "") or "")
    parts = urlsplit(text)
    return parts._replace(netloc="www.bilibili.com").geturl() if parts.hostname == "m.bilibili.com" else None
