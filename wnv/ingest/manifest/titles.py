"""Cleans titles: removes additions of share buttons and browser tabs."""

import re
import unicodedata

MAX_TITLE = 1000

_SITE = re.compile(r"[-_]哔哩哔哩(?:_bilibili)?(】?)$")
_STRAY_LETTER = re.compile(r"(?<=】) ?h$")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufeff]")


def clean_title(cell: str) -> tuple[str, tuple[str, ...]]:
    """Clean a title; returns it on one line, and reason codes."""
    title = cell.strip()
    codes = ["title_cut"] * (len(title) > MAX_TITLE)
    title = title[:MAX_TITLE]
    codes += ["title_newline"] * ("\n" in title or "\r" in title)
    title = " ".join(_UNSEEN.sub(" ", title).split())
    for code, pattern, repair in (("title_stray_letter", _STRAY_LETTER, ""), ("title_site_suffix", _SITE, r"\1")):
        title, found = pattern.subn(repair, title)
        codes += [code] * found
    if title.count("【") != title.count("】"):
        codes.append("title_unbalanced")
    elif _is_wrapped(title):
        title = title[1:-1].strip()
        codes.append("title_unwrapped")
    return title, tuple(codes)


def same_title(first: str, second: str) -> bool:
    """Whether two titles are equal up to case, spaces and punctuation; an empty title equals every title."""
    return not first or not second or letters_of(first) == letters_of(second)


def letters_of(title: str) -> str:
    """Letters and digits of a title in one case, for comparisons; the title itself if it has none."""
    normal = unicodedata.normalize("NFKC", title).casefold()
    return "".join(letter for letter in normal if letter.isalnum()) or normal


def _is_wrapped(title: str) -> bool:
    """Whether the first bracket is closed by the last character, as share buttons copy titles."""
    depth = 0
    for position, letter in enumerate(title):
        depth += (letter == "【") - (letter == "】")
        if depth <= 0:
            return position == len(title) - 1 > 1
    return False
