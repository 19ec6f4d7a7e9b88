"""Unusable input ends in one line and exit code 2, and changes no file."""

import importlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from wnv.models.konet import KoNet
from wnv.scenes.image_codec import encode_image
from wnv.scenes.index import build_index
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import Frame, SceneInfo

HEIGHT, WIDTH, NUM_FRAMES = 24, 40, 8
INDICES = {"absent": ("x", [0, 7], [2, 3]), "beyond": ("a", [0, 7], [2, 8])}
NETWORK = ["model.dim=32", "model.num_layers=1", "model.num_heads=2", "model.mlp_dim=32"]
VIEWS = ["sampler.min_gap=5", "sampler.max_gap=6", "sampler.num_target=1"]
# Default arguments of each command; a case may replace them.
GIVEN = {
    "wnv-eval": "weights=weights data=scenes data.root=scenes data.image_size=[16,24] data.num_workers=0 lpips=null "
    "protocol=extrapolate protocol.min_gap=4 protocol.max_gap=5 protocol.num_target=2 out=new",
    "wnv-render": "weights=weights scene=scenes/a.zip num_views=2 min_side=1 out=new",
    "wnv-view": "weights=weights scene=scenes/a.zip port=0 out=new",
    "wnv-export": "",
    "wnv-train": "trainer.max_steps=1 optim.warmup_steps=0 run_dir=new " + " ".join(NETWORK),
}
INDEX = ["protocol=re10k", "~protocol.min_gap", "~protocol.max_gap"]
ON_SCENES = ["data=scenes", "data.image_size=[16,24]", "data.num_workers=0", "data.batch_size=2"]
ON_SCENES += ["data.root=scenes", "data.val_root=${data.root}", *[f"data.{item}" for item in VIEWS]]
TRAIN = [*ON_SCENES, *[f"data.val_{item}" for item in VIEWS]]
VALIDATED = [*ON_SCENES, "data/sampler@data.val_sampler=index"]
SHAPES = r"spoilt.*tokenizer\.context\.weight"
MIXED = "40 x 24.*40 x 20"
CASES = [
    # An index that names absent scenes, or frames that do not exist; frames typed by hand.
    ("wnv-eval", [*INDEX, "protocol.index=absent.json"], r"absent\.json.*x"),
    ("wnv-eval", [*INDEX, "protocol.index=beyond.json"], r"beyond\.json.*8"),
    ("wnv-train", [*VALIDATED, "data.val_sampler.path=absent.json"], r"absent\.json"),
    ("wnv-train", [*VALIDATED, "data.val_sampler.path=beyond.json"], r"beyond\.json"),
    ("wnv-render", ["context=[0,9]"], "context.*9.*'a'"),
    ("wnv-view", ["context=[0,9]"], "context.*9.*'a'"),
    # Weights of another shape, and files that are none.
    ("wnv-eval", ["weights=spoilt"], SHAPES),
    ("wnv-eval", ["weights=spoilt.ckpt"], SHAPES),
    ("wnv-render", ["weights=spoilt"], SHAPES),
    ("wnv-view", ["weights=spoilt"], SHAPES),
    ("wnv-export", ["weights=spoilt", "out=new"], SHAPES),
    ("wnv-export", ["from=lvsm", "checkpoint=text", "out=new"], "text"),
    ("wnv-train", ["init_from=large"], "large.*dim=64.*32"),
    ("wnv-train", ["resume=large.ckpt"], r"large\.ckpt.*dim=64.*32"),
    ("wnv-eval", ["weights=text"], "text"),
    ("wnv-eval", ["weights=cut"], r"cut/model\.safetensors"),
    # Images of mixed sizes.
    ("wnv-eval", ["data.root=mixed"], MIXED),
    ("wnv-render", ["scene=mixed/a.zip"], MIXED),
    ("wnv-view", ["scene=mixed"], MIXED),
    ("wnv-export", ["scene=mixed/a.zip", "format=nerfstudio", "out=new"], MIXED),
    ("wnv-export", ["scene=mixed", "format=lvsm", "out=new"], MIXED),
    ("wnv-train", [*TRAIN, "data.root=mixed"], MIXED),
    # An empty folder.
    ("wnv-eval", ["data.root=empty"], "empty.*wnv-data import"),
    ("wnv-eval", ["weights=empty"], "empty"),
    ("wnv-render", ["scene=empty"], "empty.*folder"),
    ("wnv-view", ["scene=empty"], "empty"),
    ("wnv-export", ["scene=empty", "format=colmap", "out=new"], "empty"),
    ("wnv-train", [*TRAIN, "data.root=empty"], "empty"),
    ("wnv-train", ["resume=last", "run_dir=empty"], r"last\.ckpt"),
    ("wnv-view", ["port=TAKEN"], "port="),
    # Existing results, also if their replacement fails; a file in place of a folder.
    ("wnv-eval", ["out=done"], "done.*resume=true.*overwrite=true"),
    ("wnv-eval", ["out=done", "overwrite=true", "data.root=mixed"], MIXED),
    ("wnv-eval", ["make_index=absent.json"], r"absent\.json.*overwrite=true"),
    ("wnv-render", ["out=done"], r"done/path\.mp4.*overwrite=true"),
    ("wnv-render", ["out=done", "overwrite=true", "scene=mixed/a.zip"], MIXED),
    ("wnv-export", ["scene=scenes/a.zip", "format=lvsm", "out=done"], "done.*overwrite=true"),
    ("wnv-export", ["weights=weights", "out=large"], "large.*overwrite=true"),
    ("wnv-train", ["run_dir=done"], "done.*resume=last"),
    ("wnv-eval", ["out=text"], "text"),
    ("wnv-view", ["out=text"], "out=text"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes, weights, indices and results, valid or damaged in one way each."""
    folder = tmp_path_factory.mktemp("world")
    for root in ("scenes", "mixed"):
        for name in ("a", "b"):
            _write_scene(folder / root, name)
        if root == "mixed":
            _spoil_sizes(folder / root / "a.zip")
        build_index(folder / root)
    models = {
        name: KoNet(dim=dim, num_layers=1, num_heads=2, mlp_dim=32) for name, dim in (("weights", 32), ("large", 64))
    }
    for name, model in models.items():
        model.save_pretrained(folder / name)
        state = {f"model.{key}": value for key, value in models["large"].state_dict().items()}
        checkpoint = {"state_dict": state, "model_config": model.config, "global_step": 1}
        torch.save(checkpoint, folder / {"weights": "spoilt.ckpt", "large": "large.ckpt"}[name])
    for name, source in (("spoilt", "large"), ("cut", "weights")):
        shutil.copytree(folder / source, folder / name)
    shutil.copy(folder / "weights" / "config.json", folder / "spoilt")
    os.truncate(folder / "cut" / "model.safetensors", 9000)
    for name, (scene, context, target) in INDICES.items():
        (folder / f"{name}.json").write_text(json.dumps({scene: {"context": context, "target": target}}))
    (folder / "empty").mkdir()
    (folder / "text").write_text("hello")
    (folder / "done").mkdir()
    for name in ("records.jsonl", "evaluation.json", "summary.json", "path.mp4", "config.yaml", "last.ckpt"):
        (folder / "done" / name).write_text("weeks of work")
    return folder


def _write_scene(root: Path, name: str) -> None:
    frames = []
    for i in range(NUM_FRAMES):
        pose = np.eye(4)
        pose[0, 3] = 0.3 * i
        frames.append(Frame(time_s=i, K=np.array([[30.0, 0, 20], [0, 30, 12], [0, 0, 1]]), camtoworld=pose))
    info = SceneInfo(id=name, kind="static", width=WIDTH, height=HEIGHT, frames=tuple(frames))
    write_scene(root, info, [np.full((HEIGHT, WIDTH, 3), 20 * i, np.uint8) for i in range(NUM_FRAMES)])


def _spoil_sizes(path: Path) -> None:
    """Replace all frames but the first by lower ones."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    other = encode_image(np.zeros((HEIGHT - 4, WIDTH, 3), np.uint8), image_format="jpeg")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, other if name.startswith("frames/") and "000000" not in name else content)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def typed(taken_port: int) -> Callable[[str, list[str]], list[str]]:
    """Return the default arguments of a command, except those that a case replaces, and the case's own."""

    def make(command: str, arguments: list[str]) -> list[str]:
        arguments = [argument.replace("TAKEN", str(taken_port)) for argument in arguments]
        names = {argument.partition("=")[0].lstrip("~") for argument in arguments}
        given = [item for item in GIVEN[command].split() if item.partition("=")[0] not in names]
        return [*given, *[item for item in arguments if not item.startswith("~")]]

    return make


def contents(folder: Path) -> dict[str, tuple[int, int] | None]:
    """Return every path below a folder, with size and modification time of files."""
    found = {}
    for path in folder.rglob("*"):
        status = path.stat()
        found[str(path.relative_to(folder))] = None if path.is_dir() else (status.st_size, status.st_mtime_ns)
    return found


@pytest.mark.parametrize(
    ("command", "arguments", "message"), CASES, ids=[f"{case[0]} {' '.join(case[1][-2:])}" for case in CASES]
)
def test_unusable_input_is_one_line_and_changes_nothing(
    world: Path,
    typed: Callable,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(world)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    device = [] if command == "wnv-export" else ["device=cpu"]
    monkeypatch.setattr(sys, "argv", [command, *device, *typed(command, arguments)])
    before = contents(world)
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(f"wnv.cli.{command.removeprefix('wnv-')}").main()
    stderr = capsys.readouterr().err
    assert stop.value.code == 2, stderr
    assert stderr.startswith(f"{command}: error: ")
    assert stderr.count("\n") == 1
    assert re.search(message, stderr), stderr
    assert contents(world) == before


def test_outdated_results_do_not_stay_beside_new_records(
    world: Path, typed: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scene `b` is scored, then `a` fails: the evaluation can be resumed and has no outdated summary."""
    shutil.copytree(world / "done", tmp_path / "done")
    shutil.copytree(world / "mixed", tmp_path / "mixed")
    shutil.copytree(world / "weights", tmp_path / "weights")
    lines = (tmp_path / "mixed" / "index.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "mixed" / "index.jsonl").write_text("".join(sorted(lines, key=lambda line: '"b"' not in line)))
    monkeypatch.chdir(tmp_path)
    arguments = typed("wnv-eval", ["data.root=mixed", "data.batch_size=1", "out=done", "overwrite=true"])
    monkeypatch.setattr(sys, "argv", ["wnv-eval", "device=cpu", *arguments])
    with pytest.raises(SystemExit) as stop:
        importlib.import_module("wnv.cli.eval").main()
    assert stop.value.code == 2
    assert re.search(MIXED, capsys.readouterr().err)
    assert "weeks of work" not in (tmp_path / "done" / "records.jsonl").read_text()
    assert not (tmp_path / "done" / "summary.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("wnv-eval", ["data.root=mixed", "~out"]),
        ("wnv-train", ["model.dim=33", "~run_dir"]),
    ],
    ids=["wnv-eval", "wnv-train"],
)
def test_real_processes_without_a_display(world: Path, typed: Callable, command: str, arguments: list[str]) -> None:
    before = contents(world)
    done = subprocess.run(
        [sys.executable, "-m", f"wnv.cli.{command.removeprefix('wnv-')}", *typed(command, arguments)],
        cwd=world,
        env={name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"{command}: error: ")
    assert done.stderr.count("\n") == 1
    assert contents(world) == before
