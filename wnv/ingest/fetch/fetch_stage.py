"""The fetch stage: download the marked segments of a video, or find a local one."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from yt_dlp.networking.exceptions import HTTPError
from yt_dlp.utils import YoutubeDLError

from wnv.ingest.fetch.container import (
    Cut,
    MediaError,
    UncuttableError,
    VideoFacts,
    VideoSource,
    check_ends,
    cut,
    open_video,
    video_facts,
)
from wnv.ingest.fetch.downloader import (
    GuardedYoutubeDL,
    Media,
    download_whole,
    downloader_params,
    extract,
    read_cookies,
)
from wnv.ingest.fetch.errors import causes, classify, disk_error, one_line
from wnv.ingest.fetch.guard import BILIBILI_HOSTS, AddressGuard
from wnv.ingest.fetch.local import local_video
from wnv.ingest.fetch.ranges import NoRangesError, RangeFile, Throttle
from wnv.ingest.fetch.spans import plan_spans
from wnv.ingest.gate import site_of
from wnv.ingest.layout import VIDEOS_FOLDER, video_file
from wnv.ingest.manifest.line import ManifestLine, Segments
from wnv.ingest.manifest.times import settle_segments
from wnv.ingest.tasks import TOOL, Outcome, StageError, StageName, Task
from wnv.runtime.atomic import atomic_folder
from wnv.scenes.schema import safe_id

DEFAULT_FORMAT = "bv*[dynamic_range=SDR]/b[dynamic_range=SDR]"

_PART = re.compile(r"\d\d\.[a-z0-9]{1,5}")
_TOLERANCE_S = 2.0  # sites round durations, and the streams of a video differ slightly
_LEAST_SHARE = 0.8  # of the size the site gives, which it rounds
_SUFFIXES = {"matroska,webm": ".mkv", "flv": ".flv", "mpegts": ".ts", "avi": ".avi", "asf": ".wmv", "ogg": ".ogv"}


@dataclass(frozen=True, kw_only=True)
class _Fetched:
    """The contents of a video's folder."""

    facts: VideoFacts
    segments: Segments
    code: str | None
    cuts: tuple[Cut, ...]


class FetchStage:
    """Download a video with yt-dlp, or find a local one; see `__call__`.

    Args:
        hosts: Allowed hosts, including their subdomains; `*` allows any public host.
        allow_private: Allow hosts at private addresses (this machine, the local network).
        videos: Folder of local videos, for `file:` keys.
        cookies: Cookie file in Netscape format; read, never written.
        proxy: Proxy address (`http://`, `socks5://`); None uses the environment's, an empty string none. A proxy
            resolves names itself, so only literal private addresses are blocked behind it.
        max_height: Largest shorter side of a stream, pixels; the best stream within it is taken.
        format: yt-dlp format selector.
        ratelimit: Maximum bytes per second of media; None for no limit.
        min_rate: Minimum bytes per second over `socket_timeout_s`; a slower server counts as stalled.
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

    name: StageName = "fetch"

    def __init__(
        self,
        *,
        hosts: Sequence[str] = BILIBILI_HOSTS,
        allow_private: bool = False,
        videos: str | Path | None = None,
        cookies: str | Path | None = None,
        proxy: str | None = None,
        max_height: int = 720,
        format: str = DEFAULT_FORMAT,
        ratelimit: float | int | None = None,
        min_rate: float | int = 1000.0,
        socket_timeout_s: float | int = 30.0,
        request_pause_s: float | int = 0.75,
        num_retries: int = 3,
        retry_pause_s: float | int = 1.0,
        margin_s: float | int = 1.0,
        join_gap_s: float | int = 10.0,
        max_whole_s: float | int = 1200.0,
        max_gb: float | int = 4.0,
        ydl: Callable[..., GuardedYoutubeDL] = GuardedYoutubeDL,
    ) -> None:
        positive = {"max_height": max_height, "socket_timeout_s": socket_timeout_s, "max_whole_s": max_whole_s}
        positive |= {"max_gb": max_gb} | ({} if ratelimit is None else {"ratelimit": ratelimit})
        for name, value in positive.items():
            if not value > 0:
                raise ValueError(f"{name} must be above 0, got {value}")
        for name, value in {"margin_s": margin_s, "join_gap_s": join_gap_s, "num_retries": num_retries}.items():
            if value < 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        if min_rate < 0 or (ratelimit is not None and ratelimit <= min_rate):
            raise ValueError(f"min_rate must be at least 0 and below ratelimit={ratelimit}, got {min_rate}")
        if isinstance(hosts, str) or not hosts:
            raise ValueError(f"hosts must be a list of host names such as [bilibili.com] or ['*'], got {hosts!r}")
        self._videos = None if videos is None else Path(videos).expanduser().absolute()
        if self._videos is not None and not self._videos.is_dir():
            raise FileNotFoundError(f"videos: no folder {videos}")
        self._guard = AddressGuard(hosts=hosts, allow_private=allow_private)
        self._cookies = None if cookies is None else Path(cookies).expanduser().absolute()
        if self._cookies is not None:
            read_cookies(self._cookies)
        self._proxy = proxy
        self._max_height = max_height
        self._format = format
        self._ratelimit = None if ratelimit is None else float(ratelimit)
        self._min_rate = float(min_rate)
        self._socket_timeout_s = float(socket_timeout_s)
        self._request_pause_s = float(request_pause_s)
        self._num_retries = num_retries
        self._retry_pause_s = float(retry_pause_s)
        self._margin_s = float(margin_s)
        self._join_gap_s = float(join_gap_s)
        self._max_whole_s = float(max_whole_s)
        self._max_bytes = max_gb * 1e9
        self._ydl = ydl

    def versions(self) -> dict[str, str]:
        """Versions and settings that the result depends on."""
        return {
            f"{TOOL}yt-dlp": version("yt-dlp"),
            f"{TOOL}av": version("av"),
            "format": self._format,
            "max_height": str(self._max_height),
            "margin_s": str(self._margin_s),
            "join_gap_s": str(self._join_gap_s),
            "max_whole_s": str(self._max_whole_s),
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
        payload = task.payload
        other = payload.get("other_segments")
        line = ManifestLine(
            key=payload.get("key") or task.item,
            url=payload.get("url"),
            title=payload.get("title") or "",
            kind=payload["kind"],
            segments=_segments(payload.get("segments") or ()),
            other_segments=None if other is None else _segments(other),
            codes=tuple(payload.get("codes") or ()),
        )
        if not line.url:
            raise StageError("refused", "unsupported", "the manifest line has no address")
        if task.item.startswith("file:"):
            return self._local(line)
        return self._remote(task, line)

    def _local(self, line: ManifestLine) -> Outcome:
        path = local_video(self._videos, str(line.url))
        try:
            with open_video(path) as source:
                facts = video_facts(*source)
            # A container may declare more than it holds.
            end_s = check_ends(path)
        except MediaError as error:
            raise StageError("refused", error.reason, one_line(error.message)) from error
        segments, code = self._settled(line, end_s)
        whole = Cut(path=path, start_s=0.0, end_s=end_s)
        fetched = _Fetched(facts=facts, segments=segments, code=code, cuts=(whole,))
        return _done(fetched, [str(path)], duration_s=end_s)

    def _remote(self, task: Task, line: ManifestLine) -> Outcome:
        url = str(line.url)
        folder = task.root / VIDEOS_FOLDER / safe_id(task.item)
        known = [entry.name for entry in folder.iterdir() if _PART.fullmatch(entry.name)] if folder.is_dir() else []
        cookies = None if self._cookies is None else read_cookies(self._cookies)
        params = downloader_params(
            format=self._format,
            format_sort=[f"res:{self._max_height}", "vcodec:h264", "fps", "br"],
            cookies=cookies,
            proxy=self._proxy,
            ratelimit=self._ratelimit,
            min_rate=self._min_rate,
            socket_timeout_s=self._socket_timeout_s,
            request_pause_s=self._request_pause_s,
            num_retries=self._num_retries,
            retry_pause_s=self._retry_pause_s,
        )
        with self._ydl(params, guard=self._guard) as ydl:
            try:
                scheme, host = urlsplit(url).scheme.lower(), urlsplit(url).hostname or ""
                self._guard.check_host(scheme, host)
                media = extract(ydl, url)
            except Exception as error:
                raise self._to_stage_error(error, ydl, url, media=False) from error
            if media.is_preview:
                raise StageError(
                    "refused", "preview", "the site offers only a preview of this video; set fetch.cookies="
                )
            self._check_size(media.num_bytes if not media.has_ranges else None)
            with atomic_folder(folder, entries=known, overwrite=True) as fresh:
                try:
                    fetched = self._fetch(ydl, media, line, fresh)
                except (StageError, MemoryError):
                    raise
                except MediaError as error:
                    raise StageError("failed", error.reason, one_line(error.message)) from error
                except Exception as error:
                    raise self._to_stage_error(error, ydl, url, media=True) from error
                names = [cut.path.name for cut in fetched.cuts]
                num_bytes = sum(cut.path.stat().st_size for cut in fetched.cuts)
        files = [video_file(task.item, int(name[:2]), name[2:]) for name in names]
        return _done(fetched, files, duration_s=fetched.facts.duration_s, media=media, num_bytes=num_bytes)

    def _fetch(self, ydl: GuardedYoutubeDL, media: Media, line: ManifestLine, folder: Path) -> _Fetched:
        throttle = Throttle(self._ratelimit)
        if media.has_ranges:
            try:
                file = RangeFile(
                    urlopen=ydl.urlopen,
                    url=media.url,
                    headers=media.headers,
                    throttle=throttle,
                    num_retries=self._num_retries,
                    retry_pause_s=self._retry_pause_s,
                    min_rate=self._min_rate,
                    patience_s=self._socket_timeout_s,
                    check_size=self._check_size,
                )
                with closing(file):
                    return self._parts(file, line, media, folder)
            except (NoRangesError, UncuttableError):
                for left in folder.iterdir():
                    left.unlink()
        whole = folder / "whole"
        download_whole(ydl, media, whole, check_size=self._check_size)
        try:
            fetched = self._parts(whole, line, media, folder)
        except UncuttableError:
            return self._whole(whole, line, media, folder)
        whole.unlink()
        return fetched

    def _parts(self, file: Path | RangeFile, line: ManifestLine, media: Media, folder: Path) -> _Fetched:
        with open_video(file) as source:
            facts = video_facts(*source)
            segments, code = self._checked(line, media, facts)
            spans = plan_spans(
                segments,
                duration_s=facts.duration_s,
                margin_s=self._margin_s,
                join_gap_s=self._join_gap_s,
                max_whole_s=self._max_whole_s,
            )
            cuts = [self._part(source, span, facts, folder / f"{part:02d}.mp4") for part, span in enumerate(spans)]
        return _Fetched(facts=facts, segments=segments, code=code, cuts=tuple(cuts))

    def _part(self, source: VideoSource, span: tuple[float, float], facts: VideoFacts, path: Path) -> Cut:
        made = cut(source, *span, path)
        if made is None:
            raise MediaError("corrupt", f"the file has no frame after {span[0]:.1f} s")
        check_ends(path)
        expected_s = span[1] if facts.duration_s is None else min(span[1], facts.duration_s)
        if facts.duration_s is not None and made.end_s < expected_s - _TOLERANCE_S:
            raise MediaError("corrupt", f"the file breaks off at {made.end_s:.1f} s of {facts.duration_s:.1f} s")
        return made

    def _whole(self, whole: Path, line: ManifestLine, media: Media, folder: Path) -> _Fetched:
        """Keep the file whole because it cannot be cut."""
        with open_video(whole) as source:
            facts = video_facts(*source)
            suffix = _SUFFIXES.get(source[0].format.name, ".mp4")
        segments, code = self._checked(line, media, facts)
        end_s = check_ends(whole)
        made = Cut(path=whole.rename(folder / f"00{suffix}"), start_s=0.0, end_s=end_s)
        return _Fetched(facts=facts, segments=segments, code=code, cuts=(made,))

    def _checked(self, line: ManifestLine, media: Media, facts: VideoFacts) -> tuple[Segments, str | None]:
        """Check the file against the site's duration and size, and settle the segments."""
        actual_s, claimed_s = facts.duration_s, media.duration_s
        if (
            actual_s is not None
            and claimed_s is not None
            and abs(actual_s - claimed_s) > _TOLERANCE_S + 0.05 * claimed_s
        ):
            text = f"got a video of {actual_s:.1f} s, the site says {claimed_s:.1f} s"
            if actual_s < claimed_s:
                raise StageError("refused", "preview", text)
            raise StageError("failed", "wrong_length", text)
        side = min(facts.width, facts.height)
        if media.short_side is not None and side < _LEAST_SHARE * media.short_side:
            text = f"got {side} pixels on the shorter side, the site says {media.short_side}"
            raise StageError("refused", "preview", text)
        return self._settled(line, actual_s)

    def _settled(self, line: ManifestLine, duration_s: float | None) -> tuple[Segments, str | None]:
        segments, code = settle_segments(line, duration_s)
        if line.segments and not segments:
            last_s = max(end_s for _, end_s in line.segments)
            raise StageError(
                "refused",
                "wrong_length",
                f"all segments lie outside the video: it lasts {duration_s} s, segments end at {last_s} s",
            )
        return segments, code

    def _check_size(self, num_bytes: int | None) -> None:
        if num_bytes is not None and num_bytes > self._max_bytes:
            raise StageError(
                "refused", "too_large", f"{num_bytes / 1e9:.2f} GB, more than fetch.max_gb={self._max_bytes / 1e9:g}"
            )

    def _to_stage_error(self, error: Exception, ydl: GuardedYoutubeDL, url: str, *, media: bool) -> Exception:
        for cause in causes(error):
            if isinstance(cause, StageError):
                return cause
        disk = disk_error(error)
        if disk is not None:
            return disk
        if not any(isinstance(cause, YoutubeDLError | TimeoutError | ConnectionError) for cause in causes(error)):
            return error  # not a network error: the disk, or a bug
        has_proxy = bool(ydl.proxies) if self._proxy is None else self._proxy != ""
        state, reason, message = classify(error, has_proxy=has_proxy, warnings=ydl.warnings, media=media)
        return StageError(state, reason, message, _failed_host(error, url) if state == "failed" else None)


def _failed_host(error: Exception, url: str) -> str | None:
    """Return the host that caused the failure."""
    answered = [urlsplit(cause.response.url).hostname for cause in causes(error) if isinstance(cause, HTTPError)]
    host = next(iter(answered), None) or urlsplit(url).hostname
    return None if host is None else site_of(host)


def _segments(pairs: Sequence[Any]) -> Segments:
    return tuple((float(start_s), float(end_s)) for start_s, end_s in pairs)


def _done(
    fetched: _Fetched,
    files: Sequence[str],
    *,
    duration_s: float | None,
    media: Media | None = None,
    num_bytes: int = 0,
) -> Outcome:
    result: Mapping[str, Any] = {
        "duration_s": duration_s,
        "segments": [list(segment) for segment in fetched.segments],
        "parts": [
            {"file": file, "start_s": cut.start_s, "end_s": cut.end_s}
            for file, cut in zip(files, fetched.cuts, strict=True)
        ],
        "width": fetched.facts.width,
        "height": fetched.facts.height,
        "fps": fetched.facts.fps,
        "codec": fetched.facts.codec,
        "video_id": None if media is None else media.video_id,
        "format": None if media is None else media.format,
    }
    return Outcome(state="done", message=fetched.code or "", result=result, num_bytes=num_bytes)
