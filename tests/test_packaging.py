"""Contents and start of the installed package: wheel, sdist and editable install, without a network."""

import ast
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SCRIPTS: dict[str, str] = PYPROJECT["project"]["scripts"]
# Where a top-level folder of the source is found in the installed package.
INSTALLED_AS = {"wnv": "wnv", "conf": "wnv/conf", "data_manifests": "wnv/data_manifests"}
NOT_SOURCE = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*")


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command outside the repository and return its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    outcome = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert outcome.returncode == 0, f"{command}\n{outcome.stdout}\n{outcome.stderr}"
    return outcome.stdout


def copy_source(folder: Path) -> Path:
    """Copy the inputs of a build, so that no build writes to the repository."""
    for name in INSTALLED_AS:
        shutil.copytree(ROOT / name, folder / name, ignore=NOT_SOURCE)
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, folder)
    return folder


def shipped_files() -> set[str]:
    """The files a wheel must hold, under their installed names: all but the rooms' READMEs, for GitHub."""
    readmes = {*(ROOT / "wnv").glob("*/README.md"), ROOT / "conf" / "README.md"}
    return {
        f"{installed}/{path.relative_to(ROOT / source).as_posix()}"
        for source, installed in INSTALLED_AS.items()
        for path in (ROOT / source).rglob("*")
        if path.is_file()
        and path not in readmes
        and not any(part == "__pycache__" or part[0] == "." for part in path.relative_to(ROOT).parts)
    }


def package_files(wheel: Path) -> set[str]:
    """The files of a wheel, without its metadata."""
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist, and with the wheel that was built out of this sdist."""
    source = copy_source(tmp_path_factory.mktemp("source"))
    out = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source, cwd=out)
    return out


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel that was built from the tree itself."""
    source = copy_source(tmp_path_factory.mktemp("source"))
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", out, source, cwd=out)
    return next(out.glob("*.whl"))


def new_environment(folder: Path) -> Path:
    """A virtual environment with everything this one has, except wnv; gives its Python."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # The .pth files inside a folder that a .pth file names are not read: this environment's editable wnv stays out.
    (packages / "dependencies.pth").write_text("\n".join({*map(sysconfig.get_path, ("purelib", "platlib"))}))
    return python


def install(python: Path, *what: str | Path) -> None:
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "-q"]
    run(*pip, "--no-index", "--no-deps", "--no-build-isolation", *what, cwd=python.parent)


def requirement_name(requirement: str) -> str:
    return Requirement(requirement).name.lower().replace("_", "-")


def imported_by(source: str) -> set[str]:
    """Top-level names of all modules that the source imports, also inside functions."""
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules.add(node.module)
    return {module.split(".")[0] for module in modules}


def test_constraints_pin_every_dependency_exactly():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    assert "torch==2.13.0" in lines
    assert [line for line in lines if line.count("==") != 1 or "+" in line] == []
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    project = PYPROJECT["project"]
    wanted = project["dependencies"] + [
        requirement
        for extra in ("dev", "pose", "tensorboard")
        for requirement in project["optional-dependencies"][extra]
        if not requirement.startswith("wnv[")
    ]
    assert {requirement_name(requirement) for requirement in wanted} - pinned == set()


# Installed by those who use them: no release of these fits our versions.
NOT_DECLARED = {"depth_anything_3"}


@pytest.mark.slow  # reads the metadata of every installed distribution
def test_every_import_is_declared():
    distributions = packages_distributions()
    project = PYPROJECT["project"]
    runtime_extras = [
        requirement
        for extra, requirements in project["optional-dependencies"].items()
        if extra != "dev"
        for requirement in requirements
    ]
    declared = {requirement_name(requirement) for requirement in project["dependencies"] + runtime_extras}
    undeclared = {}
    for path in (ROOT / "wnv").rglob("*.py"):
        for module in imported_by(path.read_text()) - set(sys.stdlib_module_names) - {"wnv"} - NOT_DECLARED:
            providers = {name.lower().replace("_", "-") for name in distributions.get(module, [module])}
            if not providers & declared:
                undeclared.setdefault(module, []).append(str(path.relative_to(ROOT)))
    assert undeclared == {}


def test_wheel_holds_every_file_and_nothing_else(wheel):
    assert package_files(wheel) == shipped_files()


def test_wheel_carries_licence_notice_and_scripts(wheel):
    with zipfile.ZipFile(wheel) as archive:
        described = {Path(name).name: name for name in archive.namelist() if ".dist-info/" in name}
        scripts = archive.read(described["entry_points.txt"]).decode()
    assert {"LICENSE", "NOTICE"} <= set(described)
    assert all(f"{script} = {target}" in scripts for script, target in SCRIPTS.items())


@pytest.mark.slow
def test_sdist_builds_the_same_wheel(wheel, built):
    assert package_files(next(built.glob("*.whl"))) == package_files(wheel)
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        assert not any("/conf/" in name and "__pycache__" in name for name in archive.getnames())


@pytest.mark.slow
@pytest.mark.parametrize("form", ["wheel", "wheel from the sdist", "editable"])
def test_commands_start_anywhere(form, wheel, built, tmp_path):
    python = new_environment(tmp_path / "environment")
    if form == "editable":
        source = tmp_path / "source"
        source.mkdir()
        install(python, "--editable", copy_source(source))
    else:
        install(python, wheel if form == "wheel" else next(built.glob("*.whl")))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for module in ("wnv", "wnv.conf", "wnv.data_manifests"):
        file = run(python, "-c", f"import {module}; print({module}.__file__)", cwd=elsewhere).strip()
        assert Path(file).is_relative_to(tmp_path), f"{module} is not the installed one but {file}"
    for script in SCRIPTS:
        assert script in run(python.parent / script, "--help", cwd=elsewhere)
    assert list(elsewhere.iterdir()) == [], "--help wrote something"
