"""`wnv-report`: compare runs on one HTML page; its positional arguments are folders."""

import os
import re
import sys

from wnv.cli import commands
from wnv.cli.overrides import quote

# Hydra's options that take a value.
_WITH_VALUE = ("-cd", "--config-dir", "-cn", "--config-name", "-cp", "--config-path", "-c", "--cfg", "-p", "--package")
_SETTING = re.compile(r"[~+]{0,2}[A-Za-z_][\w.@/]*=")


def main() -> None:
    """Write the page."""
    try:
        sys.argv[1:] = with_runs(sys.argv[1:])
    except ValueError as error:
        sys.stderr.write(f"wnv-report: error: {error}\n")
        raise SystemExit(2) from None
    commands.report()


def with_runs(arguments: list[str]) -> list[str]:
    """Turn positional arguments into the setting `runs`.

    An argument such as `lr=0.001,seed=1` is a setting unless it is an existing folder, as sweeps name theirs.

    Raises:
        ValueError: If there are both positional arguments and `runs=`.
    """
    runs: list[str] = []
    others: list[str] = []
    is_value = False
    for argument in arguments:
        is_setting = argument.startswith("-") or _SETTING.match(argument) is not None
        if is_value or (is_setting and not os.path.isdir(argument)):
            others.append(argument)
        else:
            runs.append(argument)
        is_value = argument in _WITH_VALUE and not is_value
    if not runs:
        return others
    if any(other.startswith("runs=") for other in others):
        raise ValueError("give the folders as arguments or as runs=[...], not both")
    return [f"runs=[{','.join(map(quote, runs))}]", *others]


if __name__ == "__main__":
    main()
