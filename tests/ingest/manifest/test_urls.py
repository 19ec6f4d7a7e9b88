"""Addresses: repairs, rejections, and invariants for any text."""

import time
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wnv.ingest.manifest.bilibili_id import MAX_AV, av_to_bv, bv_to_av
from wnv.ingest.manifest.codes import CODES, REFUSAL_CODES
from wnv.ingest.manifest.urls import read_address, split_title

BV = "BV1vj411L7Dq"
KEY = f"bv:{BV}:p1"
PAGE = "www.bilibili.com/video"
VIDEO = f"https://{PAGE}/{BV}"


@pytest.mark.parametrize(
    ("cell", "key", "codes"),
    [
        (f"  {VIDEO}/\r\n", KEY, ""),
        (f"HTTPS://WWW.BILIBILI.COM/video/{BV}#reply1", KEY, ""),
        (
            f"{VIDEO}?vd_source=0123&spm_id_from=333.788.videopod.sections",
            KEY,
            "collection_page account_tracker_removed query_removed",
        ),
        (f"{VIDEO}?spm_id_from=333.788.videopod.episodes&p=3", f"bv:{BV}:p3", "part_in_url query_removed"),
        (f"{VIDEO}?mid=1&share_session_id=2&t=67.7", KEY, "time_in_url share_tracker_removed"),
        (f"{VIDEO}&p=2", f"bv:{BV}:p2", "part_in_url"),
        *[(f"{VIDEO}?p={part}", KEY, "part_unreadable") for part in ("0", "-1", "../../x", "9" * 5000)],
        (f"http://bilibili.com/video/{BV}", KEY, "bare_host"),
        (f"https://m.bilibili.com/video/{BV}", KEY, "mobile_host"),
        (f"https://www.bilibili.com/list/ml1?oid=2&bvid={BV}&p=2", f"bv:{BV}:p2", "list_url part_in_url"),
        ("https://www.bilibili.com/list/ml1?oid=2", "bv:BV1xx411c7mD:p1", "list_url av_id"),
        (f"https://player.bilibili.com/player.html?bvid={BV}&page=1", KEY, "list_url query_removed"),
        (f"https://{PAGE}/av170001", "bv:BV17x411w7KC:p1", "av_id"),
        (f"https://www.bilibili.com/{BV}", KEY, ""),
        ("https://www.bilibili.com/bangumi/play/ep780621?spm_id_from=1", "ep:780621", "query_removed bangumi"),
        ("https://b23.tv/ep780621", "ep:780621", "bangumi"),
        ("https://b23.tv/BVay1Xf", "b23:BVay1Xf", "short_link"),
        ("https://b23.tv/nvhqSGG?share=1", "b23:nvhqSGG", "short_link query_removed"),
        (f"https://b23.tv/{BV}", KEY, ""),
        (f"https://b23.tv/{BV[:11]}0", "b23:BV1vj411L7D0", "short_link"),
        # Text before and after.
        (f"【示例 山谷】 {VIDEO}/", KEY, "title_before_url"),
        (f"】{VIDEO}", KEY, "stray_characters"),
        (f"{VIDEO} 好看", KEY, "text_after_url"),
        (f"{VIDEO}好看", KEY, "text_after_url"),
        (f"{VIDEO} https://b23.tv/nvhqSGG", KEY, "several_urls"),
        (f"\u200b{VIDEO}\ufeff", KEY, "invisible_characters"),
        # Damaged or mistyped.
        *[
            (f"{scheme}{PAGE}/{BV}", KEY, "scheme_repaired")
            for scheme in ("ttps://", "https:/", "https//", "://", "//", "", "https\uff1a\uff0f\uff0f")
        ],
        ("b23.tv/nvhqSGG", "b23:nvhqSGG", "scheme_repaired short_link"),
        *[
            (f"https://{host}/video/{BV}/", KEY, "host_repaired")
            for host in ("www.bilibili.con", "wwwbilibili.com", "wwbilibili.con")
        ],
        (f"https://www.bilibili.con/video/BVI{BV[3:]}/", KEY, "host_repaired bv_repaired"),
        (f"https://{PAGE}/bv1{BV[3:]}/", KEY, "bv_repaired"),
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
        ("http://[::1]:8080/a.mp4", "url:http://[::1]:8080/a.mp4", ""),
    ],
)
def test_repaired(cell: str, key: str, codes: str) -> None:
    address = read_address(cell)
    assert (address.key, " ".join(address.codes)) == (key, codes)


REJECTED = {
    "no_url": ["", " \n"],
    "url_unreadable": ["_source=0123", "示例 只有标题"],
    "short_link_damaged": ["https://623.tv/0IOVIC", "https://b23.tv/a(b"],
    "bv_malformed": [
        *[f"https://{PAGE}/{name}" for name in ("BVICaJS_VEY2/", "BVIqG4y1×77t/", "BV1Eb4y1C7h", "BV1eP411075b/")],
        f"https://{PAGE}/av99999999999999999",
        f"https://{PAGE}/../../x",
    ],
    "not_a_video": [
        *["https://www.bilibili.com/bangumi/play/ss123", "https://space.bilibili.com/123", "https://www.bilibili.com"],
        *["https://b23.tv/a/b", "https://example.org/"],
    ],
    "scheme_refused": [
        *["https://", "FILE:///etc/passwd", f"file://{VIDEO[8:]}", f"javascript:fetch('{VIDEO}')"],
        *[f"view-source:{VIDEO}", "ftp://example.org/a.mp4", "gopher2://example.org/"],
    ],
    "local_path": ["/etc/passwd", "../../etc/passwd", "~/a.mp4", r"C:\a.mp4", r"\\host\a.mp4"],
    "credentials_in_url": [f"https://user:word@{PAGE}/{BV}", f"https://www.bilibili.com@example.org/video/{BV}"],
    "control_characters": [f"https://example.org/a{mark}b.mp4" for mark in ("\x00", "\x07", "%00", "%0d%0a")],
    "path_refused": [f"https://example.org/{dots}b.mp4" for dots in ("../", "%2e%2e/", "%252e%252e%252f", "..%5c")],
    "url_malformed": [
        *[f"https://{place}/a.mp4" for place in ("example.org:99999", "example.org:x", "exa$mple.org", "[::1")],
        f"https://example.org\\@{PAGE}/{BV}",
        f"{VIDEO}?{'a=1&' * 1000}",
    ],
    "url_too_long": [f"https://example.org/{'a' * 3000}", f"https://{'a' * 9000}.org/"],
}


@pytest.mark.parametrize("code", REJECTED)
def test_rejected(code: str) -> None:
    for cell in REJECTED[code]:
        address = read_address(cell)
        assert (address.key, address.url, address.codes[-1]) == (None, None, code), cell


def test_the_canonical_address_carries_no_tracker() -> None:
    assert read_address(f"{VIDEO}/?vd_source=0123456789abcdef&mid=1&p=2&t=3").url == f"{VIDEO}?p=2"


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
    assert read_address(address.url)[:2] == address[:2]


def test_malicious_cells_take_no_time() -> None:
    start = time.process_time()
    for piece in (*"h t http https:// ttps:/ a. www. bilibili.com/ /.. %25 视 【 a- : &p=2".split(), " "):
        for length in (8000, 130_000):
            cell = (piece * length)[:length]
            for text in (cell, f"https://www.bilibili.com/{cell}", f"https://{cell}"):
                read_address(text)
            split_title(cell)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("av", "bv"), [(2, "BV1xx411c7mD"), (170001, "BV17x411w7KC"), (455017605, "BV1Q541167Qg")]
)  # fmt: skip
def test_ids(av: int, bv: str) -> None:
    assert (av_to_bv(av), bv_to_av(bv)) == (bv, av)


@given(st.integers(1, MAX_AV))
def test_ids_there_and_back(av: int) -> None:
    assert bv_to_av(av_to_bv(av)) == av


@pytest.mark.parametrize(
    "bv", ["", "BV1xx411c7m", "BV1xx411c7mDD", "BV2xx411c7mD", "BV1xx411c7m0", "bv1xx411c7mD", "BV1zzzzzzzzz"]
)
def test_invalid_ids(bv: str) -> None:
    assert bv_to_av(bv) is None


@pytest.mark.parametrize("av", [0, MAX_AV + 1])
def test_numbers_out_of_range(av: int) -> None:
    with pytest.raises(ValueError, match="av number"):
        av_to_bv(av)
