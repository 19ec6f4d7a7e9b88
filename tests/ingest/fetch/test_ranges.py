"""A file read by byte ranges equals the file, even over a bad connection."""

import io
import random
from typing import Any

import pytest
from loopback.site import LoopbackSite
from yt_dlp.networking.exceptions import HTTPError, TransportError

from wnv.ingest.fetch import ranges
from wnv.ingest.fetch.downloader import GuardedYoutubeDL
from wnv.ingest.fetch.guard import AddressGuard
from wnv.ingest.fetch.ranges import NoRangesError, RangeFile

CONTENT = random.Random(0).randbytes(700_000)


def open_ranges(
    url: str,
    *,
    num_retries: int = 3,
    socket_timeout_s: float = 30.0,
    **settings: Any,
) -> RangeFile:
    guard = AddressGuard(hosts=["127.0.0.1"], allow_private=True)
    ydl = GuardedYoutubeDL({"quiet": True, "proxy": "", "socket_timeout": socket_timeout_s}, guard=guard)
    return RangeFile(
        urlopen=ydl.urlopen,
        url=url,
        headers={"Referer": "https://www.bilibili.com/"},
        num_retries=num_retries,
        retry_pause_s=0.02,
        **settings,
    )


def test_reads_like_a_file(site: LoopbackSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "_FIRST_WINDOW", 50_000)
    monkeypatch.setattr(ranges, "_MAX_WINDOW", 120_000)
    file, model = open_ranges(site.add("/f", CONTENT)), io.BytesIO(CONTENT)
    rng = random.Random(1)
    for _ in range(60):
        if rng.random() < 0.4:
            offset, whence = rng.choice([(rng.randrange(800_000), 0), (-1000, 1), (-5000, 2), (0, 2)])
            if whence == 1 and model.tell() < 1000:
                continue
            assert file.seek(offset, whence) == model.seek(offset, whence)
        else:
            num_bytes = rng.choice([1, 100, 65536, 200_000])
            assert file.read(num_bytes) == model.read(num_bytes)
        assert file.tell() == model.tell()
    file.seek(0)
    assert file.read() == CONTENT
    assert all(seen.headers["referer"] == "https://www.bilibili.com/" for seen in site.requests("/f"))


def test_asks_for_little_after_a_jump_and_for_more_and_more(site: LoopbackSite) -> None:
    content = bytes(3_000_000)
    file = open_ranges(site.add("/f", content))
    file.read(1000)
    file.seek(2_000_000)
    file.read(1000)
    assert site.num_bytes("/f") <= 2 * ranges._FIRST_WINDOW
    file.seek(0)
    assert len(file.read()) == len(content)
    asked = [seen.headers["range"] for seen in site.requests("/f")]
    assert asked[2:] == ["bytes=0-524287", "bytes=524288-1572863", "bytes=1572864-3670015"]


@pytest.mark.parametrize(
    "trouble",
    [
        {"failures": [503, 503]},
        {"truncate_at": 100_000, "num_truncations": 4},
        {"stall_after": 200_000, "num_stalls": 1},
    ],
    ids=str,
)
def test_takes_up_where_it_broke(site: LoopbackSite, trouble: dict[str, object]) -> None:
    # A short wait for the server that stalls; as many as a site needs that is only slow to answer.
    patience = {"socket_timeout_s": 0.5, "num_retries": 9} if "num_stalls" in trouble else {}
    assert open_ranges(site.add("/f", CONTENT, **trouble), **patience).read() == CONTENT


def test_gives_up_in_the_end(site: LoopbackSite) -> None:
    with pytest.raises(HTTPError):
        open_ranges(site.add("/f", CONTENT, failures=[503] * 9), num_retries=2)
    assert len(site.requests("/f")) == 3
    file = open_ranges(site.add("/g", CONTENT, truncate_at=0), num_retries=2)
    with pytest.raises(TransportError, match="ended at byte 0"):
        file.read()
    with pytest.raises(HTTPError):  # nothing that waiting helps against
        open_ranges(site.add("/h", CONTENT, failures=[403]))
    assert len(site.requests("/h")) == 1


def test_no_parts_to_be_had(site: LoopbackSite) -> None:
    for url in (site.add("/f", CONTENT, has_ranges=False), site.add("/empty", b"")):
        with pytest.raises(NoRangesError):
            open_ranges(url)


def test_a_file_that_changes_is_not_mixed(site: LoopbackSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "_FIRST_WINDOW", 50_000)
    file = open_ranges(site.add("/f", CONTENT))
    file.read(10_000)
    site.add("/f", CONTENT[:-1])
    with pytest.raises(TransportError, match="changed"):
        file.read()
