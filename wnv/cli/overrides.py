"""Convert overrides as users type them to Hydra's grammar."""

import difflib
import re
from collections.abc import Iterable

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

OPTIONAL_GROUPS = ("callbacks", "debug", "experiment", "logger")
"""Groups that a command can do without: `GROUP=null` leaves them out."""


def readable(argument: str) -> str:
    """Rewrite an argument that Hydra would misread, and return every other one unchanged.

    A value outside Hydra's grammar becomes text: names of files hold letters of all languages, brackets, apostrophes.
    A value that begins with a quote or a brace is left to Hydra, which reports what is wrong with it.
    """
    if argument == "debug=nan":  # a number to Hydra
        return 'debug="nan"'
    if argument.removesuffix("=null") in OPTIONAL_GROUPS and argument.endswith("=null"):
        return f"~{argument.removesuffix('=null')}"
    match = re.fullmatch(r"([~+]{0,2}[A-Za-z_][\w.@/]*)=(.+)", argument, re.DOTALL)
    if match is None or parse(argument) is not None:
        return argument
    name, value = match.groups()
    if re.fullmatch(r"\[[^\[\]\"']*\]", value, re.DOTALL):
        entries = (readable(f"x={entry.strip()}").removeprefix("x=") for entry in value[1:-1].split(","))
        return f"{name}=[{','.join(entries)}]"
    return argument if value[0] in "\"'[{" else f"{name}={quote(value)}"


def quote(text: str) -> str:
    """Quote any text for Hydra's grammar."""
    # A backslash is literal unless a quote follows.
    inside = re.sub(r'(\\*)("|$)', lambda found: 2 * found[1] + ('\\"' if found[2] else ""), text)
    return f'"{inside}"'


def parse(argument: str) -> Override | None:
    """Parse an override; None if it is none."""
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException:
        return None


def nearest(word: str, options: Iterable[str]) -> str | None:
    """Return the option most similar to a mistyped word, siblings of a dotted name first; None if none is similar."""
    options = [*options]
    group, dot, name = word.rpartition(".")
    siblings = [option.rpartition(".")[2] for option in options if option.rpartition(".")[0] == group]
    if found := difflib.get_close_matches(name, siblings, n=1, cutoff=0.68):
        return f"{group}{dot}{found[0]}"
    found = difflib.get_close_matches(word, options, n=1, cutoff=0.85)
    return found[0] if found else None


def did_you_mean(option: str | None) -> str:
    """Return the question to put behind an error; empty without a suggestion."""
    return "" if option is None else f"; did you mean {option}?"
