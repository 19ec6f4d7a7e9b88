"""Escaping: text is text wherever it stands."""

import html

import pytest

from wnv.pages.markup import Markup, element, escape, foreign, join, link, raw_text


@pytest.mark.parametrize("text", ["<b>", "a & b", "\"'`", "&amp;", "<!-- -->", "豪宅 🏠", "\u202egnp"])
def test_text_survives_as_text(text: str) -> None:
    assert html.unescape(escape(text)) == text
    assert element("p", text) == f"<p>{html.escape(text)}</p>"
    assert element("p", title=text) == f'<p title="{html.escape(text)}"></p>'


def test_markup_is_not_escaped_twice() -> None:
    inner = element("b", "1 < 2")
    assert inner == "<b>1 &lt; 2</b>"
    assert element("p", inner, None, " & ", 3) == "<p><b>1 &lt; 2</b> &amp; 3</p>"
    assert isinstance(join(inner, "<"), Markup)


def test_attributes() -> None:
    made = element("input", class_="wide", data_key="k", hidden=True, disabled=False, title=None)
    assert made == '<input class="wide" data-key="k" hidden>'


def test_what_no_file_can_hold_is_replaced() -> None:
    assert escape("a\x00b\x1bc\ud800d") == "a\ufffdb\ufffdc\ufffdd"
    assert escape("tab\tline\n") == "tab\tline\n"


def test_long_texts_are_cut() -> None:
    assert foreign("a" * 10, limit=10) == f"<bdi>{'a' * 10}</bdi>"
    assert foreign("  two\n lines ", limit=20) == "<bdi>two lines</bdi>"
    assert foreign("b" * 100, limit=5) == f'<bdi title="{"b" * 20}">bbbb…</bdi>'


@pytest.mark.parametrize("url", ["https://example.org/a?b=c&d=e", "http://127.0.0.1:8000/x.mp4"])
def test_web_addresses_are_links(url: str) -> None:
    assert link(url, "<t>") == (f'<a href="{html.escape(url)}" target="_blank" rel="noopener noreferrer">&lt;t&gt;</a>')


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        " javascript:alert(1)",
        "java\nscript:alert(1)",
        "data:text/html,<script>",
        "vbscript:x",
        "file:///etc/passwd",
        "//example.org/",
        "https:",
        "http://[",
        "https://a b/",
        "https://\x00a/",
        "videos/room.mp4",
    ],
)
def test_other_addresses_are_not(url: str | None) -> None:
    assert link(url, "title") == "title"


@pytest.mark.parametrize("text", ["a</script>", "a</SCRIPT >", "<!--"])
def test_scripts_cannot_end_themselves(text: str) -> None:
    with pytest.raises(ValueError, match="must not hold </script"):
        raw_text(text, "script")
