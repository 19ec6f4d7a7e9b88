"""Self-contained HTML pages from the Jinja2 templates in `templates/`."""

import base64
import hashlib
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateNotFound
from markupsafe import Markup, escape

# Characters that HTML forbids and lone surrogates, which UTF-8 cannot encode; both occur in titles of videos.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def render(name: str, **facts: Any) -> str:
    """Render `templates/NAME.html.j2`, styled by `page.css` and `NAME.css`, with the script `NAME.js` if it exists.

    The page's Content-Security-Policy admits embedded images and videos and the hashes of its own style sheet and
    script, so that injected text can neither run nor load anything.
    """
    style = _source("page.css") + _source(f"{name}.css")
    script = _source(f"{name}.js")
    policy = (
        "default-src 'none'",
        "img-src data:",
        "media-src data:",
        f"style-src '{_digest(style)}'",
        f"script-src '{_digest(script)}'" if script else "script-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    )
    page = _environment.get_template(f"{name}.html.j2").render(
        policy="; ".join(policy), style=Markup(style), script=Markup(script), now=datetime.now(UTC), **facts
    )
    return _UNPRINTABLE.sub("\ufffd", page)


def data_url(data: bytes, media_type: str) -> str:
    """Encode a file as a `data:` URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def isolate(text: object, limit: int = 120) -> Markup:
    """Wrap text of foreign origin in `<bdi>`, cut to `limit` characters; the tooltip holds more of what was cut."""
    text = " ".join(str(text).split())
    if len(text) <= limit:
        return Markup("<bdi>{}</bdi>").format(text)
    return Markup('<bdi title="{}">{}…</bdi>').format(text[: 4 * limit], text[: limit - 1])


def is_web_url(url: str | None) -> bool:
    """Whether a link may lead there: only to http and https, so that no address runs a script."""
    if not url or _UNPRINTABLE.search(url) or any(char.isspace() for char in url):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:  # an unclosed bracket, for example
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def code_spans(text: str) -> Markup:
    """Turn `backticks` into `<code>`."""
    return Markup(re.sub(r"`([^`]*)`", r"<code><bdi>\1</bdi></code>", str(escape(text))))


def counted(number: int, noun: str) -> str:
    """Format a number of things: `1 view`, `1,200 views`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def timestamp(moment: datetime) -> Markup:
    """Format a date and time."""
    moment = moment.astimezone(UTC)
    iso = moment.isoformat(timespec="seconds")
    return Markup('<time datetime="{}">{:%Y-%m-%d %H:%M} UTC</time>').format(iso, moment)


def duration(seconds: float | int) -> str:
    """Format seconds as seconds, minutes or hours."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:,.1f} h"


def file_size(num_bytes: int) -> str:
    """Format bytes with at most three digits before the point."""
    number, unit = float(num_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 999.5:
            break
        number, unit = number / 1000, larger
    return f"{number:.{0 if number >= 100 or unit == 'B' else 1}f}\N{NO-BREAK SPACE}{unit}"


_templates = PackageLoader("wnv.pages")
_environment = Environment(
    loader=_templates,
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {
    "bdi": isolate,
    "code_spans": code_spans,
    "counted": counted,
    "timestamp": timestamp,
    "duration": duration,
    "file_size": file_size,
}
_environment.tests["web_url"] = is_web_url


def _source(file: str) -> str:
    try:
        return _templates.get_source(_environment, file)[0]
    except TemplateNotFound:
        return ""


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
