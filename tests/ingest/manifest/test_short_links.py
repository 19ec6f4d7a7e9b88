"""Short links: resolved once, only to Bilibili, and stored."""

import json
from pathlib import Path

import pytest

from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.manifest.short_links import MAX_TROUBLE, LocationOpener, resolve_short_links

VIDEO = "https://www.bilibili.com/video/BV1vj411L7Dq"


def short(code: str, **fields) -> ManifestLine:
    return ManifestLine(key=f"b23:{code}", url=f"https://b23.tv/{code}", title="a", kind="static", **fields)


@pytest.fixture
def lock_file(tmp_path: Path) -> Path:
    return tmp_path / "lists" / "links.json"


@pytest.fixture
def opener() -> LocationOpener:
    return LocationOpener(timeout_s=5.0, pause_s=0.0)


BUSY = {"always": 412}


def asked(site) -> list[str]:
    paths = [seen.path for seen in site.seen]
    site.seen.clear()
    return paths


def test_answers_of_every_kind(site, lock_file: Path, opener: LocationOpener) -> None:
    answers = {
        "/Video01": {"location": f"{VIDEO}?p=2&share_session_id=1&mid=2"},
        "/Movie01": {"location": "https://www.bilibili.com/bangumi/play/ep7?share=1", "status": 301},
        "/Gone001": {"body": b'{"code":-404}'},
        "/Gone002": {"always": 404},
        "/Alien01": {"location": "https://example.org/video/BV1vj411L7Dq"},
        "/Alien02": {"location": f"https://www.bilibili.com@example.org/video/{VIDEO[-12:]}"},
        "/Alien03": {"location": "file:///etc/passwd"},
        "/Alien04": {"location": "https://b23.tv/Video01"},
        "/Alien05": {"location": "/video/BV1vj411L7Dq"},
        "/Busy001": BUSY,
        "/Busy002": {"status": 302},
        "/Busy003": {"always": 503},
    }
    for path, answer in answers.items():
        site.add(path, **answer)
    codes = [path[1:] for path in answers]
    lines = resolve_short_links([short(code) for code in codes], lock_file=lock_file, opener=opener, base=site.url)
    assert [(line.key, line.codes) for line in lines] == [
        ("bv:BV1vj411L7Dq:p2", ("short_link_resolved",)),
        ("ep:7", ("short_link_resolved",)),
        ("b23:Gone001", ("short_link_gone",)),
        ("b23:Gone002", ("short_link_gone",)),
        *[(None, ("short_link_foreign",))] * 5,
        ("b23:Busy001", ("short_link_unresolved",)),
        ("b23:Busy002", ("short_link_unresolved",)),
        ("b23:Busy003", ("short_link_unresolved",)),
    ]
    assert lines[0].url == f"{VIDEO}?p=2"
    known = json.loads(lock_file.read_text())["short_links"]
    assert known["Video01"] == f"{VIDEO}?p=2"  # without tracking parameters
    assert (known["Gone001"], known["Alien01"]) == (None, "")
    assert not any(code.startswith("Busy") for code in known)

    # Again: only unknown links are requested; offline: none.
    site.seen.clear()
    assert (
        resolve_short_links([short(code) for code in codes], lock_file=lock_file, opener=opener, base=site.url) == lines
    )
    assert asked(site) == ["/Busy001", "/Busy002", "/Busy003"]
    site.seen.clear()
    assert resolve_short_links([short(code) for code in codes], lock_file=lock_file) == lines
    assert asked(site) == []


def test_links_to_one_video_are_merged(site, lock_file: Path, opener: LocationOpener) -> None:
    site.add("/Video01", location=VIDEO)
    site.add("/Video02", location=VIDEO)
    plain = ManifestLine(key="bv:BV1vj411L7Dq:p1", url=f"{VIDEO}?p=1", title="a", kind="dynamic")
    lines = [
        short("Video01", segments=((1.0, 9.0),)),
        plain,
        short("Video02", segments=((20.0, 30.0),)),
        short("Video01"),
    ]
    (line,) = resolve_short_links(lines, lock_file=lock_file, opener=opener, base=site.url)
    assert (line.key, line.kind, line.segments) == (plain.key, "static", ((1.0, 9.0), (20.0, 30.0)))
    assert asked(site) == ["/Video01", "/Video02"]


def test_a_site_that_fails_is_left_alone(site, lock_file: Path, opener: LocationOpener) -> None:
    codes = [f"Busy{number:03d}" for number in range(20)]
    site.add("/Video01", location=VIDEO)
    for code in codes:
        site.add(f"/{code}", **BUSY)
    lines = [short("Video01"), *[short(code) for code in codes]]
    resolved = resolve_short_links(lines, lock_file=lock_file, opener=opener, base=site.url)
    assert len(asked(site)) == 1 + MAX_TROUBLE
    assert [line.key for line in resolved] == ["bv:BV1vj411L7Dq:p1", *[f"b23:{code}" for code in codes]]


def test_an_interrupted_run_keeps_its_answers(lock_file: Path) -> None:
    def interrupted(url: str) -> str:
        if url.endswith("2"):
            raise KeyboardInterrupt
        return VIDEO

    with pytest.raises(KeyboardInterrupt):
        resolve_short_links([short("Video01"), short("Video02")], lock_file=lock_file, opener=interrupted)
    assert json.loads(lock_file.read_text()) == {"short_links": {"Video01": f"{VIDEO}?p=1"}}


@pytest.mark.parametrize(
    "text", ["{", "[]", *[f'{{"short_links": {links}}}' for links in ("[]", '{"a": 1}', '{"a": "https://x.org/a"}')]]
)
def test_an_invalid_lock_file_is_an_error(lock_file: Path, text: str) -> None:
    lock_file.parent.mkdir()
    lock_file.write_text(text)
    with pytest.raises(ValueError, match=r"links\.json"):
        resolve_short_links([short("AbCdEf1")], lock_file=lock_file)


def test_a_site_that_does_not_answer(lock_file: Path, opener: LocationOpener) -> None:
    lines = resolve_short_links([short("Video01")], lock_file=lock_file, opener=opener, base="http://127.0.0.1:9")
    assert lines[0].codes == ("short_link_unresolved",)
    assert not lock_file.exists()
