"""Escaping, links, and the policy of a page."""

import base64
import hashlib
import html

import pytest
from page_checks import read_page

from wnv.pages.html import code_spans, is_web_url, isolate, render


@pytest.mark.parametrize("text", ["<b>", "a & b", "\"'`", "&amp;", "<!-- -->", "豪宅 🏠", "\u202egnp"])
def test_text_stays_text(text: str) -> None:
    assert html.unescape(isolate(text)) == f"<bdi>{text}</bdi>"
    assert "<b>" not in isolate(text)
    assert html.unescape(isolate(text + "x" * 200)[12:]).startswith(text)
    assert "<b>" not in code_spans(f"`{text}`")


def test_long_text_is_cut_and_kept_in_the_tooltip() -> None:
    assert isolate("b" * 100, limit=5) == f'<bdi title="{"b" * 20}">bbbb…</bdi>'


@pytest.mark.parametrize(
    "url",
    [
        *(None, "JavaScript:alert(1)", " javascript:alert(1)", "java\nscript:alert(1)", "data:text/html,<script>"),
        *("file:///etc/passwd", "//example.org/", "https:", "http://[", "https://\x00a/", "videos/room.mp4"),
    ],
)
def test_only_web_addresses_may_be_links(url: str | None) -> None:
    assert not is_web_url(url)
    assert is_web_url("https://example.org/a?b=c&d=e")


def test_the_policy_admits_the_style_and_the_script_of_the_page_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from jinja2 import DictLoader

    from wnv.pages import html as module

    sources = {"page.css": "p {}\n", "x.css": "b { margin: 0 }", "x.js": "let a = 1 < 2;", "y.html.j2": "{{ policy }}"}
    sources["x.html.j2"] = "{{ policy }}|<style>{{ style }}</style><script>{{ script }}</script>{{ text }}"
    monkeypatch.setattr(module, "_templates", DictLoader(sources))
    monkeypatch.setattr(module._environment, "loader", DictLoader(sources))
    policy, _, page = html.unescape(render("x", text="a\x00\ud800")).partition("|")
    texts = read_page(page).texts
    digests = {tag: base64.b64encode(hashlib.sha256("".join(texts[tag]).encode()).digest()).decode() for tag in texts}
    assert policy.split("; ") == [
        *("default-src 'none'", "img-src data:", "media-src data:"),
        f"style-src 'sha256-{digests['style']}'",
        f"script-src 'sha256-{digests['script']}'",
        *("base-uri 'none'", "form-action 'none'"),
    ]
    assert page.endswith("a\ufffd\ufffd")  # characters that cannot be encoded are replaced
    assert "script-src &#39;none&#39;" in render("y")
