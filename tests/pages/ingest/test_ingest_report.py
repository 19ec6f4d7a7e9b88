"""The whole ingest report: its facts, and that foreign text neither runs nor loads anything."""

import re
from pathlib import Path
from typing import Any

import pytest
from page_checks import browse, read_page

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
PAGES = r"^(https?:)?//"


def test_counts_reasons_measures_and_scenes(root: Any) -> None:
    name = root.scene("bv:1", title="豪宅 tour")
    root.add("bv:2", title="members' video", codes=("bom", "reversed"))
    root.finish("fetch", "bv:2", "refused", "login", message="please log in")
    root.add("bv:3")
    root.finish("fetch", "bv:3", "failed", "transient", message="503")
    root.finish("fetch", "bv:3", "failed", "transient", message="503 again")
    path = write_ingest_report(root.path)
    assert path == root.path / REPORT_FILE
    page = read_page(path.read_text(encoding="utf-8"))

    header = "".join(page.texts["header"])
    assert "kokoni" in header
    assert "3videos" in header
    assert "1scene" in header
    assert "294 frames" in header
    assert "2.6\N{NO-BREAK SPACE}MB" in header
    assert "2 items of all stages failed or were rejected" in header
    stages = page.section("stages")
    assert [stages.count(word) for word in ("done", "refused", "failed", "waiting")] == [4 + 4, 1, 1 + 1, 0]
    reasons = page.section("reasons")
    assert "fetch.cookies=cookies.txt" in reasons
    assert "retry=[login]" in reasons
    assert f"wnv-data run root={root.path}" in reasons
    assert "too_short 1" in reasons
    assert "reversed 1" in reasons
    measures = page.section("measures")
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
    assert len(page.all("script")) == 1
    assert len(page.all("style")) == 1
    assert "taken" not in "".join(page.texts["script"])
    allowed = {"src", "href", "content", "class", "id", "alt", "title", "lang", "charset", "name", "rel", "target"}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert "style" not in attributes, (tag, attributes)
        if tag in ("img", "bdi", "a"):
            assert {name for name in attributes if not name.startswith("data-")} <= allowed, (tag, attributes)
    assert not re.search(r"[\x00-\x08\x0e-\x1f]", text)
    assert "长" * 1300 not in text
    # Every direction mark is inside an element that keeps it from its surroundings, or in an attribute or option.
    for match in re.finditer("\u202e", text):
        before = text[: match.start()]
        inside = before.rfind("<bdi") > before.rfind("</bdi>") or before.rfind("<option") > before.rfind("</option>")
        assert inside or before.rfind('="') > before.rfind(">"), before[-80:]


def test_nothing_is_loaded_and_only_web_addresses_can_be_followed(root: Any) -> None:
    root.scene("bv:1", url="https://www.bilibili.com/video/BV1?p=1&a=b")
    for number, url in enumerate(
        ("javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "//evil", "http://[")
    ):
        root.add(f"url:{number}", url=url)
        root.finish("fetch", f"url:{number}", "refused", "forbidden_address")
    text = write_ingest_report(root.path).read_text(encoding="utf-8")
    page = read_page(text)
    for tag, attributes in page.elements:
        assert not re.match(PAGES, attributes.get("src") or ""), (tag, attributes)
        assert tag not in ("link", "iframe", "object", "embed", "base", "form action")
    links = [link for link in page.all("a") if not (link["href"] or "").startswith("#")]
    assert [link["href"] for link in links] == ["https://www.bilibili.com/video/BV1?p=1&a=b"]
    assert links[0]["rel"] == "noopener noreferrer"
    assert "url(" not in "".join(page.texts["style"])
    assert "@import" not in "".join(page.texts["style"])
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv")]
    assert policy.startswith("default-src 'none'; img-src data:; media-src data:; ")


def test_an_empty_root(root: Any) -> None:
    page = read_page(write_ingest_report(root.path).read_text(encoding="utf-8"))
    assert "empty" in "".join(page.texts["header"])
    assert page.all("article") == page.all("tr") == page.all("figure") == []


def test_a_root_without_ledger(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"ledger\.sqlite"):
        write_ingest_report(tmp_path)


def test_an_active_run(root: Any) -> None:
    for number in range(3):
        root.add(f"bv:{number}")
    root.ledger.start("fetch", "bv:0")
    page = read_page(write_ingest_report(root.path).read_text(encoding="utf-8"))
    assert "1 running and 2 waiting" in "".join(page.texts["header"])


def test_scene_files_that_are_gone_or_damaged_are_named(root: Any) -> None:
    gone = root.scene("bv:1", file=False)
    damaged = root.scene("bv:2")
    file = root.path / "scenes/static/train" / f"{damaged}.zip"
    file.write_bytes(file.read_bytes()[:900])
    whole = root.scene("bv:3")
    page = read_page(write_ingest_report(root.path).read_text(encoding="utf-8"))
    scenes = page.section("scenes")
    assert f"{gone}.zip is missing" in scenes
    assert f"{damaged}.zip cannot be read" in scenes
    assert whole in scenes
    assert len(page.all("img")) == 4


def test_the_page_is_replaced_and_goes_where_it_is_told(root: Any, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere" / "page.html"
    write_ingest_report(root.path, out)
    before = out.read_bytes()
    root.scene("bv:1")
    assert write_ingest_report(root.path, str(out)) == out
    assert out.read_bytes() != before
    assert sorted(entry.name for entry in out.parent.iterdir()) == ["page.html"]
    assert not (root.path / REPORT_FILE).exists()


def test_no_scenes_are_shown_if_none_are_wanted(root: Any) -> None:
    root.scene("bv:1")
    page = read_page(write_ingest_report(root.path, num_scenes=0).read_text(encoding="utf-8"))
    assert page.all("img") == []
    with pytest.raises(ValueError, match=r"num_scenes.*-1"):
        write_ingest_report(root.path, num_scenes=-1)


PROBE = """<script>
const rows = () => [...document.querySelectorAll("#items tbody tr")].filter((row) => !row.hidden).length;
const type = (text) => { form.elements.text.value = text; form.dispatchEvent(new Event("input")); return rows(); };
const found = [rows()];
document.querySelector("a[data-reason=login]").click();
found.push(rows(), shown.textContent);
form.reset();
found.push(type("VIDEO 2"), type("no such thing"), type(""));
document.title = found.join("|");
</script></body>"""


@pytest.mark.slow
def test_a_browser_runs_its_script_and_no_other(root: Any, tmp_path: Path) -> None:
    for number, text in enumerate(HOSTILE[:4]):
        root.add(f"url:{number}", title=text)
        root.finish("fetch", f"url:{number}", "failed", "error", message=text)
    path = write_ingest_report(root.path)
    seen = browse(path, profile=tmp_path / "profile")
    assert "<title>kokoni · wnv-data report</title>" in seen
    assert '<form id="filter">' in seen  # shown by the script, so the page's own policy lets it run
    # And a script that did slip through would not run.
    path.write_text(path.read_text(encoding="utf-8").replace("</body>", PROBE), encoding="utf-8")
    assert "<title>kokoni · wnv-data report</title>" in browse(path, profile=tmp_path / "profile")


@pytest.mark.slow
def test_the_items_can_be_narrowed_down(root: Any, tmp_path: Path) -> None:
    for number, reason in enumerate(["login", "login", "gone", "geo"]):
        root.add(f"url:{number}", title=f"Video {number}")
        root.finish("fetch", f"url:{number}", "refused", reason)
    path = write_ingest_report(root.path)
    text = path.read_text(encoding="utf-8").replace("</body>", PROBE)
    path.write_text(re.sub("<meta http-equiv[^>]*>", "", text), encoding="utf-8")
    assert "<title>4|2|2 of the 4 items|1|0|4</title>" in browse(path, profile=tmp_path / "profile")
