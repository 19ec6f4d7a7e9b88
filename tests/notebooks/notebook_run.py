"""Executes a notebook as a reader would, in a kernel of this Python, with other values for its parameters."""

import ast
import json
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
_KERNEL = "of-the-tests"


def read_notebook(name: str) -> NotebookNode:
    """Read and validate a committed notebook."""
    notebook = nbformat.read(NOTEBOOKS / name, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    return notebook


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters_of(notebook: NotebookNode) -> dict[str, Any]:
    """Names and values of the first code cell, which holds nothing else."""
    first = code_cells(notebook)[0]
    assert first.metadata.get("tags") == ["parameters"]
    values = {}
    for statement in ast.parse(first.source).body:
        assert isinstance(statement, ast.Assign), f"the cell of parameters holds {ast.unparse(statement)}"
        values[statement.targets[0].id] = ast.literal_eval(statement.value)
    return values


def with_parameters(notebook: NotebookNode, **values: Any) -> NotebookNode:
    """The notebook with some parameters replaced."""
    known = parameters_of(notebook)
    assert values.keys() <= known.keys(), f"no parameters: {sorted(values.keys() - known.keys())}"
    code_cells(notebook)[0].source = "\n".join(f"{name} = {value!r}" for name, value in (known | values).items())
    return notebook


def kernel_environment(folder: Path) -> dict[str, str]:
    """Search path for Jupyter kernels with only this Python, regardless of those registered on the machine."""
    kernel = folder / "data" / "kernels" / _KERNEL
    kernel.mkdir(parents=True)
    spec = {
        "argv": [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python of the tests",
        "language": "python",
    }
    (kernel / "kernel.json").write_text(json.dumps(spec))
    return {
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"),
    }


def execute(notebook: NotebookNode, *, cwd: Path) -> NotebookNode:
    """Execute from top to bottom in a folder; the first cell that fails raises with its traceback."""
    client = NotebookClient(notebook, kernel_name=_KERNEL, timeout=600, resources={"metadata": {"path": str(cwd)}})
    return client.execute()


def texts(notebook: NotebookNode, stream: str) -> dict[str, str]:
    """Output of the cells to stdout or stderr, by id; cells without output are left out."""
    found: dict[str, str] = {}
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == stream:
                found[cell.id] = found.get(cell.id, "") + output.text
    return found


def shown(notebook: NotebookNode, media_type: str) -> dict[str, str]:
    """Outputs of the cells of a MIME type (`image/png` in base64), by id."""
    return {
        cell.id: output.data[media_type]
        for cell in code_cells(notebook)
        for output in cell.outputs
        if media_type in output.get("data", {})
    }
