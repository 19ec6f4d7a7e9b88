"""Names, sizes and files in the READMEs are those of the package."""

import itertools
import re
import tomllib
from pathlib import Path

import pytest
import torch
import wnv.conf
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from readme_walk import DOCUMENTS, ROOT, TEXTS

from wnv.geometry.trajectories import TRAJECTORIES

CONF = Path(wnv.conf.__path__[0])
MAX_LINES = {"README.md": 200, "CONTRIBUTING.md": 200, "wnv/ingest/README.md": 210}


def read_table(text: str, heading: str) -> list[list[str]]:
    """Return the rows of the table whose first column has this heading; cells without backticks."""
    lines = text.splitlines()
    (start,) = (i for i, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    return [[cell.strip().replace("`", "") for cell in row.strip("|").split("|")] for row in rows]


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


@pytest.mark.parametrize("name", [*DOCUMENTS, "CONTRIBUTING.md", "notebooks/README.md", "data_manifests/README.md"])
def test_links_lead_somewhere_and_documents_are_short(name: str) -> None:
    document = ROOT / name
    text = document.read_text()
    targets = [target for target in re.findall(r"\]\(([^)\s#]+)", text) if "://" not in target]
    assert [target for target in targets if not (document.parent / target).exists()] == []
    assert len(text.splitlines()) <= MAX_LINES.get(name, 160)


def test_experiments_are_those_of_the_configuration() -> None:
    listed = {name for name, _ in read_table(TEXTS["wnv/training/README.md"], "experiment")}
    assert listed == {file.stem for file in (CONF / "experiment").glob("*.yaml")}


def test_models_have_the_listed_sizes() -> None:
    rows = []
    for name in sorted(file.stem for file in (CONF / "model").glob("*.yaml")):
        with initialize_config_module("wnv.conf", version_base="1.3"):
            cfg = compose("train", [f"model={name}"]).model
        with torch.device("meta"):
            model = instantiate(cfg)
        millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        sizes = [cfg.num_layers, cfg.dim, cfg.num_heads, cfg.mlp_dim, cfg.patch_size]
        rows.append([name, *map(str, sizes), f"{millions:.1f} M"])
    assert sorted(read_table(TEXTS["wnv/training/README.md"], "model")) == rows


def test_rooms_are_those_of_the_tree() -> None:
    table = read_table((ROOT / "CONTRIBUTING.md").read_text(), "room")
    listed = {name for cells in table for name in cells[0].split(", ")}
    rooms = {f"wnv/{file.parent.name}" for file in (ROOT / "wnv").glob("*/__init__.py")}
    assert listed == {*rooms, "conf"}


def test_choices_are_in_the_configuration() -> None:
    text = "\n".join(TEXTS.values())
    choices = [span.split("=") for span in spans(text) if re.fullmatch(r"\w+=\w+", span)]
    groups = [(group, option) for group, option in choices if (CONF / group).is_dir() and option != "null"]
    assert groups
    missing = [choice for choice in groups if not (CONF / choice[0] / f"{choice[1]}.yaml").is_file()]
    assert missing == []


def test_operators_without_npu_kernel_are_counted() -> None:
    lines = (ROOT / "tests" / "fake_npu" / "no_npu_kernel_ops.txt").read_text().splitlines()
    count = sum(line.startswith("aten::") for line in lines)
    assert f"{count} operators" in " ".join(TEXTS["wnv/training/README.md"].split())


def test_extras_api_and_camera_paths_are_all_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r"Extras: (.*?)\.\n", TEXTS["README.md"], re.DOTALL)
    assert set(spans(extras)) == set(project["optional-dependencies"])
    table = read_table(TEXTS["README.md"], "name")
    assert set(re.findall(r"wnv\.(\w+)", " ".join(cells[0] for cells in table))) == set(wnv.__all__) - {"__version__"}
    assert set(TRAJECTORIES) <= set(spans(TEXTS["wnv/evaluation/README.md"]))
