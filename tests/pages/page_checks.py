"""A strict reader of HTML pages, and a check that they are safe."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "img", "input", "br", "link"}


@dataclass
class Page:
    """The elements of a page with their attributes, and the texts per tag and per id."""

    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def section(self, name: str) -> str:
        """The text of the element of an id, with single spaces."""
        return " ".join(" ".join(self.texts.get(f"#{name}", [])).split())


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self.open: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), f"{tag} has an attribute twice"
        self.page.elements.append((tag, attributes))
        if tag not in VOID:
            self.open.append((tag, attributes.get("id")))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> ends nothing"
        assert self.open[-1][0] == tag, f"</{tag}> ends <{self.open[-1][0]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for tag, name in self.open:
            self.page.texts.setdefault(tag, []).append(data)
            if name:
                self.page.texts.setdefault(f"#{name}", []).append(data)


def read_page(page: str | Path) -> Page:
    """Parse a page or its file; fails for an element without its end tag."""
    reader = _Reader()
    reader.feed(page.read_text(encoding="utf-8") if isinstance(page, Path) else page)
    reader.close()
    assert reader.open == []
    return reader.page


def assert_safe(page: Page, *, num_scripts: int = 0) -> None:
    """No element runs a script or loads anything, links lead to the web, and the policy forbids the rest."""
    assert len(page.all("script")) == num_scripts
    assert len(page.all("style")) == 1
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert (attributes.get("src") or "data:").startswith("data:"), (tag, attributes)
        assert re.match(r"#|https?://|[\w%.-]+_tables/[\w-]+\.", attributes.get("href") or "#"), (tag, attributes)
    assert not re.search(r"url\(|@import", "".join(page.texts["style"]))
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv")]
    assert policy.startswith("default-src 'none'; img-src data:; media-src data:; ")
    assert ("script-src 'none'" in policy) == (num_scripts == 0)
