"""The Makefile sets up once, detects missing parts, and repeats an interrupted set-up."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FAKE_PYTHON = """#!/usr/bin/env bash
# A fake Python: makes a "virtual environment" of itself, and records the packages to install.
case "$*" in
  *"-m venv"*) for last; do :; done; mkdir -p "$last/bin"; cp "$0" "$last/bin/python" ;;
  *"pip install"*) echo "$*" >> "$INSTALLS"; [ -z "${FAIL_AT:-}" ] || [[ "$*" != *"$FAIL_AT"* ]] ;;
esac
"""


@pytest.fixture
def tree(tmp_path) -> Path:
    """A folder to set up, with fake Pythons on its PATH that only record their calls."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "programs").mkdir()
    fake = tmp_path / "programs" / "python3.11"
    fake.write_text(FAKE_PYTHON)
    fake.chmod(0o755)
    return tmp_path


def make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    keep = {
        name: value for name, value in os.environ.items() if name not in {"PYTHON", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    }
    path = f"{folder / 'programs'}:{os.environ['PATH']}"
    environment = {**keep, "PATH": path, "INSTALLS": str(folder / "installs"), **environment}
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def installs(folder: Path) -> list[str]:
    return (folder / "installs").read_text().splitlines() if (folder / "installs").exists() else []


def test_help_lists_every_target():
    listed = set(re.findall(r"^make ([a-z-]+)", make(ROOT).stdout, re.MULTILINE))
    assert listed == {"help", "setup", "lint", "test", "test-slow", "bench", "wheel", "demo"}


def test_setup_happens_once(tree):
    assert make(tree, "setup").returncode == 0
    first = installs(tree)
    assert ["torch==2.13.0" in line for line in first] == [True, False]
    assert all("-c constraints.txt" in line for line in first)
    assert make(tree, "setup").returncode == 0
    assert installs(tree) == first


@pytest.mark.parametrize("file", ["pyproject.toml", "constraints.txt"])
def test_setup_follows_what_it_was_made_from(tree, file):
    make(tree, "setup")
    later = (tree / ".venv" / ".complete").stat().st_mtime + 10
    os.utime(tree / file, (later, later))
    make(tree, "setup")
    assert len(installs(tree)) == 4


@pytest.mark.parametrize("cut_at", ["torch==", "-e ."])
def test_setup_that_was_cut_short_is_taken_up_again(tree, cut_at):
    outcome = make(tree, "setup", FAIL_AT=cut_at)
    assert outcome.returncode != 0
    assert not (tree / ".venv" / ".complete").exists()
    assert make(tree, "setup").returncode == 0
    assert "-e ." in installs(tree)[-1]


def test_moved_tree_is_set_up_anew(tree):
    make(tree, "setup")
    moved = tree.with_name("moved")
    shutil.copytree(tree, moved, symlinks=True)
    (moved / "installs").unlink()
    assert make(moved, "setup").returncode == 0
    assert len(installs(moved)) == 2


def test_setup_without_a_python_says_what_to_install(tree):
    programs = tree / "programs"
    (programs / "python3.11").unlink()
    for name in ("bash", "cat", "rm", "make"):
        (programs / name).symlink_to(shutil.which(name))
    outcome = make(tree, "setup", PATH=str(programs))
    assert outcome.returncode != 0
    assert "apt install python3 python3-venv" in outcome.stderr


def test_environment_that_lacks_packages_is_refused(tree):
    bare = tree / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    outcome = make(tree, "test", f"PYTHON={bare}/bin/python")
    assert outcome.returncode != 0
    assert re.search(r"PYTHON=\S+ lacks .*install them: \S+ -m pip install", outcome.stderr)
    assert not (tree / ".venv").exists()


def test_environment_with_another_copy_installed_is_refused(tree):
    for name in ("wnv", "conf"):
        (tree / name).mkdir()
        (tree / name / "__init__.py").touch()
    outcome = make(tree, "check-environment", f"PYTHON={sys.executable}")
    assert outcome.returncode != 0
    assert "not from this folder" in outcome.stderr


def test_this_environment_is_accepted():
    outcome = make(ROOT, "check-environment", f"PYTHON={sys.executable}")
    assert outcome.returncode == 0, outcome.stderr
