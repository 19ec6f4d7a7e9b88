"""Small pieces of the page that several sections are made of, and numbers in words."""

import re
from datetime import UTC, datetime

from wnv.ingest.report.markup import Content, Markup, element, foreign, join

STATE_WORDS = {
    "done": "done",
    "refused": "refused",
    "failed": "failed",
    "running": "in hand",
    "pending": "waiting",
}
"""What the page calls the states, in the order in which it shows them."""

# Cut to these numbers of characters.
TITLE_LENGTH, KEY_LENGTH, CODE_LENGTH, MESSAGE_LENGTH = 90, 90, 60, 300


def section(title: str, name: str, *content: Content) -> Markup:
    """A section under its heading; others link to its name."""
    return element("section", element("h2", title), *content, id=name)


def note(*content: Content) -> Markup:
    """A paragraph in small grey letters."""
    return element("p", *content, class_="quiet")


def badge(state: str) -> Markup:
    """A state in a little frame of its colour."""
    return element("span", STATE_WORDS[state], class_=f"badge {state}")


def pairs(name: Content, *content: Content) -> Markup:
    """A line of a `dl`."""
    return element("div", element("dt", name), element("dd", *content))


def settings(text: str) -> Markup:
    """Text in which backticks mark settings."""
    parts = re.split(r"`([^`]*)`", text)
    return join(
        *(
            element("code", foreign(part, limit=2 * CODE_LENGTH)) if number % 2 else part
            for number, part in enumerate(parts)
        )
    )


def when(moment: datetime) -> Markup:
    """A date and a time of day."""
    moment = moment.astimezone(UTC)
    return element("time", f"{moment:%Y-%m-%d %H:%M} UTC", datetime=moment.isoformat(timespec="seconds"))


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"


def size(num_bytes: int) -> str:
    """Bytes with a prefix that leaves at most three digits before the point."""
    number = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 999.5 or unit == "TB":
            break
        number /= 1000
    return (
        f"{number:.0f}\N{NO-BREAK SPACE}{unit}"
        if number >= 100 or unit == "B"
        else f"{number:.1f}\N{NO-BREAK SPACE}{unit}"
    )
