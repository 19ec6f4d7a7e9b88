"""`wnv-report`: compares runs on one page; folders are named one after the other, settings as for every command."""

import os
import re
import sys

from wnv.cli import commands
from wnv.cli.overrides import quote

# Words of Hydra's that another one belongs to.
_WITH_VALUE = ("-cd", "--config-dir", "-cn", "--config-name", "-cp", "--config-path", "-c", "--cfg", "-p", "--package")
_SETTING = re.compile(r"[~+]{0,2}[A-Za-z_][\w.@/]*=")


def main() -> None:
    """Write the page about the folders that the arguments name."""
    try:
        sys.argv[1:] = with_runs(sys.argv[1:])
    except ValueError as error:
        sys.stderr.write(f"wnv-report: error: {error}\n")
        raise SystemExit(2) from None
    commands.report()


def with_runs(arguments: list[str]) -> list[str]:
    """The arguments with the folders among them as the setting `runs`.

    What looks like a setting is one, unless there is a folder of that name, as sweeps make them: `lr=0.001,seed=1`.

    Raises:
        ValueError: If folders are named in both ways.
    """
    runs: list[str] = []
    others: list[str] = []
    belongs = False
    for argument in arguments:
        is_setting = argument.startswith("-") or _SETTING.match(argument) is not None
        if belongs or (is_setting and not os.path.isdir(argument)):
            others.append(argument)
        else:
            runs.append(argument)
        belongs = argument in _WITH_VALUE and not belongs
    if not runs:
        return others
    if any(other.startswith("runs=") for other in others):
        raise ValueError("name the folders one after the other or in runs=[...], not both")
    return [f"runs=[{','.join(map(quote, runs))}]", *others]


if __name__ == "__main__":
    main()
