"""What the report calls states, and settings within sentences."""

import re

from wnv.pages.markup import Markup, element, foreign, join

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


def badge(state: str) -> Markup:
    """A state in a little frame of its colour."""
    return element("span", STATE_WORDS[state], class_=f"badge {state}")


def settings(text: str) -> Markup:
    """Text in which backticks mark settings."""
    parts = re.split(r"`([^`]*)`", text)
    return join(
        *(
            element("code", foreign(part, limit=2 * CODE_LENGTH)) if number % 2 else part
            for number, part in enumerate(parts)
        )
    )
