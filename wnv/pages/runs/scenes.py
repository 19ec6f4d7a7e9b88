"""The report's pictures: the same scenes by every run, and the worst, median and best ones of each."""

from collections.abc import Sequence

from wnv.evaluation.records import RecordKey
from wnv.pages.markup import Content, Markup, element, foreign, join
from wnv.pages.runs.contents import MAX_RUNS, Contents, Task
from wnv.pages.runs.gallery import Exhibit, embed_picture, extremes, shared_cases
from wnv.pages.runs.tables import NAME_LENGTH, run_key
from wnv.pages.words import counted, note, section

_NUM_SHARED = 3


def scenes(contents: Contents) -> Markup:
    """Pictures of every task, or else the last contact sheets of the validation."""
    parts = [part for task in contents.tasks if (part := _task_scenes(contents, task)) is not None]
    if parts:
        words = "A row shows the given views, the target as it is, what was drawn, the nearest given view, the error."
        parts.insert(0, note(words))
    else:
        parts = _training_sheets(contents)
    return section("Scenes", "scenes", *(parts or [note("There are no pictures: wnv-eval makes them.")]))


def _task_scenes(contents: Contents, task: Task) -> Markup | None:
    evaluations = {number: contents.evaluation(number, task) for number in task.numbers}
    found = {number: extremes(evaluation, task.main_variant) for number, evaluation in evaluations.items()}
    found = {number: exhibits for number, exhibits in found.items() if exhibits}
    if not found:
        return None
    shown_of = _left_out(len(found)) if len(found) > MAX_RUNS else None
    found = dict([*found.items()][:MAX_RUNS])
    with_pictures = [evaluations[number] for number in found]
    shared = shared_cases(with_pictures, task.main_variant, count=_NUM_SHARED) if len(found) > 1 else []
    of_variant = f"{task.main_variant}; pictures of the other variants lie beside it" if task.main_variant else None
    drawn_already = {exhibit.record.key for case in shared for exhibit in case}
    return join(
        element("h3", foreign(task.title, limit=NAME_LENGTH), element("small", of_variant)),
        shown_of,
        _shared(contents, [*found], shared) if shared else None,
        *(_extremes(contents, number, exhibits, above=drawn_already) for number, exhibits in found.items()),
    )


def _left_out(count: int) -> Markup:
    return note(f"Pictures of the first {MAX_RUNS} runs are shown, of {count}.")


def _shared(contents: Contents, numbers: Sequence[int], cases: Sequence[Sequence[Exhibit]]) -> Markup:
    blocks = []
    for case in cases:
        rows = [
            _strip(run_key(contents, number), exhibit, with_film=False)
            for number, exhibit in zip(numbers, case, strict=True)
        ]
        heading = element("h4", foreign(case[0].record.scene, limit=NAME_LENGTH))
        blocks.append(element("div", heading, *rows, class_="case"))
    return element("div", note("The same scenes by every run, spread evenly over the data:"), *blocks)


def _extremes(contents: Contents, number: int, exhibits: Sequence[Exhibit], *, above: set[RecordKey]) -> Markup:
    rows = [_strip(_place(exhibit), exhibit, is_above=exhibit.record.key in above) for exhibit in exhibits]
    title = join(run_key(contents, number), " – its worst, median and best")
    return element("details", element("summary", title), *rows, class_="case", open=not above)


def _place(exhibit: Exhibit) -> Markup:
    place = f"{exhibit.place} of {exhibit.count}, from the lowest PSNR"
    scene = foreign(exhibit.record.scene, limit=NAME_LENGTH)
    return element("span", element("b", exhibit.role), " ", scene, element("small", place))


def _strip(title: Content, exhibit: Exhibit, *, is_above: bool = False, with_film: bool = True) -> Markup:
    record = exhibit.record
    scores = [f"{psnr:.2f} dB" for psnr in [record.mean("model", "psnr")] if psnr is not None]
    scores += [f"copy {psnr:.2f} dB" for psnr in [record.mean("copy", "psnr")] if psnr is not None]
    values = ", ".join([*scores, f"over {counted(len(record.target_times), 'view')}"])
    picture: Markup = note("Its picture stands above.")
    if not is_above:
        source = exhibit.picture()
        picture = note("Its picture cannot be read.")
        if source is not None:
            picture = element("div", element("img", src=source, alt=f"{record.scene}: {values}"), class_="wide")
    film = _film(exhibit) if with_film else None
    return element("div", element("p", title, element("small", values), class_="title"), picture, film, class_="strip")


def _film(exhibit: Exhibit) -> Markup | None:
    source = exhibit.film()
    if source is not None:
        return element("video", src=source, controls=True, loop=True, muted=True, playsinline=True)
    if exhibit.film_file is not None:
        return note("Its film is too large for this page: ", foreign(str(exhibit.film_file), limit=NAME_LENGTH))
    return None


def _training_sheets(contents: Contents) -> list[Markup]:
    files = {
        number: run.training.last_sheet for number, run in enumerate(contents.runs) if contents.tells_training(number)
    }
    found = [(number, file) for number, file in files.items() if file is not None]
    sheets = [note("A row shows the given views, the target as it is, what was drawn, the error.")] if found else []
    sheets += [_left_out(len(found))] if len(found) > MAX_RUNS else []
    for number, file in found[:MAX_RUNS]:
        source = embed_picture(file)
        if source is not None:
            picture = element("img", src=source, alt=f"contact sheet of {contents.labels[number]}")
            words = element("small", f"validation, {file.stem}")
            title = element("p", run_key(contents, number), words, class_="title")
            sheets.append(element("div", title, element("div", picture, class_="wide"), class_="case strip"))
    return sheets
