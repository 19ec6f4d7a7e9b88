"""The report's pictures: the same scenes by every run, and the worst, median and best ones of each."""

from collections.abc import Sequence

from wnv.evaluation.report.contents import Contents, Task
from wnv.evaluation.report.gallery import Exhibit, embed_picture, extremes, shared_cases
from wnv.evaluation.report.tables import NAME_LENGTH, run_key
from wnv.pages.markup import Content, Markup, element, foreign, join
from wnv.pages.words import counted, note, section

_NUM_SHARED = 3


def scenes(contents: Contents) -> Markup:
    """Pictures of every task, or else the last contact sheets of the validation."""
    parts = [part for task in contents.tasks if (part := _task_scenes(contents, task)) is not None]
    if not parts:
        parts = _training_sheets(contents)
    if not parts:
        parts = [note("There are no pictures: wnv-eval makes them (num_sheet_scenes=6).")]
    words = "A row shows the given views, the target as it is, what was drawn, the nearest given view, and the error."
    return section("Scenes", "scenes", note(words), *parts)


def _task_scenes(contents: Contents, task: Task) -> Markup | None:
    evaluations = {number: contents.evaluation(number, task) for number in task.numbers}
    found = {number: extremes(evaluation, task.main_variant) for number, evaluation in evaluations.items()}
    found = {number: exhibits for number, exhibits in found.items() if exhibits}
    if not found:
        return None
    with_pictures = [evaluations[number] for number in found]
    shared = shared_cases(with_pictures, task.main_variant, count=_NUM_SHARED) if len(found) > 1 else []
    return join(
        element("h3", foreign(task.title, limit=NAME_LENGTH), element("small", task.main_variant or None)),
        _shared(contents, [*found], shared) if shared else None,
        *(_extremes(contents, number, exhibits, is_open=len(found) == 1) for number, exhibits in found.items()),
    )


def _shared(contents: Contents, numbers: Sequence[int], cases: Sequence[Sequence[Exhibit]]) -> Markup:
    blocks = []
    for case in cases:
        rows = [_strip(run_key(contents, number), exhibit) for number, exhibit in zip(numbers, case, strict=True)]
        heading = element("h4", foreign(case[0].record.scene, limit=NAME_LENGTH))
        blocks.append(element("div", heading, *rows, class_="case"))
    return element("div", note("The same scenes by every run, spread evenly over the data:"), *blocks)


def _extremes(contents: Contents, number: int, exhibits: Sequence[Exhibit], *, is_open: bool) -> Markup:
    rows = [_strip(_place(exhibit), exhibit) for exhibit in exhibits]
    title = join(run_key(contents, number), " – its worst, median and best")
    return element("details", element("summary", title), *rows, class_="case", open=is_open)


def _place(exhibit: Exhibit) -> Markup:
    place = f"{exhibit.place} of {exhibit.count}, from the lowest PSNR"
    scene = foreign(exhibit.record.scene, limit=NAME_LENGTH)
    return element("span", element("b", exhibit.role), " ", scene, element("small", place))


def _strip(title: Content, exhibit: Exhibit) -> Markup:
    record = exhibit.record
    psnr, copied = record.mean("model", "psnr"), record.mean("copy", "psnr")
    values = f"{psnr:.2f} dB, copy {copied:.2f} dB, over {counted(len(record.target_times), 'view')}"
    film: Markup | None = None
    if exhibit.film is not None:
        film = element("video", src=exhibit.film, controls=True, loop=True, muted=True, playsinline=True)
    elif exhibit.film_file is not None:
        film = note("Its film is too large for this page: ", foreign(str(exhibit.film_file), limit=NAME_LENGTH))
    picture = element("img", src=exhibit.picture, alt=f"{record.scene}: {values}")
    return element(
        "div",
        element("p", title, element("small", values), class_="title"),
        element("div", picture, class_="wide"),
        film,
        class_="strip",
    )


def _training_sheets(contents: Contents) -> list[Markup]:
    sheets = []
    for number, run in enumerate(contents.runs):
        file = None if run.training is None else run.training.last_sheet
        if file is not None:
            picture = element("img", src=embed_picture(file), alt=f"contact sheet of {contents.labels[number]}")
            words = element("small", f"validation, {file.stem}")
            title = element("p", run_key(contents, number), words, class_="title")
            sheets.append(element("div", title, element("div", picture, class_="wide"), class_="case strip"))
    return sheets
