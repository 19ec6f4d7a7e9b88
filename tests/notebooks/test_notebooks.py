"""The notebooks: committed clean, and executed from top to bottom."""

import ast
import base64
import importlib.util
import io
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from nbclient.exceptions import CellExecutionError
from notebook_run import (
    NOTEBOOKS,
    code_cells,
    execute,
    parameters_of,
    read_notebook,
    shown,
    texts,
    with_parameters,
)
from PIL import Image
from posed_video import render_room

from wnv.checkpoints.read import read_checkpoint
from wnv.evaluation.records import read_records
from wnv.evaluation.summary import read_summary

NAMES = sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))
ROOT = NOTEBOOKS.parent


def defined_in(module: str) -> set[str]:
    """The names that a module defines or imports at its top, read without running it."""
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return names


def decoded(png: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        return np.asarray(image.convert("L"))


def test_these_are_the_notebooks_and_each_is_told_of() -> None:
    assert NAMES == ["evaluate.ipynb", "your_video.ipynb"]
    assert [name for name in NAMES if f"]({name})" not in (NOTEBOOKS / "README.md").read_text()] == []


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_an_execution_is_committed(name: str) -> None:
    notebook = read_notebook(name)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in code_cells(notebook):
        assert (cell.outputs, cell.execution_count) == ([], None), cell.id
        assert set(cell.metadata) <= {"tags"}, cell.id


@pytest.mark.parametrize("name", NAMES)
def test_parameters_come_first_and_code_is_introduced(name: str) -> None:
    notebook = read_notebook(name)
    assert {"OUT", "DEVICE"} <= parameters_of(notebook).keys()
    kinds = "".join(cell.cell_type[0] for cell in notebook.cells)
    assert kinds.startswith("m")
    assert "cccc" not in kinds, "four consecutive code cells without text between them"


@pytest.mark.parametrize("name", NAMES)
def test_it_defines_nothing_and_what_it_takes_from_wnv_is_there(name: str) -> None:
    taken = set()
    for cell in code_cells(read_notebook(name)):
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, ast.FunctionDef | ast.ClassDef), node.name
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "wnv":
                taken |= {(node.module, alias.name) for alias in node.names}
    assert taken
    assert [(module, one) for module, one in sorted(taken) if one not in defined_in(module)] == []


def test_they_are_clean() -> None:
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", *(NOTEBOOKS / name for name in NAMES)]
        ended = subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
def test_evaluate(place: Path) -> None:
    notebook = with_parameters(
        read_notebook("evaluate.ipynb"),
        DATA=["data=synthetic", "data.num_val_scenes=6", "data.image_size=[48,64]"],
        SCENE=1,
        VIEWS=[2, 3],
        NUM_FRAMES=3,
        SWEEP_STEPS=3,
        SWEEP_DATA=["data=synthetic", "data.num_val_scenes=3", "data.image_size=[16,24]"],
        DEVICE="cpu",
        OUT="out",
    )
    executed = execute(notebook, cwd=place)
    assert texts(executed, "stderr") == {}
    out = place / "out"

    summary = read_summary(out / "default")
    assert (summary.main.num_examples, len(read_records(out / "default"))) == (6, 6)
    output = texts(executed, "stdout")
    assert f"{summary.main.model['psnr'].mean:.2f}" in output["evaluate"]
    assert f"{summary.main.copy['psnr'].mean:.2f}" in output["evaluate"]
    assert "differs by" in output["model"]
    assert [variant.variant for variant in read_summary(out / "nested").variants] == ["views=2", "views=3"]
    for encoding in ("none", "gta", "geope"):
        run = out / "sweep" / encoding
        checkpoint = read_checkpoint(run)
        assert (checkpoint["global_step"], checkpoint["model_config"]["camera_encoding"]) == (3, encoding)
        assert len(read_records(out / "encodings" / encoding)) == 3
        assert re.search(rf"^{encoding} +KoNet", output["compare"], re.MULTILINE)
    assert "change from none" in output["compare"]

    pictures = {cell: decoded(png) for cell, png in shown(executed, "image/png").items()}
    assert [*pictures] == ["views", "cameras", "scatter", "paired", "look", "curve", "path", "encodings"]
    assert {cell for cell, picture in pictures.items() if picture.std() < 10} == set()
    assert "<video" in shown(executed, "text/html")["film"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("pycolmap") is None, reason="pycolmap has no wheel for this machine")
def test_your_video(place: Path) -> None:
    (place / "films").mkdir()
    render_room(place / "films" / "room.mp4", num_frames=24, width=224, height=126, supersample=1, fps=Fraction(8))
    notebook = with_parameters(
        read_notebook("your_video.ipynb"),
        VIDEOS="films",
        INGEST=["pose.max_frames=12", "executor.num_workers=1"],
        SHORT_SIDE=16,
        STEPS=4,
        TRAIN=["data.batch_size=1"],
        NUM_CONTEXT=2,
        NUM_FRAMES=3,
        DEVICE="cpu",
        OUT="out",
    )
    executed = execute(notebook, cwd=place)
    assert texts(executed, "stderr") == {}
    out = place / "out"

    output = texts(executed, "stdout")
    assert "pack: 1 done" in output["run"]
    assert "All went well." in output["status"]
    assert "12 frames of 224 x 126 pixels" in output["scene"]
    assert "16 x 32 pixels, 4 steps" in output["train"]
    assert read_checkpoint(out / "run")["global_step"] == 4
    summary = read_summary(out / "evaluation")
    assert summary.main.num_examples == 2  # of 12 frames, every eighth
    assert f"{summary.main.model['psnr'].mean:.2f}" in output["evaluate"]
    for path in output["files"].split():
        assert (place / path).exists()

    pictures = {cell: decoded(png) for cell, png in shown(executed, "image/png").items()}
    assert [*pictures] == ["frames", "path", "learning", "sheet", "stills"]
    assert {cell for cell, picture in pictures.items() if picture.std() < 10} == set()
    pages = shown(executed, "text/html")
    assert "<video" in pages["clip"]
    assert "<video" in pages["render"]
    assert "camera path of" in pages["report"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("pycolmap") is None, reason="pycolmap has no wheel for this machine")
def test_a_video_that_is_refused_is_told_with_what_to_do(place: Path) -> None:
    (place / "films").mkdir()
    film = place / "films" / "turn.mp4"
    render_room(film, num_frames=24, width=224, height=126, supersample=1, fps=Fraction(8), turn_only=True)
    notebook = with_parameters(
        read_notebook("your_video.ipynb"), VIDEOS="films", INGEST=["executor.num_workers=1"], OUT="out"
    )
    with pytest.raises(CellExecutionError, match="no scene"):
        execute(notebook, cwd=place)
    output = texts(notebook, "stdout")
    assert "no_parallax" in output["status"]
    assert "walking sideways" in output["status"]
    assert [*output] == ["run", "status"]  # and nothing after them
