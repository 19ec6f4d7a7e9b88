"""The whole ingest report: its facts, and that foreign text neither runs nor loads anything."""

import re
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, wait_for
from page_checks import assert_safe, read_page

from wnv.ingest.layout import REPORT_FILE
from wnv.pages.ingest.report import write_ingest_report

HOSTILE = [
    "<script>document.title='taken'</script>",
    '"><img src=x onerror="document.title=\'taken\'">',
    "' onmouseover='document.title=1",
    "</bdi></td></table></style></script><!--",
    "قاهرة \u202emoc.elpmaxe",
    "一镜到底 豪宅 🏠 &amp; &#60;b&#62;",
    "a\x00b\x1b[31m\ud800",
    "长" * 5000,
]


def test_counts_reasons_measures_and_scenes(root: Any) -> None:
    name = root.scene("bv:1", title="豪宅 tour")
    root.add("bv:2", title="members' video", codes=("bom", "reversed"))
    root.finish("fetch", "bv:2", "refused", "login", message="please log in")
    root.add("bv:3")
    root.finish("fetch", "bv:3", "failed", "transient", message="503")
    root.finish("fetch", "bv:3", "failed", "transient", message="503 again")
    page = read_page(write_ingest_report(root.path))
    header = "".join(page.texts["header"])
    for text in (
        "kokoni",
        "3videos",
        "1scene",
        "294 frames",
        "2.6\N{NO-BREAK SPACE}MB",
        "2 items of all stages failed",
    ):
        assert text in header, text
    stages = page.section("stages")
    assert [stages.count(word) for word in ("done", "refused", "failed", "waiting")] == [4 + 4, 1, 1 + 1, 0]
    reasons = page.section("reasons")
    for text in ("retry=[login]", f"wnv-data run root={root.path}", "too_short 1", "reversed 1"):
        assert text in reasons, text
    measures = page.section("measures")
    assert "median" not in measures, "a single value is listed, not summarized"
    assert [svg for svg in page.all("svg") if svg.get("class") == "histogram"] == []
    for text in ("10 s", "98 %", "0.61 px", "4.25°", "75 s", "294"):
        assert text in measures.replace("10.0", "10"), text
    scenes = page.section("scenes")
    for text in (name, "豪宅 tour", "static", "train", "98%", "0.61 px", "4.2°", "48 × 32", " m"):
        assert text in scenes, text
    assert [image["src"][:23] for image in page.all("img")] == ["data:image/jpeg;base64,"] * 4
    rows = [row for row in page.all("tr") if "data-reason" in row]
    assert [(row["data-stage"], row["data-state"], row["data-reason"]) for row in rows] == [
        ("fetch", "failed", "transient"),
        ("fetch", "refused", "login"),
    ]
    assert "503 again" in page.section("items")
    assert "1.2.3" in page.section("made")


def test_text_from_outside_stays_text(root: Any) -> None:
    for number, text in enumerate(HOSTILE):
        key = f"url:{number}" + (text[:80] if "\ud800" not in text else "")
        storable = text.replace("\ud800", "\ufffd")
        root.scene(
            key, title=storable, url=f"https://example.org/{number}?q={text[:60].encode(errors='replace').hex()}"
        )
        root.add(f"{key}#", title=storable, url="javascript:document.title='taken'")
        root.finish("fetch", f"{key}#", "failed", storable[:40], message=text)
    text = write_ingest_report(root.path).read_text(encoding="utf-8")
    page = read_page(text)
    assert_safe(page, num_scripts=1)
    links = [link for link in page.all("a") if not (link["href"] or "").startswith("#")]
    assert {link["rel"] for link in links} == {"noopener noreferrer"}
    assert not re.search(r"[\x00-\x08\x0e-\x1f]", text)
    assert "长" * 1300 not in text
    # Every direction mark is inside an element that isolates it, or in an attribute or option.
    for match in re.finditer("\u202e", text):
        before = text[: match.start()]
        inside = before.rfind("<bdi") > before.rfind("</bdi>") or before.rfind("<option") > before.rfind("</option>")
        assert inside or before.rfind('="') > before.rfind(">"), before[-80:]


def test_an_empty_root(root: Any) -> None:
    page = read_page(write_ingest_report(root.path))
    assert "empty" in "".join(page.texts["header"])
    assert page.all("article") == page.all("tr") == page.all("figure") == []
    with pytest.raises(FileNotFoundError, match=r"ledger\.sqlite"):
        write_ingest_report(root.path / "nowhere")


def test_an_active_run(root: Any) -> None:
    for number in range(3):
        root.add(f"bv:{number}")
    root.ledger.start("fetch", "bv:0")
    assert "1 running and 2 waiting" in "".join(read_page(write_ingest_report(root.path)).texts["header"])


def test_missing_and_damaged_scene_files_are_named(root: Any) -> None:
    gone, damaged, whole = root.scene("bv:1", file=False), root.scene("bv:2"), root.scene("bv:3")
    file = root.path / "scenes/static/train" / f"{damaged}.zip"
    file.write_bytes(file.read_bytes()[:900])
    page = read_page(write_ingest_report(root.path))
    for text in (f"{gone}.zip is missing", f"{damaged}.zip cannot be read", whole):
        assert text in page.section("scenes")
    assert len(page.all("img")) == 4


def test_the_page_is_replaced(root: Any, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere" / "page.html"
    assert write_ingest_report(root.path, out) == out
    root.scene("bv:1")
    assert read_page(write_ingest_report(root.path, str(out))).all("img")
    assert read_page(write_ingest_report(root.path, out, num_scenes=0)).all("img") == []
    assert [entry.name for entry in out.parent.iterdir()] == ["page.html"]
    assert not (root.path / REPORT_FILE).exists()
    with pytest.raises(ValueError, match=r"num_scenes.*-1"):
        write_ingest_report(root.path, num_scenes=-1)


@pytest.mark.slow
def test_in_a_browser_items_can_be_filtered_and_an_injected_script_does_not_run(root: Any, browser: Browser) -> None:
    for number, reason in enumerate(["login", "login", "gone", "geo"]):
        root.add(f"url:{number}", title=f"Video {number}")
        root.finish("fetch", f"url:{number}", "refused", reason)
    path = write_ingest_report(root.path)
    injected = "<script>document.title = 'taken'</script></body>"
    path.write_text(path.read_text(encoding="utf-8").replace("</body>", injected), encoding="utf-8")
    page = browser.open(path.as_uri(), width=360)
    # Only the page's own script shows the form.
    wait_for(lambda: page.evaluate("!(document.getElementById('filter') ?? {hidden: true}).hidden"), what="the form")
    assert page.evaluate("document.title") == "kokoni · wnv-data report"
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    rows = "[...document.querySelectorAll('#items tbody tr')].filter((row) => !row.hidden).length"
    assert page.evaluate(f"document.querySelector('a[data-reason=login]').click(); {rows}") == 2
    assert page.evaluate("shown.textContent") == "2 of the 4 items"
    search = "form.reset(); form.elements.text.value = '{}'; form.dispatchEvent(new Event('input')); " + rows
    assert [page.evaluate(search.format(text)) for text in ("VIDEO 2", "no such thing", "")] == [1, 0, 4]
