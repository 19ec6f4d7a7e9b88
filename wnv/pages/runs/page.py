"""The report as a page: its head, what went wrong, how it was made, and the sections in their order."""

import shlex
from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import wnv
from wnv.pages.document import document
from wnv.pages.markup import Markup, element, foreign
from wnv.pages.runs.contents import Contents
from wnv.pages.runs.curves import curves
from wnv.pages.runs.failures import failures
from wnv.pages.runs.pair_charts import pair_charts
from wnv.pages.runs.runs import Run
from wnv.pages.runs.scenes import scenes
from wnv.pages.runs.tables import NAME_LENGTH, run_key, runs_table, scores
from wnv.pages.words import counted, note, pairs, section, when
from wnv.training.run_folder import flatten_config

_MESSAGE_LENGTH = 500
_VALUE_LENGTH = 400


def page(contents: Contents, *, title: str, now: datetime) -> Markup:
    """The whole document."""
    sections = {
        "runs": runs_table(contents),
        "scores": scores(contents),
        "curves": curves(contents),
        "scenes": scenes(contents),
        "pairs": pair_charts(contents),
        "failures": _failures(contents),
        "made": _made_with(contents),
    }
    shown = {name: part for name, part in sections.items() if part is not None}
    links = (element("a", name.capitalize(), href=f"#{name}") for name in shown)
    return document(
        _header(contents, title=title, now=now),
        element("nav", *links),
        *shown.values(),
        element("footer", "Written by wnv-report."),
        title=f"{title} · wnv-report",
        style=files("wnv.pages.runs").joinpath("report.css").read_text(encoding="utf-8"),
    )


def _header(contents: Contents, *, title: str, now: datetime) -> Markup:
    num_runs, num_evaluations = len(contents.runs), sum(len(run.evaluations) for run in contents.runs)
    counts = f"{counted(num_runs, 'run')}, {counted(num_evaluations, 'evaluation')}"
    dates = [element("span", "written ", when(now)), element("span", f"wnv {wnv.__version__}")]
    heading = element("h1", foreign(title, limit=NAME_LENGTH))
    return element("header", heading, element("p", element("span", counts), *dates, class_="where"))


def _failures(contents: Contents) -> Markup:
    blocks = [
        _messages(run_key(contents, number), failures(run, with_training=contents.tells_training(number)))
        for number, run in enumerate(contents.runs)
    ]
    blocks += [
        _messages(foreign(str(job), limit=NAME_LENGTH), [_empty_job(job)]) for job in contents.findings.empty_jobs
    ]
    unreadable = contents.findings.unreadable.items()
    blocks += [_messages(foreign(str(path), limit=NAME_LENGTH), [why]) for path, why in unreadable]
    shown = [block for block in blocks if block is not None]
    if not shown:
        is_scored = any(run.evaluations for run in contents.runs)
        beaten = ", and every evaluation is ahead of the copy in all of its examples" if is_scored else ""
        shown = [note(f"Nothing: all came to its end{beaten}.")]
    return section("What to know before trusting the scores", "failures", *shown)


def _messages(title: Markup, messages: Sequence[str]) -> Markup | None:
    if not messages:
        return None
    entries = (element("li", foreign(message, limit=_MESSAGE_LENGTH)) for message in messages)
    return element("div", element("p", title, class_="title"), element("ul", *entries), class_="messages")


def _empty_job(job: Path) -> str:
    logs = sorted(job.glob("*.log"))
    where = f"; {logs[0].name} may say why" if logs else ""
    return f"A job of a sweep that left neither a run nor an evaluation: it failed early, or has yet to begin{where}."


def _made_with(contents: Contents) -> Markup:
    blocks = []
    for number, run in enumerate(contents.runs):
        lines = [pairs(name, foreign(value, limit=_VALUE_LENGTH)) for name, value in _origin(run)]
        lines += [
            pairs(foreign(name, limit=NAME_LENGTH), foreign(str(value), limit=_VALUE_LENGTH))
            for name, value in sorted(flatten_config(run.config).items())
        ]
        if lines:
            blocks.append(element("details", element("summary", run_key(contents, number)), element("dl", *lines)))
    return section("Made with", "made", *(blocks or [note("Nothing is known of how these weights were made.")]))


def _origin(run: Run) -> list[tuple[str, str]]:
    """How a run was started and evaluated: commands, versions, devices."""
    lines: list[tuple[str, str]] = []
    starts = run.training.starts if run.training is not None else ()
    for start in starts:
        command: Any = start.get("command")
        if isinstance(command, list) and command:
            words = shlex.join([Path(str(command[0])).name, *map(str, command[1:])])
            lines.append(("command", words))
        lines.append(("started", _facts(start, ("date", "device", "devices", "version", "commit", "torch"))))
    for evaluation in run.evaluations:
        made = {} if evaluation.summary is None else evaluation.summary.environment
        facts = _facts(made, ("date", "device", "version", "commit", "torch"))
        lines.append(("evaluated", ", ".join(filter(None, [str(evaluation.folder), evaluation.weights, facts]))))
    return lines


def _facts(source: Any, names: Sequence[str]) -> str:
    return ", ".join(f"{name} {source[name]}" for name in names if source.get(name) is not None)
