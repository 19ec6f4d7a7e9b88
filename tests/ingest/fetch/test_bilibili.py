"""yt-dlp's extractors of Bilibili, on pages that the loopback site serves under Bilibili's host names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loopback.bilibili import BilibiliPages
from loopback.site import LoopbackSite

from wnv.ingest.tasks import Outcome

Fetch = Callable[..., Outcome]
ID = "BV1xx411c7mD"


@pytest.fixture
def media(site: LoopbackSite, pattern_video: Path) -> str:
    return site.add("/media/v.m4s", pattern_video)


def test_a_video(fetch: Fetch, bilibili: BilibiliPages, site: LoopbackSite, media: str) -> None:
    page = bilibili.video(ID, media, duration_s=20.3)
    outcome = fetch(page, key=f"bv:{ID}:p1")
    assert outcome.state == "done", outcome
    assert outcome.result["video_id"] == ID
    assert outcome.result["codec"] == "h264"
    assert outcome.result["parts"][0]["start_s"] == pytest.approx(4.0)
    referers = {seen.headers["referer"] for seen in site.requests("/media/v.m4s")}
    assert referers == {page}  # the media servers require it


def test_a_part_of_an_anthology(fetch: Fetch, bilibili: BilibiliPages, site: LoopbackSite, media: str) -> None:
    page = bilibili.video(ID, media, duration_s=20, num_parts=3)
    outcome = fetch(f"{page}?p=2", key=f"bv:{ID}:p2")
    assert outcome.state == "done"
    assert outcome.result["video_id"] == f"{ID}_p2"
    (asked,) = site.requests("/~api.bilibili.com/x/player/wbi/playurl")
    assert asked.query["cid"] == "101"
    # Without a number it is the first one, not all of them.
    assert fetch(page, key=f"bv:{ID}:p1").result["video_id"] == f"{ID}_p1"


@pytest.mark.parametrize("host", ["www", "m"])
def test_a_short_link_also_to_the_mobile_page(
    host: str, fetch: Fetch, bilibili: BilibiliPages, site: LoopbackSite, media: str
) -> None:
    bilibili.video(ID, media, duration_s=20)
    site.add(f"/~m.bilibili.com/video/{ID}", b"<html>app</html>", content_type="text/html")
    site.redirects("/~b23.tv/abc", f"{site.url}/~{host}.bilibili.com/video/{ID}?share_session_id=personal")
    outcome = fetch("https://b23.tv/abc", key="b23:abc")
    assert (outcome.state, outcome.result["video_id"]) == ("done", ID)


def test_the_best_stream_that_is_not_too_large(
    fetch: Fetch, bilibili: BilibiliPages, site: LoopbackSite, media: str
) -> None:
    other = site.add("/media/other.m4s", b"not this one")
    streams: list[dict[str, Any]] = [
        {"id": 80, "height": 108, "width": 192, "baseUrl": other},
        {"id": 64, "height": 72, "width": 128, "codecs": "hev1.1.6.L120", "baseUrl": other},
        {"id": 64, "height": 72, "width": 128, "baseUrl": media},
        {"id": 32, "height": 48, "width": 84, "baseUrl": other},
        {"id": 125, "height": 72, "width": 128, "baseUrl": other, "bandwidth": 9_000_000},
    ]
    page = bilibili.video(ID, media, duration_s=20, streams=streams)
    assert fetch(page, max_height=72).state == "done"
    # The shorter side counts, also in a portrait video.
    tall = [stream | {"height": stream["width"], "width": stream["height"]} for stream in streams]
    assert fetch(bilibili.video(ID, media, duration_s=20, streams=tall), max_height=72).state == "done"
    only_hdr = bilibili.video(ID, media, duration_s=20, streams=streams[-1:])
    outcome = fetch(only_hdr, max_height=72)
    assert (outcome.state, outcome.reason) == ("refused", "unsupported")


@pytest.mark.slow
def test_refusals_are_distinguished(
    fetch: Fetch, bilibili: BilibiliPages, media: str, leftovers: Callable[[], list[str]]
) -> None:
    def video(number: str, *, duration_s: float = 20, **page: Any) -> str:
        return bilibili.video(f"BV1xx411c7m{number}", media, duration_s=duration_s, **page)

    is_upower = {"is_upower": True}
    table = {
        bilibili.deleted("BV1xx411c7m1"): ("refused", "gone"),
        bilibili.login("BV1xx411c7m2"): ("refused", "login"),
        bilibili.captcha("BV1xx411c7m3"): ("failed", "risk_control"),
        bilibili.captcha("BV1xx411c7m4", quote="'"): ("failed", "risk_control"),
        video("5", playurl={"code": -352, "message": "风控校验失败"}): ("failed", "risk_control"),
        video("6", playurl={"code": -401, "message": "账号未登录"}): ("failed", "risk_control"),
        video("7", duration_s=300): ("refused", "preview"),
        video("8", duration_s=9): ("failed", "wrong_length"),
        video("9", descriptions=["试看"], **is_upower): ("refused", "preview"),
        video("A", playurl={"code": 87008}, **is_upower): ("refused", "premium"),
        video("B", playurl={"code": 0, "data": {"durl": []}}): ("failed", "unsupported"),
        video("C", streams=[{"height": 720, "width": 1280}]): ("refused", "preview"),
        "https://www.bilibili.com/video/BV1xx411c7zz": ("refused", "gone"),
    }
    for page, (state, reason) in table.items():
        outcome = fetch(page, segments=[[5, 7]])
        assert (outcome.state, outcome.reason) == (state, reason), (page, outcome)
        assert outcome.host == ("www.bilibili.com" if reason in ("risk_control", "unsupported") else None), page
    assert leftovers() == []


def test_episodes(fetch: Fetch, bilibili: BilibiliPages, media: str) -> None:
    assert fetch(bilibili.episode(5, media, duration_s=20), key="ep:5").state == "done"
    rows = {
        ("PLAY_PREVIEW", ""): "preview",
        ("PLAY_WHOLE", "您所在的地区无法观看本片"): "geo",
        ("PLAY_WHOLE", "正在观看预览\uff0c大会员免费看全片"): "premium",
    }
    for (detail, html), reason in rows.items():
        outcome = fetch(bilibili.episode(5, media, duration_s=20, detail=detail, html=html), key="ep:5")
        assert (outcome.state, outcome.reason) == ("refused", reason), outcome


@pytest.mark.parametrize("path", ["/~www.bilibili.com/video/" + ID, "/~api.bilibili.com/x/player/wbi/playurl"])
def test_a_412_storm_on_pages_and_interfaces(
    path: str, fetch: Fetch, bilibili: BilibiliPages, site: LoopbackSite, media: str
) -> None:
    page = bilibili.video(ID, media, duration_s=20)
    site._routes[path].failures = [412]
    outcome = fetch(page)
    assert (outcome.state, outcome.reason, outcome.host) == ("failed", "risk_control", "www.bilibili.com")
    assert fetch(page).state == "done"
