"""The fetch stage: download the marked segments of a video, or find a local one."""

import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from yt_dlp.networking.exceptions import HTTPError
from yt_dlp.utils import YoutubeDLError

from wnv.ingest.fetch.container import (
    Cut,
    MediaError,
    UncuttableError,
    check_ends,
    open_video,
    video_facts,
)
from wnv.ingest.fetch.downloader import GuardedYoutubeDL, browser_cookies, download_whole, extract, read_cookies
from wnv.ingest.fetch.errors import causes, classify, disk_error
from wnv.ingest.fetch.fetched import Fetched, check_segments, cut_part, done, settle
from wnv.ingest.fetch.guard import BILIBILI_HOSTS, AddressGuard
from wnv.ingest.fetch.local import content_id, local_video
from wnv.ingest.fetch.partial import PartialDownload
from wnv.ingest.fetch.ranges import NoRangesError, RangeFile
from wnv.ingest.fetch.rate import SharedRate
from wnv.ingest.fetch.spans import plan_spans
from wnv.ingest.gate import site_of
from wnv.ingest.layout import RATE_FILE, VIDEOS_FOLDER, video_file
from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.messages import one_line
from wnv.ingest.photos.photo_set import PHOTOS_PREFIX
from wnv.ingest.tasks import TOOL, Outcome, StageError, StageName, Task
from wnv.runtime.atomic import atomic_folder
from wnv.scenes.schema import safe_id

DEFAULT_FORMAT = "bv*[dynamic_range=SDR]/b[dynamic_range=SDR]"

_PART = re.compile(r"\d\d\.[a-z0-9]{1,5}")
_RESUMED = ("transient", "risk_control")  # reasons after which a retry continues the download
_SUFFIXES = {"matroska,webm": ".mkv", "flv": ".flv", "mpegts": ".ts", "avi": ".avi", "asf": ".wmv", "ogg": ".ogv"}


@dataclass(frozen=True, kw_only=True)
class FetchStage:
    """Download a video with yt-dlp, or find a local one; see `__call__`.

    Args:
        hosts: Allowed hosts, including their subdomains; `*` allows any public host.
        allow_private: Allow hosts at private addresses (this machine, the local network).
        videos: Folder of local videos, for `file:` keys.
        follow_links: Read videos that links in this folder lead to, also outside of it.
        cookies: Cookie file in Netscape format; read once, never written.
        cookies_from_browser: Browser to read the cookies from instead, as for yt-dlp: `firefox`, `chrome:PROFILE`.
        proxy: Proxy address (`http://`, `socks5://`); None uses the environment's, an empty string none. A proxy
            resolves names itself, so only literal private addresses are blocked behind it.
        max_height: Largest shorter side of a stream, pixels; the best stream within it is taken.
        format: yt-dlp format selector.
        ratelimit: Maximum bytes per second of media, of all workers together; None for no limit.
        socket_timeout_s: Seconds a server may be silent.
        request_pause_s: Seconds between the requests of one page.
        num_retries: Retries of a media request that fails before any data.
        retry_pause_s: Seconds before the first retry; doubled for each further one.
        margin_s: Seconds added before and after a marked segment.
        join_gap_s: Segments closer than this are fetched as one part, seconds.
        max_whole_s: Length to fetch of a video without segments, seconds.
        max_gb: Maximum size per video, 10^9 bytes.
        ydl: Factory of the yt-dlp object; takes its parameters and `guard=`. Must be picklable.

    Raises:
        FileNotFoundError, ValueError: If the cookie file, the folder of videos or a number is invalid.
    """

    hosts: Sequence[str] = BILIBILI_HOSTS
    allow_private: bool = False
    videos: str | Path | None = None
    follow_links: bool = False
    cookies: str | Path | None = None
    cookies_from_browser: str | None = None
    proxy: str | None = None
    max_height: int = 720
    format: str = DEFAULT_FORMAT
    ratelimit: float | int | None = None
    socket_timeout_s: float | int = 30.0
    request_pause_s: float | int = 0.75
    num_retries: int = 3
    retry_pause_s: float | int = 1.0
    margin_s: float | int = 1.0
    join_gap_s: float | int = 10.0
    max_whole_s: float | int = 1200.0
    max_gb: float | int = 4.0
    ydl: Callable[..., GuardedYoutubeDL] = GuardedYoutubeDL
    _cookie_text: str | None = field(default=None, init=False, repr=False)

    @property
    def name(self) -> StageName:
        """The stage."""
        return "fetch"

    def __post_init__(self) -> None:
        for name in ("max_height", "socket_timeout_s", "max_whole_s", "max_gb", "ratelimit"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value}")
        for name in ("margin_s", "join_gap_s", "num_retries"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if isinstance(self.hosts, str) or not self.hosts:
            raise ValueError(f"hosts must be a list of host names such as [bilibili.com] or ['*'], got {self.hosts!r}")
        for name in ("videos", "cookies"):
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, Path(path).expanduser().absolute())
        if self.videos is not None and not Path(self.videos).is_dir():
            raise FileNotFoundError(f"videos: no folder {self.videos}")
        if self.cookies is not None and self.cookies_from_browser is not None:
            raise ValueError("set fetch.cookies or fetch.cookies_from_browser, not both")
        # Read here: other nodes may have neither the file nor the browser.
        if self.cookies is not None:
            object.__setattr__(self, "_cookie_text", read_cookies(Path(self.cookies)))
        elif self.cookies_from_browser is not None:
            object.__setattr__(self, "_cookie_text", browser_cookies(self.cookies_from_browser))

    def versions(self) -> dict[str, str]:
        """Versions and settings that the result depends on."""
        return {
            f"{TOOL}yt-dlp": version("yt-dlp"),
            f"{TOOL}av": version("av"),
            "format": self.format,
            "max_height": str(self.max_height),
            **{name: str(float(getattr(self, name))) for name in ("margin_s", "join_gap_s", "max_whole_s")},
        }

    def __call__(self, task: Task) -> Outcome:
        """Fetch the video of a manifest line, the payload of the task.

        A remote video is written as `videos/<key>/NN.mp4`, copied without re-encoding from the keyframe before each
        marked segment, or as the whole file if the server or the container does not support that. Files of an earlier
        try are replaced once everything has been fetched. A local video stays where it is.

        Raises:
            StageError: If the video cannot be fetched, with the reason.
            OSError: If the output root cannot be written.
        """
        defaults = {"key": task.item, "url": None, "title": "", "segments": ()}
        line = ManifestLine.from_json(defaults | {name: value for name, value in task.payload.items() if value})
        if not line.url:
            raise StageError("refused", "unsupported", "the manifest line has no address")
        if task.item.startswith("file:"):
            return self._local(line)
        return self._local_photos(line) if task.item.startswith(PHOTOS_PREFIX) else self._remote(task, line)

    def _find(self, *parts: str) -> Path:
        folder = None if self.videos is None else Path(self.videos)
        return local_video(folder, str(PurePosixPath(*parts)), follow_links=self.follow_links)

    def _local(self, line: ManifestLine) -> Outcome:
        path = self._find(str(line.url))
        content = content_id(path)  # first: a file that may not be read is not corrupt
        try:
            with open_video(path) as source:
                facts = video_facts(*source)
            # A container may declare more than it holds.
            end_s = check_ends(path)
        except MediaError as error:
            raise StageError("refused", error.reason, one_line(error.message)) from error
        fetched = Fetched(facts, *settle(line, end_s), [Cut(path=path, start_s=0.0, end_s=end_s)])
        return done(fetched, [str(path)], duration_s=end_s, info={"extractor_key": "File", "id": content})

    def _local_photos(self, line: ManifestLine) -> Outcome:
        """Find the photographs of a folder. They stay where they are."""
        paths = [self._find(str(line.url), name) for name in line.photos]
        parts = [{"file": str(path), "name": name} for name, path in zip(line.photos, paths, strict=True)]
        return Outcome(state="done", result={"segments": [], "parts": parts})

    def _remote(self, task: Task, line: ManifestLine) -> Outcome:
        url = str(line.url)
        folder = task.root / VIDEOS_FOLDER / safe_id(task.item)
        known = [entry.name for entry in folder.iterdir() if _PART.fullmatch(entry.name)] if folder.is_dir() else []
        guard = AddressGuard(hosts=self.hosts, allow_private=self.allow_private)
        with self.ydl(self._params(), guard=guard) as ydl:
            try:
                guard.check_host(urlsplit(url).scheme.lower(), urlsplit(url).hostname or "")
                info = extract(ydl, url)
            except Exception as error:
                raise self._to_stage_error(error, ydl, url, media=False) from error
            if ydl.has_only_preview:
                raise StageError(
                    "refused", "preview", "the site offers only a preview of this video; set fetch.cookies="
                )
            if not _has_ranges(info):
                self._check_size(info.get("filesize") or 0)
            stream = {name: info.get(name) for name in ("format_id", "filesize", "duration", "width", "height")}
            partial = PartialDownload(folder, stream)
            try:
                with atomic_folder(folder, entries=known, overwrite=True) as fresh:
                    fetched = self._fetch(ydl, info, line, partial, task.root)
                    names = [cut.path.name for cut in fetched.cuts]
                    num_bytes = sum(cut.path.stat().st_size for cut in fetched.cuts)
                    for name in names:
                        os.replace(partial.folder / name, fresh / name)
            except Exception as error:
                final = self._to_stage_error(error, ydl, url, media=True)
                is_final = isinstance(final, StageError) and final.outcome.reason not in _RESUMED
                partial.close(keep=not is_final)
                raise final from error
            partial.close(keep=False)
        files = [video_file(task.item, int(name[:2]), name[2:]) for name in names]
        return done(fetched, files, duration_s=fetched.facts.duration_s, info=info, num_bytes=num_bytes)

    def _params(self) -> dict[str, Any]:
        """yt-dlp's parameters for downloading one video quietly."""
        return {
            "quiet": True,
            "noprogress": True,
            "color": "never",
            "noplaylist": True,
            "playlistend": 1,  # playlists are rejected; do not list them
            "ignoreerrors": False,
            "cachedir": False,
            "format": self.format,
            "format_sort": [f"res:{self.max_height}", "vcodec:h264", "fps", "br"],
            # Not the path of the file: yt-dlp writes cookies back.
            "cookiefile": None if self._cookie_text is None else io.StringIO(self._cookie_text),
            "buffersize": 2**16,
            "noresizebuffer": True,  # small blocks, so that the rate limit is smooth
            "socket_timeout": self.socket_timeout_s,
            "sleep_interval_requests": self.request_pause_s,
            "retries": self.num_retries,
            "fragment_retries": self.num_retries,
            "retry_sleep_functions": dict.fromkeys(("http", "fragment"), lambda n: self.retry_pause_s * 2**n),
            "skip_unavailable_fragments": False,
            "continuedl": True,
            "updatetime": False,
            "fixup": "never",
            "hls_prefer_native": True,
            **({} if self.proxy is None else {"proxy": self.proxy}),
        }

    def _fetch(
        self, ydl: GuardedYoutubeDL, info: Mapping[str, Any], line: ManifestLine, partial: PartialDownload, root: Path
    ) -> Fetched:
        if _has_ranges(info):
            try:
                file = RangeFile(
                    urlopen=ydl.urlopen,
                    url=info["url"],
                    headers=info.get("http_headers") or {},
                    num_retries=self.num_retries,
                    retry_pause_s=self.retry_pause_s,
                    on_progress=self._meter(root),
                )
                with closing(file):
                    return self._parts(file, line, info, partial)
            except (NoRangesError, UncuttableError):
                pass
        whole = partial.folder / "whole"
        download_whole(ydl, info, whole, on_progress=self._meter(root))
        try:
            return self._parts(whole, line, info, partial)
        except UncuttableError:
            return self._whole(whole, line, info)

    def _meter(self, root: Path) -> Callable[[int], None]:
        """Return a function to call with the number of bytes so far, which applies `max_gb` and `ratelimit`."""
        rate = None if self.ratelimit is None else SharedRate(root / RATE_FILE, self.ratelimit)
        num_taken = 0

        def on_progress(num_bytes: int) -> None:
            nonlocal num_taken
            self._check_size(num_bytes)
            if rate is not None and num_bytes > num_taken:
                rate.take(num_bytes - num_taken)
                num_taken = num_bytes

        return on_progress

    def _parts(
        self, file: Path | RangeFile, line: ManifestLine, info: Mapping[str, Any], partial: PartialDownload
    ) -> Fetched:
        with open_video(file) as source:
            facts = video_facts(*source)
            segments, code = check_segments(line, info, facts)
            spans = plan_spans(
                segments,
                duration_s=facts.duration_s,
                margin_s=float(self.margin_s),
                join_gap_s=float(self.join_gap_s),
                max_whole_s=float(self.max_whole_s),
            )
            cuts = []
            for number, span in enumerate(spans):
                path = partial.folder / f"{number:02d}.mp4"
                part = partial.finished(path, span)
                if part is None:
                    part = cut_part(source, span, facts, path)
                    partial.add(part, span)
                cuts.append(part)
        return Fetched(facts, segments, code, cuts)

    def _whole(self, whole: Path, line: ManifestLine, info: Mapping[str, Any]) -> Fetched:
        """Keep the file whole because it cannot be cut."""
        with open_video(whole) as source:
            facts = video_facts(*source)
            suffix = _SUFFIXES.get(source[0].format.name, ".mp4")
        segments, code = check_segments(line, info, facts)
        end_s = check_ends(whole)
        made = Cut(path=whole.rename(whole.with_name(f"00{suffix}")), start_s=0.0, end_s=end_s)
        return Fetched(facts, segments, code, [made])

    def _check_size(self, num_bytes: int) -> None:
        if num_bytes > self.max_gb * 1e9:
            raise StageError(
                "refused", "too_large", f"{num_bytes / 1e9:.2f} GB, more than fetch.max_gb={self.max_gb:g}"
            )

    def _to_stage_error(self, error: Exception, ydl: GuardedYoutubeDL, url: str, *, media: bool) -> Exception:
        if isinstance(error, MediaError):
            return StageError("failed", error.reason, one_line(error.message))
        found = list(causes(error))
        for cause in found:
            if isinstance(cause, StageError):
                return cause
        if (disk := disk_error(error)) is not None:
            return disk
        if not any(isinstance(cause, YoutubeDLError | TimeoutError | ConnectionError) for cause in found):
            return error  # not a network error: the disk, or a bug
        has_proxy = bool(ydl.proxies) if self.proxy is None else self.proxy != ""
        state, reason, message = classify(error, has_proxy=has_proxy, warnings=ydl.warnings, media=media)
        blamed = next((cause.response.url for cause in found if isinstance(cause, HTTPError)), url)
        host = urlsplit(blamed).hostname or urlsplit(url).hostname
        return StageError(state, reason, message, site_of(host) if host and state == "failed" else None)


def _has_ranges(info: Mapping[str, Any]) -> bool:
    """Whether the stream is a single file, so that range requests are possible."""
    return info["protocol"] in ("http", "https") and not info.get("fragments")
