"""A page that is complete in itself: one file, no network, and nothing in it runs or loads but what was meant to."""

import base64
import hashlib
from importlib.resources import files

from wnv.pages.markup import Content, Markup, element, join, raw_text


def document(*content: Content, title: str, style: str, script: str = "") -> Markup:
    """A whole HTML document.

    Its policy lets a browser show pictures and films that lie in the page, and nothing else: whatever slips through the
    escaping may neither run nor load anything.

    Args:
        content: What stands in the body.
        title: What the browser's tab says.
        style: The page's own style sheet; it goes on from the one that all pages share (`page.css`).
        script: JavaScript that is run when the body is there; empty for none.

    Raises:
        ValueError: If the style or the script would end its own element.
    """
    style = f"{files('wnv.pages').joinpath('page.css').read_text(encoding='utf-8')}\n{style}"
    policy = [
        "default-src 'none'",
        "img-src data:",
        "media-src data:",
        f"style-src '{_digest(style)}'",
        f"script-src '{_digest(script)}'" if script else "script-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{"; ".join(policy)}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        raw_text(style, "style"),
    )
    body = element("body", *content, raw_text(script, "script") if script else None)
    return join(Markup("<!doctype html>\n"), element("html", head, body, lang="en"))


def data_address(data: bytes, media_type: str) -> str:
    """The `data:` address that a picture or a film has within a page."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
