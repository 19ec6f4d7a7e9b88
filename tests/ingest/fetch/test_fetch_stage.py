"""The stage against a faulty site: outputs are complete or absent."""

import gc
import inspect
import os
import pickle
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from loopback.site import LoopbackSite
from loopback.videos import frames_by_time, make_video
from omegaconf import OmegaConf
from yt_dlp.downloader.http import HttpFD
from yt_dlp.networking.exceptions import TransportError

from wnv.ingest.fetch import container, downloader, fetch_stage, fetched, rate
from wnv.ingest.fetch.fetch_stage import FetchStage
from wnv.ingest.fetch.guard import BILIBILI_HOSTS
from wnv.ingest.fetch.rate import SharedRate
from wnv.ingest.tasks import Outcome
from wnv.scenes.schema import safe_id

CONFIG = Path(__file__).parents[3] / "conf" / "ingest" / "fetch" / "default.yaml"
Fetch = Callable[..., Outcome]
Leftovers = Callable[[], list[str]]


def assert_parts(outcome: Outcome, root: Path, source: Path) -> None:
    """Every marked frame of the source is in a part, at its time, and equal."""
    assert outcome.state == "done", outcome
    original = frames_by_time(source)
    copied: dict[float, np.ndarray] = {}
    for part in outcome.result["parts"]:
        copied |= frames_by_time(root / part["file"], start_s=part["start_s"])
    spans = outcome.result["segments"] or [[0.0, outcome.result["duration_s"]]]
    wanted = [time for time in original if any(start <= time < end for start, end in spans)]
    assert len(wanted) > 10
    for moment in wanted:
        np.testing.assert_array_equal(copied[moment], original[moment])


def test_only_what_is_marked(
    site: LoopbackSite, fetch: Fetch, root: Path, pattern_video: Path, leftovers: Leftovers
) -> None:
    url = site.add("/walk.mp4", pattern_video)
    outcome = fetch(url, segments=[[3, 4], [15.5, 16], [6, 7.2]], key="url:walk 🏠", join_gap_s=3, margin_s=0.5)
    assert_parts(outcome, root, pattern_video)
    folder = f"videos/{safe_id('url:walk 🏠')}"
    assert [part["file"] for part in outcome.result["parts"]] == [f"{folder}/00.mp4", f"{folder}/01.mp4"]
    assert leftovers() == [f"{folder}/00.mp4", f"{folder}/01.mp4"]
    assert outcome.num_bytes == sum((root / name).stat().st_size for name in leftovers())
    assert outcome.num_bytes < pattern_video.stat().st_size / 2
    assert sorted(outcome.result["segments"]) == [[3.0, 4.0], [6.0, 7.2], [15.5, 16.0]]
    assert outcome.result | {"segments": 0, "parts": 0} == {
        "duration_s": pytest.approx(20.0),
        "segments": 0,
        "parts": 0,
        "width": 128,
        "height": 72,
        "fps": 25.0,
        "codec": "h264",
        "extractor": "Generic",
        "video_id": "walk",
        "format": outcome.result["format"],
    }
    # Again, with fewer segments: existing files are replaced.
    assert fetch(url, segments=[[3, 4]], key="url:walk 🏠").state == "done"
    assert leftovers() == [f"{folder}/00.mp4"]


def test_nothing_marked(site: LoopbackSite, fetch: Fetch, root: Path, pattern_video: Path) -> None:
    url = site.add("/walk.mp4", pattern_video)
    outcome = fetch(url, segments=[])
    assert_parts(outcome, root, pattern_video)
    assert len(outcome.result["parts"]) == 1
    assert outcome.result["segments"] == []
    short = fetch(url, segments=[], max_whole_s=4.0)
    assert short.result["parts"][0]["end_s"] == pytest.approx(4.0, abs=0.2)


def test_parts_of_a_file_without_ranges(
    site: LoopbackSite, fetch: Fetch, root: Path, pattern_video: Path, leftovers: Leftovers
) -> None:
    outcome = fetch(site.add("/v.mp4", pattern_video, has_ranges=False), segments=[[3, 5]])
    assert_parts(outcome, root, pattern_video)
    assert leftovers() == [part["file"] for part in outcome.result["parts"]]


@pytest.mark.parametrize("suffix", ["flv", "ts", "avi"])
def test_what_cannot_be_cut_is_kept_whole(
    suffix: str, site: LoopbackSite, fetch: Fetch, root: Path, tmp_path: Path, leftovers: Leftovers
) -> None:
    codec = "mpeg4" if suffix == "avi" else "libx264"
    source = make_video(tmp_path / f"v.{suffix}", num_frames=75, width=96, height=64, codec=codec, num_b_frames=0)
    types = {"ts": "video/mp2t", "flv": "video/x-flv", "avi": "video/x-msvideo"}
    outcome = fetch(site.add(f"/v.{suffix}", source, content_type=types[suffix]), segments=[[1, 2]])
    assert outcome.state == "done", outcome
    (part,) = outcome.result["parts"]
    assert part["file"].endswith(f"/00.{suffix}")
    assert (part["start_s"], part["end_s"]) == (0.0, pytest.approx(3.0, abs=0.15))
    assert (root / part["file"]).read_bytes() == source.read_bytes()
    assert leftovers() == [part["file"]]


# Where a piece is refused, yt-dlp leaves its file to the collector.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_stream_in_pieces(
    site: LoopbackSite,
    fetch: Fetch,
    root: Path,
    tmp_path: Path,
    leftovers: Leftovers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # No program named ffmpeg is started: its requests would not be checked.
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\necho ffmpeg version 8.1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    pieces = []
    for index in range(2):
        piece = make_video(
            tmp_path / f"{index}.ts", num_frames=50, width=96, height=64, num_b_frames=0, first_pts_s=2.0 * index
        )
        pieces.append(site.add(f"/{index}.ts", piece, content_type="video/mp2t"))

    def playlist(path: str, *lines: str) -> str:
        text = "\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:2", *lines, "#EXT-X-ENDLIST", ""])
        return site.add(path, text.encode(), content_type="application/vnd.apple.mpegurl")

    outcome = fetch(playlist("/v.m3u8", "#EXTINF:2,", pieces[0], "#EXTINF:2,", pieces[1]), segments=[[1, 3]])
    assert outcome.state == "done", outcome
    (part,) = outcome.result["parts"]
    assert part["end_s"] == pytest.approx(4.0, abs=0.15)
    assert leftovers() == [part["file"]]
    (root / part["file"]).unlink()
    key = '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="https://example.com/key"'
    live = "#EXT-X-MEDIA-SEQUENCE:7"
    for lines, reason in {
        (pieces[0].replace("127.0.0.1", "localhost"),): "forbidden_address",
        ("file:///etc/passwd",): "forbidden_address",
        (pieces[0], key): "unsupported",
        (live, pieces[0], "#EXTINF:2,", "http://192.168.0.1/1.ts"): "forbidden_address",
    }.items():
        outcome = fetch(playlist("/bad.m3u8", "#EXTINF:2,", *lines), segments=[])
        assert (outcome.state, outcome.reason) == ("refused", reason), (lines, outcome)
    assert leftovers() == []
    assert not (tmp_path / "started").exists()
    del outcome
    gc.collect()


# Of a file read in ranges, test_ranges.py shows the same.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "settings"),
    [
        # The two requests before the media, for content type and range support, meet the faults too.
        ({"truncate_at": 150_000, "num_truncations": 4}, {}),
        # A short wait for the server that stalls; as many as a site needs that is only slow to answer.
        ({"stall_after": 200_000, "num_stalls": 3}, {"socket_timeout_s": 0.5, "num_retries": 9}),
    ],
    ids=["truncated_often", "stalls_once"],
)
def test_trouble_that_is_overcome(
    trouble: dict, settings: dict, site: LoopbackSite, fetch: Fetch, root: Path, pattern_video: Path
) -> None:
    url = site.add("/v.mp4", pattern_video, has_ranges=False, **trouble)
    assert_parts(fetch(url, segments=[], **settings), root, pattern_video)


TROUBLE: dict[str, tuple[dict[str, Any], str, str]] = {
    "gone": ({"failures": [404]}, "refused", "gone"),
    "down": ({"failures": [503]}, "failed", "transient"),
    "storm": ({"failures": [412]}, "failed", "risk_control"),
    "cookie": ({"cookie": "SESSDATA=secret"}, "refused", "login"),
    "stalls": ({"stall_after": 0}, "failed", "transient"),
    "breaks": ({"truncate_at": 0}, "failed", "transient"),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_failures_are_distinguished(
    name: str, site: LoopbackSite, fetch: Fetch, pattern_video: Path, leftovers: Leftovers
) -> None:
    trouble, state, reason = TROUBLE[name]
    url = site.add("/v.mp4", pattern_video, **trouble)
    patience = {"socket_timeout_s": 0.3} if name == "stalls" else {}
    outcome = fetch(url, num_retries=1, **patience)
    assert (outcome.state, outcome.reason) == (state, reason), outcome
    assert outcome.host == ("127.0.0.1" if state == "failed" else None)
    assert outcome.message
    assert leftovers() == []


@pytest.mark.slow
def test_contents_that_are_no_video(
    site: LoopbackSite, fetch: Fetch, pattern_video: Path, tmp_path: Path, leftovers: Leftovers
) -> None:
    data = pattern_video.read_bytes()
    fast = make_video(tmp_path / "fast.mp4", num_frames=150, movflags="faststart").read_bytes()
    one = make_video(tmp_path / "one.mp4", num_frames=1, width=96, height=64)
    login = site.add("/login", b"<html>please log in</html>", content_type="text/html")
    html = site.add("/page", b"<html>nothing here</html>", content_type="text/html")
    expected = {
        site.add("/empty.mp4", b""): ("failed", "empty_file"),
        site.add("/junk.mp4", b"junk" * 9000): ("failed", "corrupt"),
        site.add("/half.mp4", data[: len(data) // 2]): ("failed", "corrupt"),
        site.add("/short.mp4", fast[: len(fast) // 2]): ("failed", "corrupt"),
        site.add("/one.mp4", one): ("failed", "few_frames"),
        site.redirects("/walled.mp4", login + "?go=1"): ("refused", "login"),
        html: ("refused", "unsupported"),
    }
    for url, (state, reason) in expected.items():
        outcome = fetch(url, segments=[])
        assert (outcome.state, outcome.reason) == (state, reason), (url, outcome)
        assert leftovers() == []


def test_wrong_length_in_the_header(site: LoopbackSite, fetch: Fetch, root: Path, pattern_video: Path) -> None:
    size = pattern_video.stat().st_size
    longer = site.add("/longer.mp4", pattern_video, claimed_length=size + 5000, has_ranges=False)
    outcome = fetch(longer, num_retries=1)
    assert (outcome.state, outcome.reason) == ("failed", "transient"), outcome
    shorter = site.add("/shorter.mp4", pattern_video, claimed_length=size - 5000, has_ranges=False)
    assert fetch(shorter).reason in ("corrupt", "transient")


def test_marks_past_the_end(site: LoopbackSite, fetch: Fetch, pattern_video: Path, leftovers: Leftovers) -> None:
    url = site.add("/v.mp4", pattern_video)
    beyond = fetch(url, segments=[[100, 110]])
    assert (beyond.state, beyond.reason) == ("refused", "wrong_length")
    assert leftovers() == []
    partly = fetch(url, segments=[[10, 12], [18, 60]])
    assert partly.state == "done"
    assert partly.message == "past_end"
    assert partly.result["segments"] == [[10.0, 12.0], [18.0, 20.0]]
    other = fetch(url, segments=[[102, 104]], other_segments=[[3, 5]])
    assert other.state == "done"
    assert other.message == "other_reading"
    assert other.result["segments"] == [[3.0, 5.0]]


def test_forbidden_places(site: LoopbackSite, fetch: Fetch, pattern_video: Path, leftovers: Leftovers) -> None:
    inside = site.add("/v.mp4", pattern_video)
    other_name = inside.replace("127.0.0.1", "localhost")
    redirected = site.redirects("/out.mp4", other_name, num_hops=2)
    for url, settings in (
        ("file:///etc/passwd", {}),
        (other_name, {}),
        (redirected, {}),
        (inside, {"hosts": list(BILIBILI_HOSTS)}),
        (inside, {"hosts": ["*"], "allow_private": False}),
    ):
        outcome = fetch(url, **settings)
        assert (outcome.state, outcome.reason) == ("refused", "forbidden_address"), (url, outcome)
    assert site.requests("/v.mp4") == []
    assert leftovers() == []


@pytest.mark.parametrize("place", ["file", "browser"])
def test_cookies_are_sent_and_left_alone(
    place: str, site: LoopbackSite, fetch: Fetch, root: Path, pattern_video: Path, tmp_path: Path
) -> None:
    url = site.add("/v.mp4", pattern_video, cookie="SESSDATA=secret")
    if place == "file":
        cookies = tmp_path / "cookies.txt"
        cookies.write_text("# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tSESSDATA\tsecret\n")
        settings = {"cookies": cookies}
    else:
        cookies = tmp_path / "cookies.sqlite"
        with closing(sqlite3.connect(cookies)) as database, database:
            database.execute("CREATE TABLE moz_cookies (host, name, value, path, expiry, isSecure)")
            row = ("127.0.0.1", "SESSDATA", "secret", "/", 4_000_000_000, 0)
            database.execute("INSERT INTO moz_cookies VALUES (?, ?, ?, ?, ?, ?)", row)
        settings = {"cookies_from_browser": f"firefox:{tmp_path}"}
    before = cookies.read_bytes(), cookies.stat().st_mtime_ns
    assert_parts(fetch(url, **settings), root, pattern_video)
    assert (cookies.read_bytes(), cookies.stat().st_mtime_ns) == before
    assert all("SESSDATA=secret" in seen.headers["cookie"] for seen in site.requests("/v.mp4"))
    assert "secret" not in repr(FetchStage(**settings))


def test_the_rate_limit_is_that_of_all_workers(
    site: LoopbackSite, fetch: Fetch, root: Path, pattern_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A clock that advances only by waiting.
    now_s = 1000.0

    def sleep(seconds: float) -> None:
        nonlocal now_s
        assert 0.0 <= seconds < 3.0  # smoothly
        now_s += seconds

    monkeypatch.setattr(rate, "time", SimpleNamespace(time=lambda: now_s, sleep=sleep))
    size = pattern_video.stat().st_size
    (root / "fetch.rate").write_text("1002.0")  # another worker has taken two seconds
    ranges, whole = (site.add(f"/{flag}.mp4", pattern_video, has_ranges=flag) for flag in (True, False))
    assert fetch(whole, segments=[], ratelimit=size / 2).state == "done"
    assert now_s == pytest.approx(1004.0, abs=0.1)
    # The index at the end of the file costs a jump there and back.
    assert fetch(ranges, segments=[], ratelimit=size / 2).state == "done"
    assert 1006.0 < now_s < 1009.0
    (root / "fetch.rate").write_text("9e9")  # the clock was put back
    before_s = now_s
    SharedRate(root / "fetch.rate", 2.0).take(1)
    assert now_s == before_s + 0.5


def test_finished_parts_are_not_fetched_again(
    site: LoopbackSite,
    fetch: Fetch,
    root: Path,
    pattern_video: Path,
    leftovers: Leftovers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, spans = fetched.cut, []

    def breaks_once(source: Any, start_s: float, end_s: float, path: Path) -> Any:
        spans.append((start_s, end_s))
        if len(spans) == 2:
            raise TransportError("connection lost")
        return real(source, start_s, end_s, path)

    monkeypatch.setattr(fetched, "cut", breaks_once)
    url = site.add("/v.mp4", pattern_video)
    assert fetch(url, segments=[[3, 4], [16, 17]]).reason == "transient"
    assert [Path(name).name for name in leftovers()] == ["00.mp4", "parts.json"]
    outcome = fetch(url, segments=[[3, 4], [16, 17]])
    assert_parts(outcome, root, pattern_video)
    assert spans == [(2.0, 5.0), (15.0, 18.0), (15.0, 18.0)]
    assert leftovers() == [part["file"] for part in outcome.result["parts"]]


def test_a_whole_download_is_continued_after_a_kill(
    site: LoopbackSite, fetch: Fetch, root: Path, tmp_path: Path, leftovers: Leftovers
) -> None:
    source = make_video(tmp_path / "v.ts", num_frames=150, num_b_frames=0)
    url = site.add("/v.ts", source, content_type="video/mp2t")
    pid = os.fork()
    if pid == 0:
        whole = downloader.download_whole
        fetch_stage.download_whole = lambda *args, on_progress: whole(*args, on_progress=lambda n: os._exit(n > 0))
        try:
            fetch(url, segments=[])
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    outcome = fetch(url, segments=[])
    assert "bytes=65536-" in [seen.headers.get("range") for seen in site.requests("/v.ts")]
    assert (root / outcome.result["parts"][0]["file"]).read_bytes() == source.read_bytes()
    assert leftovers() == [outcome.result["parts"][0]["file"]]


def test_too_large(site: LoopbackSite, fetch: Fetch, pattern_video: Path, leftovers: Leftovers) -> None:
    for has_ranges in (True, False):
        url = site.add("/v.mp4", pattern_video, has_ranges=has_ranges)
        outcome = fetch(url, segments=[], max_gb=0.0002)
        assert (outcome.state, outcome.reason) == ("refused", "too_large")
        assert leftovers() == []


@pytest.mark.parametrize("has_ranges", [True, False], ids=["parts", "whole"])
def test_a_full_disk_ends_the_run_and_not_the_item(
    has_ranges: bool,
    site: LoopbackSite,
    fetch: Fetch,
    pattern_video: Path,
    leftovers: Leftovers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> Any:
        return open("/dev/full", "wb", buffering=0)

    monkeypatch.setattr(container, "open", full, raising=False)
    monkeypatch.setattr(HttpFD, "sanitize_open", lambda self, name, mode: (full(), name))
    outcome = fetch(site.add("/v.mp4", pattern_video, has_ranges=has_ranges), num_retries=0)
    assert (outcome.state, outcome.reason) == ("pending", "no_space"), outcome
    assert leftovers() == []


def test_leftovers_of_a_killed_try_go(
    site: LoopbackSite, fetch: Fetch, root: Path, pattern_video: Path, leftovers: Leftovers
) -> None:
    url = site.add("/v.mp4", pattern_video)
    pid = os.fork()
    if pid == 0:  # dies in the middle of the second part
        made: list[int] = []
        real = container.cut

        def dying(*args: Any, **kwargs: Any) -> Any:
            if made:
                os._exit(1)
            made.append(1)
            return real(*args, **kwargs)

        fetched.cut = dying
        try:
            fetch(url, segments=[[3, 4], [16, 17]])
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert any(name.endswith("00.mp4") for name in leftovers())
    outcome = fetch(url, segments=[[3, 4], [16, 17]])
    assert leftovers() == [part["file"] for part in outcome.result["parts"]]


def test_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = pickle.loads(pickle.dumps(FetchStage()))
    assert stage.name == "fetch"
    assert "tool yt-dlp" in stage.versions()
    with pytest.raises(FileNotFoundError, match="cookies"):
        FetchStage(cookies=tmp_path / "none.txt")
    (tmp_path / "bad.txt").write_text("{'SESSDATA': 1}")
    with pytest.raises(ValueError, match="Netscape"):
        FetchStage(cookies=tmp_path / "bad.txt")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match="Netscape"):
        FetchStage(cookies="~/bad.txt", videos="~")
    for browser in ("netscape", f"firefox:{tmp_path}"):
        with pytest.raises(ValueError, match=rf"cookies_from_browser.*{browser}"):
            FetchStage(cookies_from_browser=browser)
    for bad in ({"max_height": 0}, {"ratelimit": 0}, {"margin_s": -1}, {"hosts": []}, {"max_gb": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            FetchStage(**bad)


def test_the_configuration_says_what_the_code_says() -> None:
    parent = OmegaConf.create({"follow_links": False, "fetch": OmegaConf.load(CONFIG)})
    config = dict(OmegaConf.to_container(parent.fetch, resolve=True))
    assert config.pop("_target_") == "wnv.ingest.fetch.fetch_stage.FetchStage"
    assert tuple(config.pop("hosts")) == BILIBILI_HOSTS
    parameters = inspect.signature(FetchStage).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items() if name not in ("hosts", "ydl")}
    assert config == defaults


def test_messages_name_settings_as_they_are_typed() -> None:
    folder = Path(inspect.getfile(FetchStage)).parent
    named = {name for path in folder.glob("*.py") for name in re.findall(r"fetch\.(\w+)=", path.read_text())}
    assert {"hosts", "cookies", "videos", "max_gb"} <= named <= set(OmegaConf.load(CONFIG))
