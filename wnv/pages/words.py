"""Small pieces that pages are made of, and numbers in words."""

from datetime import UTC, datetime

from wnv.pages.markup import Content, Markup, element


def section(title: str, name: str, *content: Content) -> Markup:
    """A section under its heading; others link to its name."""
    return element("section", element("h2", title), *content, id=name)


def note(*content: Content) -> Markup:
    """A paragraph in small grey letters."""
    return element("p", *content, class_="quiet")


def pairs(name: Content, *content: Content) -> Markup:
    """A line of a `dl`."""
    return element("div", element("dt", name), element("dd", *content))


def counted(number: int, noun: str) -> str:
    """A number of things: `1 view`, `1,200 views`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


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
