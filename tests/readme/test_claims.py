"""What the README says about names, sizes and files is so."""

import itertools
import re
import tomllib
from pathlib import Path

import torch
import wnv.conf
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from wnv.geometry.trajectories import TRAJECTORIES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONF = Path(wnv.conf.__path__[0])
MAX_LINES = 350
NOT_TOLD = {"smoke"}  # an experiment for tests alone


def read_table(heading: str) -> list[list[str]]:
    """The rows of the README's table whose first column has this heading; cells without backticks."""
    lines = README.splitlines()
    (start,) = (i for i, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    return [[cell.strip().replace("`", "") for cell in row.strip("|").split("|")] for row in rows]


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def test_it_is_not_long() -> None:
    assert len(README.splitlines()) <= MAX_LINES


def test_what_it_links_to_is_there() -> None:
    targets = [target for target in re.findall(r"\]\(([^)\s#]+)", README) if "://" not in target]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_experiments_are_those_of_the_configuration() -> None:
    told = {name for name, _ in read_table("experiment")}
    assert told == {file.stem for file in (CONF / "experiment").glob("*.yaml")} - NOT_TOLD


def test_models_have_the_sizes_that_it_tells() -> None:
    rows = []
    for name in sorted(file.stem for file in (CONF / "model").glob("*.yaml")):
        with initialize_config_module("wnv.conf", version_base="1.3"):
            cfg = compose("train", [f"model={name}"]).model
        with torch.device("meta"):
            model = instantiate(cfg)
        millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        sizes = [cfg.num_layers, cfg.dim, cfg.num_heads, cfg.mlp_dim, cfg.patch_size]
        rows.append([name, *map(str, sizes), f"{millions:.1f} M"])
    assert sorted(read_table("model")) == rows


def test_rooms_are_those_of_the_tree() -> None:
    told = {name for cells in read_table("room") for name in cells[0].split(", ")}
    rooms = {f"wnv/{file.parent.name}" for file in (ROOT / "wnv").glob("*/__init__.py")}
    assert told == {*rooms, "conf"}


def test_choices_that_it_names_are_in_the_configuration() -> None:
    choices = [span.split("=") for span in spans(README) if re.fullmatch(r"\w+=\w+", span)]
    groups = [(group, option) for group, option in choices if (CONF / group).is_dir()]
    assert groups
    assert [choice for choice in groups if not (CONF / choice[0] / f"{choice[1]}.yaml").is_file()] == []


def test_the_operators_that_an_npu_lacks_are_counted() -> None:
    lines = (ROOT / "tests" / "fake_npu" / "no_npu_kernel_ops.txt").read_text().splitlines()
    count = sum(line.startswith("aten::") for line in lines)
    assert f"{count} operators" in " ".join(README.split())


def test_extras_and_camera_paths_are_all_named() -> None:
    (extras,) = re.findall(r"Extras: (.*?)\.\n", README, re.DOTALL)
    assert set(spans(extras)) == set(PYPROJECT["optional-dependencies"])
    (paths,) = re.findall(r"paths are (.*?)\.\n", README, re.DOTALL)
    assert set(spans(paths)) == set(TRAJECTORIES)
