"""Rules of the repository: files at the top, lengths of files, banned names."""

import ast
import re
import subprocess
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP_LEVEL = {
    *("wnv", "conf", "tests", "data_manifests", "notebooks"),
    *("pyproject.toml", "constraints.txt", "Makefile", ".ci", ".gitignore", ".pre-commit-config.yaml"),
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "BENCHMARKS.md", "LICENSE", "NOTICE"),
}
MAX_PYTHON_LINES = 500
MAX_FILE_BYTES = 8 * 1024**2
CATCH_ALL_NAMES = {"utils", "util", "common", "misc", "helpers"}
BANNED_NAMES = {"c2w", "w2c", "extrinsics", "img", "imgs"}
# The version; and a variable that must be set before any command imports torch.
INITS_WITH_CODE = {ROOT / "wnv", ROOT / "wnv" / "cli", ROOT / "wnv" / "ingest"}
HOME_OF_SOMEBODY = re.compile(r"/(?:home|root|Users|mnt|work)/\w")


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).exists()]


@pytest.fixture(scope="module")
def python_files(tracked) -> list[Path]:
    return [path for path in tracked if path.suffix == ".py"]


def names_in(path: Path) -> set[str]:
    with path.open("rb") as file:
        return {token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.NAME}


def words_of(name: str) -> set[str]:
    return set(name.lower().split("_"))


def test_top_level_is_what_it_should_be(tracked):
    assert {path.relative_to(ROOT).parts[0] for path in tracked} == TOP_LEVEL


def test_python_files_are_short(python_files):
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in python_files}
    assert {name: length for name, length in lengths.items() if length > MAX_PYTHON_LINES} == {}


def test_no_file_is_large(tracked):
    assert [str(path) for path in tracked if path.stat().st_size > MAX_FILE_BYTES] == []


def test_nothing_is_named_catch_all(tracked):
    assert [
        str(path) for path in tracked if CATCH_ALL_NAMES & words_of(path.relative_to(ROOT).with_suffix("").name)
    ] == []
    assert [path for path in tracked if CATCH_ALL_NAMES & {*path.relative_to(ROOT).parts}] == []


def test_rooms_init_files_hold_no_code(python_files):
    for path in python_files:
        if path.name == "__init__.py" and path.parent not in INITS_WITH_CODE:
            body = ast.parse(path.read_text()).body
            assert all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body), path


def test_names_follow_the_table(python_files):
    offending = {
        str(path.relative_to(ROOT)): sorted(found)
        for path in python_files
        if path.is_relative_to(ROOT / "wnv")
        and (found := {name for name in names_in(path) if BANNED_NAMES & words_of(name)})
    }
    assert offending == {}


def test_no_path_of_somebodys_machine(tracked):
    texts = {
        path: path.read_text() for path in tracked if path.suffix in {".py", ".yaml", ".toml", ".md", ".ipynb", ".json"}
    }
    found = {
        str(path.relative_to(ROOT)): match[0]
        for path, text in texts.items()
        if (match := HOME_OF_SOMEBODY.search(text))
    }
    assert found == {}
