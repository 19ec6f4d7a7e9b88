"""HTML that escapes what it is given: text becomes markup only by passing through here."""

import html
import re
from urllib.parse import urlsplit

# Elements without content, which have no end tag.
_VOID = frozenset({"br", "img", "input", "link", "meta"})

# Controls that no page may hold and lone surrogates that no file can: titles from the net have them now and then.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = Markup | str | int | float | None


def escape(text: object) -> Markup:
    """Anything as HTML text, fit for attributes in double quotes too; markup is left alone."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(_UNPRINTABLE.sub("\ufffd", str(text)), quote=True))


def element(tag: str, *content: Content, **attributes: Content | bool) -> Markup:
    """One element; its content and the values of its attributes are escaped.

    Args:
        tag: Its name.
        content: What stands in it; None is nothing.
        attributes: `class_` gives `class`, `data_key` gives `data-key`; None and False leave one out, True gives one
            without a value.
    """
    names = ((name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items())
    head = tag + "".join(_attribute(name, value) for name, value in names)
    if tag in _VOID:
        return Markup(f"<{head}>")
    return Markup(f"<{head}>{join(*content)}</{tag}>")


def _attribute(name: str, value: Content | bool) -> str:
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(value)}"'


def join(*parts: Content) -> Markup:
    """Parts one after the other, escaped where they are not markup; None is nothing."""
    return Markup("".join(escape(part) for part in parts if part is not None))


def raw_text(text: str, tag: str) -> Markup:
    """A style sheet or a script, which HTML does not unescape.

    Raises:
        ValueError: If it would end its own element.
    """
    if f"</{tag}" in text.lower() or "<!--" in text:
        raise ValueError(f"text of a <{tag}> must not hold </{tag} or <!--; write it otherwise")
    return Markup(f"<{tag}>{text}</{tag}>")


def foreign(text: str, *, limit: int) -> Markup:
    """A title or message from outside, cut to a number of characters and kept from turning the text around it."""
    text = " ".join(text.split())
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    return element("bdi", short, title=text[: 4 * limit] if short is not text else None)


def link(url: str | None, *content: Content) -> Markup:
    """A link to a page on the web; for any other address, and for none, just the content."""
    if url is None or not _is_web(url):
        return join(*content)
    return element("a", *content, href=url, target="_blank", rel="noopener noreferrer")


def _is_web(url: str) -> bool:
    if _UNPRINTABLE.search(url) or any(char.isspace() for char in url):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket that is not closed, say
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)
