"""Addresses: repairs, rejections, and invariants for any text."""

import time
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wnv.ingest.manifest.bilibili_id import av_to_bv
from wnv.ingest.manifest.codes import CODES, REFUSAL_CODES
from wnv.ingest.manifest.urls import read_address, split_title

BV = "BV1vj411L7Dq"
KEY = f"bv:{BV}:p1"
VIDEO = f"https://www.bilibili.com/video/{BV}"


@pytest.mark.parametrize(
    ("cell", "key", "codes"),
    [
        (VIDEO, KEY, ""),
        (f"{VIDEO}/", KEY, ""),
        (f"  {VIDEO}/\r\n", KEY, ""),
        (f"HTTPS://WWW.BILIBILI.COM/video/{BV}", KEY, ""),
        (
            f"{VIDEO}?vd_source=0123&spm_id_from=333.788.videopod.sections",
            KEY,
            "collection_page account_tracker_removed query_removed",
        ),
        (f"{VIDEO}?spm_id_from=333.788.videopod.episodes&p=3", f"bv:{BV}:p3", "part_in_url query_removed"),
        (f"{VIDEO}?mid=1&share_session_id=2", KEY, "share_tracker_removed"),
        (f"{VIDEO}/?share_source=copy_web", KEY, "query_removed"),
        (f"{VIDEO}/?p=1", KEY, "part_in_url"),
        (f"{VIDEO}?p=93&vd_source=0", f"bv:{BV}:p93", "part_in_url account_tracker_removed"),
        (f"{VIDEO}&p=2", f"bv:{BV}:p2", "part_in_url"),
        (f"{VIDEO}?p=0", KEY, "part_unreadable"),
        (f"{VIDEO}?p=-1", KEY, "part_unreadable"),
        (f"{VIDEO}?p=../../x", KEY, "part_unreadable"),
        (f"{VIDEO}?p={'9' * 5000}", KEY, "part_unreadable"),
        (f"{VIDEO}?t=67.7", KEY, "time_in_url"),
        (f"{VIDEO}#reply1", KEY, ""),
        (f"http://bilibili.com/video/{BV}", KEY, "bare_host"),
        (f"https://m.bilibili.com/video/{BV}", KEY, "mobile_host"),
        (f"https://www.bilibili.com/list/ml1?oid=2&bvid={BV}&p=2", f"bv:{BV}:p2", "list_url part_in_url"),
        ("https://www.bilibili.com/list/ml1?oid=2", "bv:BV1xx411c7mD:p1", "list_url av_id"),
        (f"https://player.bilibili.com/player.html?bvid={BV}&page=1", KEY, "list_url query_removed"),
        ("https://www.bilibili.com/video/av170001", "bv:BV17x411w7KC:p1", "av_id"),
        (f"https://www.bilibili.com/{BV}", KEY, ""),
        ("https://www.bilibili.com/bangumi/play/ep780621?spm_id_from=1", "ep:780621", "query_removed bangumi"),
        ("https://b23.tv/ep780621", "ep:780621", "bangumi"),
        ("https://b23.tv/nvhqSGG", "b23:nvhqSGG", "short_link"),
        ("https://b23.tv/BVay1Xf", "b23:BVay1Xf", "short_link"),
        ("https://b23.tv/nvhqSGG?share=1", "b23:nvhqSGG", "short_link query_removed"),
        (f"https://b23.tv/{BV}", KEY, ""),
        (f"https://b23.tv/{BV[:11]}0", "b23:BV1vj411L7D0", "short_link"),
        # Text before and after.
        (f"【示例 山谷】 {VIDEO}/", KEY, "title_before_url"),
        (f"】{VIDEO}", KEY, "stray_characters"),
        (f"、 {VIDEO}", KEY, "stray_characters"),
        (f"-{VIDEO}", KEY, "stray_characters"),
        (f"x{VIDEO}", KEY, "stray_characters"),
        (f"{VIDEO} 好看", KEY, "text_after_url"),
        (f"{VIDEO}好看", KEY, "text_after_url"),
        (f"{VIDEO}】", KEY, "text_after_url"),
        (f"{VIDEO} https://b23.tv/nvhqSGG", KEY, "several_urls"),
        (f"\u200b{VIDEO}\ufeff", KEY, "invisible_characters"),
        # Damaged or mistyped.
        (f"ttps://www.bilibili.com/video/{BV}", KEY, "scheme_repaired"),
        (f"https:/www.bilibili.com/video/{BV}", KEY, "scheme_repaired"),
        (f"https//www.bilibili.com/video/{BV}", KEY, "scheme_repaired"),
        (f"://www.bilibili.com/video/{BV}", KEY, "scheme_repaired"),
        (f"//www.bilibili.com/video/{BV}", KEY, "scheme_repaired"),
        (f"www.bilibili.com/video/{BV}", KEY, "scheme_repaired"),
        ("b23.tv/nvhqSGG", "b23:nvhqSGG", "scheme_repaired short_link"),
        (f"https\uff1a\uff0f\uff0fwww.bilibili.com/video/{BV}", KEY, "scheme_repaired"),
        (f"https://www.bilibili.con/video/{BV}/", KEY, "host_repaired"),
        (f"https://wwwbilibili.com/video/{BV}/", KEY, "host_repaired"),
        (f"https://wwwbilibili.con/video/{BV}/", KEY, "host_repaired"),
        (f"https://wwbilibili.com/video/{BV}/", KEY, "host_repaired"),
        (f"https://wwbilibili.con/video/{BV}/", KEY, "host_repaired"),
        (f"https://www.bilibili.con/video/BVI{BV[3:]}/", KEY, "host_repaired bv_repaired"),
        (f"https://www.bilibili.com/video/bv1{BV[3:]}/", KEY, "bv_repaired"),
        (BV, KEY, "bare_id"),
        ("av170001", "bv:BV17x411w7KC:p1", "bare_id av_id"),
        ("ep780621", "ep:780621", "bare_id bangumi"),
        # Other sites.
        ("http://127.0.0.1:8080/teddy.mp4", "url:http://127.0.0.1:8080/teddy.mp4", ""),
        ("http://Example.ORG:80/a.mp4", "url:http://example.org/a.mp4", ""),
        (
            "https://example.org/a.mp4?utm_source=x&id=1#t=3",
            "url:https://example.org/a.mp4?id=1",
            "query_removed fragment_removed",
        ),
        ("https://example.org/视频.mp4", "url:https://example.org/%E8%A7%86%E9%A2%91.mp4", ""),
        ("https://www.youtube.com/watch?v=abc", "url:https://www.youtube.com/watch?v=abc", ""),
        ("http://[::1]:8080/a.mp4", "url:http://[::1]:8080/a.mp4", ""),
    ],
)
def test_repaired(cell: str, key: str, codes: str) -> None:
    address = read_address(cell)
    assert (address.key, " ".join(address.codes)) == (key, codes)


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ("", "no_url"),
        (" \n", "no_url"),
        ("_source=0123", "url_unreadable"),
        ("示例 只有标题", "url_unreadable"),
        ("https://", "scheme_refused"),
        ("https://623.tv/0IOVIC", "short_link_damaged"),
        ("https://b23.tv/a(b", "short_link_damaged"),
        ("https://www.bilibili.con/video/BVICaJS_VEY2/", "bv_malformed"),
        ("https://wwwbilibili.com/video/BVIaF411;77+/", "bv_malformed"),
        ("https://wwwbilibili.com/video/BVI2P411(76b/", "bv_malformed"),
        ("https://wwwbilibili.com/video/BVIqG4y1×77t/", "bv_malformed"),
        ("https://m.bilibili.com/video/BV1Eb4y1C7h", "bv_malformed"),
        ("https://www.bilibili.com/video/BV1eP411075b/", "bv_malformed"),
        ("https://www.bilibili.com/video/av99999999999999999", "bv_malformed"),
        ("https://www.bilibili.com/bangumi/play/ss123", "not_a_video"),
        ("https://space.bilibili.com/123", "not_a_video"),
        ("https://www.bilibili.com", "not_a_video"),
        ("https://b23.tv/a/b", "not_a_video"),
        ("https://example.org/", "not_a_video"),
        ("file:///etc/passwd", "scheme_refused"),
        ("FILE:///etc/passwd", "scheme_refused"),
        (f"file://{VIDEO[8:]}", "scheme_refused"),
        (f"javascript:fetch('{VIDEO}')", "scheme_refused"),
        (f"view-source:{VIDEO}", "scheme_refused"),
        ("ftp://example.org/a.mp4", "scheme_refused"),
        ("gopher2://example.org/", "scheme_refused"),
        ("/etc/passwd", "local_path"),
        ("../../etc/passwd", "local_path"),
        ("~/a.mp4", "local_path"),
        (r"C:\a.mp4", "local_path"),
        (r"\\host\a.mp4", "local_path"),
        (f"https://user:word@www.bilibili.com/video/{BV}", "credentials_in_url"),
        (f"https://www.bilibili.com@example.org/video/{BV}", "credentials_in_url"),
        (f"https://example.org\\@www.bilibili.com/video/{BV}", "url_malformed"),
        ("https://example.org/a\x00.mp4", "control_characters"),
        ("https://exam\x07ple.org/a.mp4", "control_characters"),
        ("https://example.org/a%00.mp4", "control_characters"),
        ("https://example.org/a%0d%0ab.mp4", "control_characters"),
        ("https://example.org/a/../b.mp4", "path_refused"),
        ("https://example.org/%2e%2e/b.mp4", "path_refused"),
        ("https://example.org/%252e%252e%252fb.mp4", "path_refused"),
        ("https://example.org/..%5cb.mp4", "path_refused"),
        ("https://www.bilibili.com/video/../../x", "bv_malformed"),
        ("https://example.org:99999/a.mp4", "url_malformed"),
        ("https://example.org:x/a.mp4", "url_malformed"),
        ("https://exa$mple.org/a.mp4", "url_malformed"),
        ("https://[::1/a.mp4", "url_malformed"),
        (f"{VIDEO}?{'a=1&' * 1000}", "url_malformed"),
        (f"https://example.org/{'a' * 3000}", "url_too_long"),
        (f"https://{'a' * 9000}.org/", "url_too_long"),
    ],
)
def test_rejected(cell: str, code: str) -> None:
    address = read_address(cell)
    assert (address.key, address.url) == (None, None)
    assert address.codes[-1] == code


def test_the_canonical_address_carries_no_tracker() -> None:
    address = read_address(f"{VIDEO}/?vd_source=0123456789abcdef&mid=1&p=2&t=3")
    assert address.url == f"{VIDEO}?p=2"


def test_titles_with_addresses() -> None:
    title, address = split_title(f"示例 {VIDEO}?p=2 尾")
    assert title == "示例 尾"
    assert address is not None
    assert address.key == f"bv:{BV}:p2"
    assert split_title("示例") == ("示例", None)


WORDS = """
https:// http:// ttps:// file:// javascript: www.bilibili.com wwwbilibili.con b23.tv 623.tv /video/ BVI av170001
?p=2 & # / .. %2e \\ @ : 【 】 视频 × [ ] 😀 \x00 \uff1a
""".split()
PIECES = st.sampled_from([*WORDS, BV, " ", "\n"])


@pytest.mark.slow
@given(st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=8).map("".join)))
def test_any_cell_gives_a_valid_address_or_a_reason(cell: str) -> None:
    address = read_address(cell)
    assert (address.key is None) == (address.url is None)
    assert set(address.codes) <= CODES.keys()
    if address.key is None:
        assert address.codes[-1] in REFUSAL_CODES
        return
    form, _, rest = address.key.partition(":")
    assert form in ("bv", "ep", "b23", "url")
    assert address.url.startswith(("http://", "https://"))
    assert address.url.isascii()
    assert address.url.isprintable()
    assert " " not in address.url
    assert "@" not in address.url.split("/")[2]
    assert ".." not in unquote(rest).split("/")
    again = read_address(address.url)
    assert (again.key, again.url) == (address.key, address.url)


def test_malicious_cells_take_no_time() -> None:
    start = time.process_time()
    pieces = "h t http https:// ttps:/ a. www. bilibili.com/ /.. %25 视 【 a- : &p=2".split()
    for piece in (*pieces, " "):
        for length in (8000, 130_000):
            cell = (piece * length)[:length]
            read_address(cell)
            read_address(f"https://www.bilibili.com/{cell}")
            read_address(f"https://{cell}")
            split_title(cell)
    assert time.process_time() - start < 5


def test_an_av_number_and_its_id_are_one_video() -> None:
    number = 2**50 + 5
    assert read_address(f"https://www.bilibili.com/video/av{number}").key == f"bv:{av_to_bv(number)}:p1"
