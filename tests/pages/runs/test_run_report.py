"""The whole report on runs: its facts, its safety, and its rendering by a browser."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import wait_for
from page_checks import assert_safe, read_page

from wnv.evaluation.contact_sheet import Cell, contact_sheet
from wnv.evaluation.images import write_png
from wnv.evaluation.video import write_mp4
from wnv.models.konet import KoNet
from wnv.pages.runs.report import write_run_report
from wnv.pages.runs.table_files import SUFFIXES

HOSTILE = [
    "<script>document.title='taken'</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></script><!--",
    "\u202eab",
]


@pytest.fixture
def sweep(folders) -> None:
    """Three jobs of a sweep and their evaluations, one of which won."""
    for job, encoding in enumerate(("none", "gta", "geope")):
        folders.run(f"sweep/{job}", model_camera_encoding=encoding, psnr=20.0 + job)
        scores = {"a": 18.0 + job, "b": 21.0 + job, "c": 16.0 + 3 * job}
        folders.evaluation(f"evals/{job}", scores, weights=f"sweep/{job}", fingerprint=str(job), pictures=[0, 1, 2])


def test_a_sweep_is_compared(folders, sweep) -> None:
    page = read_page(write_run_report(["sweep", "evals"], "report.html"))
    assert page.texts["h1"] == ["sweep and evals"]
    assert "3 runs, 3 evaluations" in " ".join(page.texts["header"])

    runs = page.section("runs")
    for words in (
        "parameters",
        "training time",
        "camera_encoding",
        "none",
        "gta",
        "geope",
        "sweep/2",
        "22.00",
        "21.67 (n=3)",
    ):
        assert words in runs, words
    assert "optim" not in runs
    scores = page.section("scores")
    assert "validation views synthetic scenes, 24 × 16 px" in scores
    for words in ("18.33 (n=3)", "20.00 (n=3)", "21.67 (n=3)", "17.00 (n=3)", "+4.67 (n=3)", "3 of 3", "2.5", "400.0"):
        assert words in scores, words
    assert "2 · camera_encoding=geope has the highest mean, ahead of 1 ·" in scores
    assert "n=3: too few examples for an interval" in scores
    assert "+1.67 (n=3) dB, paired over 3 examples" in scores
    assert "Validation PSNR, dB" in page.section("curves")
    charts = [svg["aria-label"] for svg in page.all("svg")]
    assert charts[:2] == ["Validation PSNR, dB, by step", "Training loss, by step"]
    scenes = page.section("scenes")
    assert scenes.count("18.00 dB, copy 17.00 dB, over 1 view") == 2  # as a shared case, and as the first run's median
    assert len(page.all("img")) == 3 * 3  # every case is shown for every run, and each image is embedded once
    assert scenes.count("Its image is shown above.") == 9
    pairs = page.section("pairs")
    assert "+1.67 (n=3) dB , higher in 3 of 3" in pairs
    assert "largest gains +6.00 dB c 16.00 and 22.00 +2.00 dB" in pairs
    assert "largest losses" not in pairs
    assert page.section("failures").count("no better than the nearest context view") == 1
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id", "").startswith("scene-")]
    assert len(ids) == len({*ids}) == 3 + 9
    assert {"scene-a", "scene-b", "scene-c", "scene-a-2"} <= {*ids}
    assert {f"#{anchor}" for anchor in ids} <= {link["href"] for link in page.all("a")}
    made = page.section("made")
    assert "wnv-train seed=0" in made
    assert "/bin/" not in made
    assert "evals/2, sweep/2, date 2026-01-03, device cpu: test" in made


def test_tables_are_files_beside_the_page(folders, sweep) -> None:
    folders.run("a&b|c", model_camera_encoding="ray_50%")
    page = read_page(write_run_report(["sweep", "evals", "a&b|c"], "my page.html"))
    links = [link["href"] for link in page.all("a") if "_tables/" in link["href"]]
    assert links == [
        f"my%20page_tables/{name}.{suffix}" for name in ("runs", "scores-validation-views") for suffix in SUFFIXES
    ]
    with Path("my page_tables/scores-validation-views.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) == 4
    assert (float(rows[2]["PSNR dB"]), rows[2]["PSNR dB ±"], rows[2]["PSNR dB n"]) == (pytest.approx(65 / 3), "", "3")
    assert (rows[3]["run"], rows[3]["views/s"]) == ("nearest context view, copied", "")
    with Path("my page_tables/runs.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert rows[3]["camera_encoding"] == "ray_50%"
    assert rows[0]["parameters"] == str(
        sum(p.numel() for p in KoNet(dim=192, num_heads=6, camera_encoding="none").parameters())
    )
    assert rows[3]["parameters"] == "", "no encoding of this name"
    assert r"| a&b\|c" in Path("my page_tables/runs.md").read_text()
    latex = Path("my page_tables/runs.tex").read_text()
    assert r"ray\_50\%" in latex
    assert r"\toprule" in latex
    folders.run("other")
    write_run_report(["other"], "my page.html", overwrite=True)
    assert sorted(path.name for path in Path("my page_tables").iterdir()) == ["runs.csv", "runs.md", "runs.tex"]


def test_one_run_without_an_evaluation_shows_its_validation(folders) -> None:
    folder = folders.run("mine")
    page = read_page(write_run_report(["mine"], "a.html", title="My run"))
    assert page.texts["h1"] == ["My run"]
    assert "20.00" in page.section("runs")
    assert all("wnv-eval" in page.section(name) for name in ("runs", "scores", "scenes"))
    assert page.section("pairs") == ""
    assert page.all("ul")[1:] == []  # the legend, and no failures
    folders.evaluation("eval", {"a": 20.0}, pictures=[0])
    (folder / "images").mkdir()
    (Path("eval") / "pictures" / "000000-all.png").rename(folder / "images" / "step_00000040.png")
    page = read_page(write_run_report(["mine", "eval"], "b.html"))  # the evaluation has no images now
    assert "validation, step_00000040" in page.section("scenes")
    assert [image["alt"] for image in page.all("img")] == ["contact sheet of mine"]


def test_tasks_and_variants_are_distinguished(folders) -> None:
    folders.run("mine")
    zoom = {"zoom=1": {"a": 20.0, "b": 22.0}, "zoom=3": {"a": 15.0, "b": 16.0}}
    folders.evaluation("zoom", zoom, weights="mine", protocol="zoom", reference="zoom=1")
    for name, size in (("small", [16, 24]), ("large", [32, 48])):
        data = {"_target_": "wnv.data.scene_datamodule.SceneDataModule", "root": "scenes", "image_size": size}
        folders.evaluation(name, {"a": 20.0}, weights="mine", data=data, lpips_note="LPIPS needs torchvision")
    page = read_page(write_run_report(["mine", "zoom", "small", "large"], "a.html"))
    scores = page.section("scores")
    assert "zoom synthetic scenes, 24 × 16 px" in scores
    assert "validation views · image_size=[16, 24] scenes, 24 × 16 px" in scores
    assert "validation views · image_size=[32, 48] scenes, 48 × 32 px" in scores
    assert "change from zoom=1, dB" in scores
    assert "-5.50 (n=2)" in scores
    heads = [head for head in page.texts["th"] if head == "LPIPS"]
    assert len(heads) == 2  # requested but not measured: an empty column with a note
    assert "zoom, PSNR dB" in page.section("runs")
    assert "LPIPS was not measured" in page.section("failures")


@pytest.mark.slow
def test_of_many_runs_some_images_and_pairs_are_left_out(folders) -> None:
    for number in range(26):
        folders.evaluation(f"e/{number}", {"a": 20.0 + number, "b": 21.0}, weights=f"w{number}", pictures=[0])
    page = read_page(write_run_report(["e"], "a.html"))
    assert "Images of the first 24 runs are shown, of 26." in page.section("scenes")
    assert len(page.all("img")) == 24
    assert "The first 24 pairs are shown, of 25." in page.section("pairs")
    assert len(page.all("svg")) == 24
    assert "w25" in page.section("scores")


def test_empty_jobs_are_failures(folders) -> None:
    folders.run("sweep/0")
    Path("sweep/multirun.yaml").write_text("")
    Path("sweep/1").mkdir()
    Path("sweep/1/train.log").write_text("")
    page = read_page(write_run_report(["sweep"], "a.html"))
    assert re.search("sweep/1 .*train.log", page.section("failures"))


def test_text_from_folders_stays_text_and_nothing_is_loaded(folders) -> None:
    for number, text in enumerate(HOSTILE):
        name = text.replace("/", "_")
        folders.run(name, name=text, end=("failed", text))
        folders.evaluation(f"eval{number}", {text: 20.0, f"b{text}": 18.0}, weights=name, pictures=[0])
    names = [*(text.replace("/", "_") for text in HOSTILE), *(f"eval{i}" for i in range(4))]
    assert_safe(read_page(write_run_report(names, "a.html")), num_scripts=1)


def test_a_page_is_replaced_only_when_asked(folders) -> None:
    folders.run("mine")
    path = write_run_report(["mine"], "below/page.html")
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"below/page.html.*overwrite"):
        write_run_report(["nowhere"], path)
    with pytest.raises(FileNotFoundError):
        write_run_report(["nowhere"], path, overwrite=True)
    assert path.read_text() == "mine"
    write_run_report(["mine"], path, overwrite=True)
    assert "<!doctype html>" in path.read_text()
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["page.html", "page_tables"]


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser_it_fits_is_sorted_and_all_pictures_are_seen(folders, sweep, browser, width: int) -> None:
    write_mp4(Path("evals/2/pictures/000000-all.mp4"), np.zeros((5, 16, 24, 3), np.uint8), fps=5)
    for file in Path("evals").glob("*/pictures/*.png"):
        sheet = contact_sheet([[Cell(torch.rand(3, 160, 160)) for _ in range(6)]], row_titles=["scene"])
        write_png(file, sheet, overwrite=True)
    path = write_run_report(["sweep", "evals"], "report.html").absolute()
    page = browser.open(path.as_uri(), width=width, height=800)
    # An empty tab is complete too.
    there = "document.readyState === 'complete' && location.protocol === 'file:'"
    wait_for(lambda: page.evaluate(there), what="the page")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('details').forEach((d) => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    seen = "[...document.images].every((i) => i.complete && i.naturalWidth > 0)"
    wait_for(lambda: page.evaluate(seen), what="the pictures")
    wait_for(lambda: page.evaluate("document.querySelector('video').videoWidth") > 0, what="the film")
    # The rendered picture is on the screen and of some size, without scrolling sideways.
    place = "JSON.stringify(document.querySelector('.views img.rendered').getBoundingClientRect())"
    rendered = json.loads(page.evaluate(place))
    assert rendered["left"] >= 0
    assert rendered["right"] <= width
    assert rendered["width"] > 140
    # Its own policy lets its style in: cards on a phone, rows on a screen.
    style = "getComputedStyle(document.querySelector('{}')).{}"
    assert page.evaluate(style.format("td", "display")) == ("block" if width < 600 else "table-cell")
    assert page.evaluate(style.format(".key", "backgroundColor")) == "rgb(43, 111, 214)"
    cells = "[...document.querySelectorAll('#runs td[data-name=\\'val PSNR dB\\']')].map((c) => c.textContent).join()"
    assert page.evaluate(cells) == "20.00,21.00,22.00"
    for order in ("22.00,21.00,20.00", "20.00,21.00,22.00"):
        page.evaluate(
            "[...document.querySelectorAll('#runs th')].find((h) => h.textContent === 'val PSNR dB').firstChild.click()"
        )
        assert page.evaluate(cells) == order
    assert page.screenshot().std() > 10
