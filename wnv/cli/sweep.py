"""The jobs of a sweep: how each ended, and a table at the end."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from wnv.cli.overrides import parse


@dataclass
class Sweep:
    """Outcomes of the jobs that ran in this process.

    Attributes:
        metric: Name of what jobs return; None if they return nothing.
        results: What each job returned, by its number; None if it failed.
        overrides: Its values of the swept settings.
        codes: Exit codes of the failed jobs.
    """

    metric: str | None = None
    results: dict[int, float | None] = field(default_factory=dict)
    overrides: dict[int, str] = field(default_factory=dict)
    codes: dict[int, int] = field(default_factory=dict)

    def table(self) -> str:
        """Return one line per job: number, overrides, metric."""
        rows = [("job", "overrides", self.metric or "")]
        rows += [
            (str(number), self.overrides[number], "failed" if result is None else f"{result:.5g}")
            for number, result in sorted(self.results.items())
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        return "\n".join(f"{row[0]:>{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}" for row in rows)

    def describe_failures(self) -> str:
        """Name the failed jobs."""
        names = f"job{'s' if len(self.codes) > 1 else ''} {', '.join(map(str, sorted(self.codes)))}"
        if len(self.codes) == len(self.overrides) > 1:
            names = f"all {len(self.codes)} jobs"
        return f"{names} of the sweep failed (see above)"


def swept_overrides(overrides: Sequence[str]) -> list[str]:
    """Return the overrides of a job whose settings the command line sweeps over; none if it cannot be known."""
    typed = [parse(word) for word in sys.argv[1:]]
    swept = {item.key_or_group for item in typed if item is not None and item.is_sweep_override()}
    return [word for word in overrides if word.lstrip("+~").partition("=")[0] in swept]
