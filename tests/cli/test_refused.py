"""Starts that cannot succeed are answered in one line with exit code 2, and change no file."""

import copy
import importlib
import json
import os
import re
import shlex
import shutil
import socket
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf, read_write

from wnv.cli import data
from wnv.cli.app import USER_ERRORS, describe_error, import_function
from wnv.cli.composition import described
from wnv.cli.overrides import parse, readable
from wnv.cli.schema import check_config
from wnv.ingest.ledger import Ledger
from wnv.ingest.manifest.line import ManifestLine
from wnv.models.konet import KoNet
from wnv.scenes.image_codec import encode_image
from wnv.scenes.index import build_index

# Arguments of every line of a command, unless it sets them itself.
GIVEN = {
    "wnv-bench": "bench.dim=32 bench.num_layers=1 bench.image_size=[16,24] bench.repeats=1",
    "wnv-data import": "format=nerfstudio source=nowhere out=new",
    "wnv-data run": "root=new",
    "wnv-demo": "train_experiment=smoke minutes=1 out=new",
    "wnv-eval": "weights=weights data=scenes data.root=scenes data.image_size=[16,24] data.num_workers=0 lpips=null",
    "wnv-export": "",
    "wnv-render": "weights=weights scene=scenes/a.zip num_views=2 min_side=1 out=new",
    "wnv-report": "runs=[done]",
    "wnv-train": "trainer.max_steps=1 optim.warmup_steps=0 run_dir=new "
    "model.dim=32 model.num_layers=1 model.num_heads=2 model.mlp_dim=32",
    "wnv-view": "weights=weights scene=scenes/a.zip port=0 out=new",
}
GAPS = " ".join(
    f"data.{name}.{gap}" for name in ("sampler", "val_sampler") for gap in ("min_gap=5", "max_gap=6", "num_target=1")
)
TRAIN = f"wnv-train data=scenes data.root=scenes data.val_root=scenes data.image_size=[16,24] data.num_workers=0 {GAPS}"
INDEXED = f"{TRAIN.partition(' data.val_sampler')[0]} data/sampler@data.val_sampler=index"
EXTRAPOLATE = "wnv-eval protocol=extrapolate protocol.min_gap=4 protocol.max_gap=5 protocol.num_target=2"
SHAPES = r"spoilt.*tokenizer\.context\.weight"
MIXED = "40 x 24.*40 x 20"

DATA = [
    ("wnv-data import format=obj", "format .*nerfstudio.* obj"),
    ("wnv-data import format=colmap source=???", "source .*source="),
    ("wnv-data import format=re10k scene_id=x", "format=re10k .*scene_id"),
    ("wnv-data import", "nowhere"),
    ("wnv-data import overwrite=no", "overwrite .*'no'"),
    ("wnv-data import max_side=small", "max_side .*'small'"),
    ("wnv-data import fps=[1,2]", r"fps .*\[1, 2\]"),
    ("wnv-data import exists=maybe", "exists .*'maybe'"),
    ("wnv-data import out=s3://bucket/scenes", "out .*s3://bucket/scenes"),
    ("wnv-data verify path=nowhere", "nowhere"),
    ("wnv-data index path=nowhere", "nowhere"),
    ("wnv-data run", "new.*source="),
    ("wnv-data clip root=new", r"new.*ledger\.sqlite"),
    ("wnv-data report root=new", r"new.*ledger\.sqlite"),
    ("wnv-data status root=s3://bucket/root", "root.*s3://bucket/root"),
    ("wnv-data run source=我的视频", "我的视频"),
    ("wnv-data run source=nothing", "nothing.* 0 files"),
    ("wnv-data run source=https://b23.tv", "https://b23.tv: .*single video"),
    ("wnv-data run source=list.csv", "list.csv.*kind="),
    ("wnv-data run source=walk.csv kind=moving", "kind.*moving"),
    ("wnv-data run source=walk.csv val_fraction=much", "val_fraction.*much"),
    ("wnv-data run source=walk.csv val_fraction=0.5 test_fraction=0.5", "fraction.*0.5 and 0.5"),
    ("wnv-data run source=walk.csv retry=nonsense", "retry.*nonsense"),
    ("wnv-data run source=walk.csv start=3 end=1", "start=3 and end=1"),
    ("wnv-data run source=walk.csv limit=few", "limit.*few"),
    ("wnv-data run source=walk.csv fetch.cookies=none.txt", "none.txt"),
    ("wnv-data run source=walk.csv clip.short_side=35", r"short_side.*\(config key clip\)"),
    ("wnv-data run source=walk.csv fetch.videos=lost", "videos.*lost"),
    ("wnv-data run source=[nothing,.]", "one folder, got"),
    ("wnv-data run root=root source=walk.csv val_fraction=0.5", r"val_fraction=0\.25.*got 0\.5"),
    ("wnv-data run root=root keys=[url:http://b.example]", "keys: url:http://b.example"),
    ("wnv-data run root=root executor.num_workers=0", "num_workers.*0"),
    ("wnv-data clip root=root redo=[pose]", "redo=pose.*clip"),
    ("wnv-data report root=root out=walk.csv", "walk.csv exists"),
    ("wnv-data report root=root num_scenes=many", "num_scenes.*many"),
]
EVALUATION = [
    ("wnv-eval protocol=re10k", r"protocol\.index"),
    ("wnv-eval protocol=re10k protocol.index=nowhere.json", r"nowhere\.json"),
    ("wnv-eval protocol=re10k protocol.index=absent.json protocol.num_target=2", r"absent\.json.*x"),
    ("wnv-eval protocol=re10k protocol.index=beyond.json protocol.num_target=2", r"beyond\.json.*8"),
    ("wnv-eval protocol=nested", "26 frames"),
    ("wnv-eval protocol=dynamic protocol.masks=nowhere", "nowhere"),
    ("wnv-eval protocol=zoom protocol.zooms=[0.5]", "zooms"),
    ("wnv-eval protocol=re10k make_index=x.json protocol.index=absent.json protocol.num_target=2", "protocol=re10k"),
    ("wnv-eval make_index=x.txt", r"x\.txt"),
    (f"{EXTRAPOLATE} make_index=absent.json", r"absent\.json.*overwrite=true"),
    ("wnv-eval lpips=resnet", "lpips.*resnet"),
    ("wnv-eval num_sheet_scenes=-1", "num_sheet_scenes.*-1"),
    ("wnv-eval data.root=null", r"data\.val_root"),
    (f"{EXTRAPOLATE} data.image_size=[15,24]", "patch_size=8"),
    (f"{EXTRAPOLATE} data.root=mixed", MIXED),
    (f"{EXTRAPOLATE} data.root=empty", "empty.*wnv-data import"),
    (f"{EXTRAPOLATE} weights=konet_huge", "konet_huge"),
    (f"{EXTRAPOLATE} weights=spoilt", SHAPES),
    (f"{EXTRAPOLATE} weights=spoilt.ckpt", SHAPES),
    (f"{EXTRAPOLATE} weights=text", "text"),
    (f"{EXTRAPOLATE} weights=cut", r"cut/model\.safetensors"),
    (f"{EXTRAPOLATE} weights=empty", "empty"),
    ("wnv-report runs=[]", "runs"),
    ("wnv-report runs=[nowhere]", "nowhere"),
    ("wnv-report runs=[empty]", "empty"),
    ("wnv-report runs=[done] out=text", "text"),
    ("wnv-report runs=[done] overwrite=perhaps", "overwrite.*'perhaps'"),
    ("wnv-report title=[1]", "title"),
    ("wnv-report runs=[broken]", r"broken/metrics\.csv, line 2"),
    ("wnv-bench attention bench.device=abacus", "abacus"),
    ("wnv-bench attention out=text", "text"),
]
RENDERING = [
    ("wnv-render scene=nowhere.zip", r"nowhere\.zip"),
    ("wnv-render scene=synthetic:first", "synthetic:first"),
    ("wnv-render scene=synthetic:0 context=[0,1]", "context"),
    ("wnv-render scene=synthetic:0 pose_normalization=first", r"data\.pose_normalization=first"),
    ("wnv-render scene=synthetic:0 trajectory=recorded", "trajectory=recorded"),
    ("wnv-render scene=empty", "empty.*folder"),
    ("wnv-render scene=mixed/a.zip", MIXED),
    ("wnv-render num_views=many", "num_views"),
    ("wnv-render context=3", "context"),
    ("wnv-render context=[0,9]", "context.*9.*'a'"),
    ("wnv-render num_context=99", "num_context.*99"),
    ("wnv-render image_size=[64]", "image_size"),
    ("wnv-render image_size=[20,24]", "patch_size=8"),
    ("wnv-render time=[0,end]", "time"),
    ("wnv-render trajectory=zigzag", "trajectory"),
    ("wnv-render trajectory_options={speed:2}", "speed"),
    ("wnv-render side_by_side=true", "side_by_side=true"),
    ("wnv-render trajectory=recorded context=[2]", r"context=\[2\]"),
    ("wnv-render trajectory=recorded time=0.5", "time"),
    ("wnv-render render_size=[20,24]", "render_size"),
    ("wnv-render output_size=[0,24]", "output_size"),
    ("wnv-render weights=spoilt", SHAPES),
    ("wnv-view weights=nobodys", "nobodys"),
    ("wnv-view context=[0,9]", "0 to 7.*9"),
    ("wnv-view image_size=[20,24]", "height"),
    ("wnv-view port=high", "port.*high"),
    ("wnv-view port=TAKEN", "port="),
    ("wnv-view host=nowhere.invalid", r"host=nowhere\.invalid"),
    ("wnv-view fps=0", "fps"),
    ("wnv-view moving_side=0", "moving_side"),
    ("wnv-view out=text", "out=text"),
]
EXPORT = [
    ("wnv-export scene=scenes/a.zip out=new format=obj", "format.*obj"),
    ("wnv-export scene=scenes/no.zip out=new format=colmap", r"scenes/no\.zip"),
    ("wnv-export scene=scenes/a.zip format=colmap", "out="),
    ("wnv-export scene=scenes/a.zip out=s3://bucket/out format=colmap", "out.*s3://bucket/out"),
    ("wnv-export scene=scenes/a.zip out=new format=colmap overwrite=no", "overwrite.*'no'"),
    ("wnv-export scene=scenes/a.zip out=done format=lvsm", "done.*overwrite=true"),
    ("wnv-export scene=mixed out=new format=lvsm", MIXED),
    ("wnv-export scene=empty out=new format=colmap", "empty"),
    ("wnv-export out=new", "scene=.*weights=.*from="),
    ("wnv-export weights=a scene=b out=new", "scene=b and weights=a"),
    ("wnv-export weights=konet_tiny out=new format=colmap", "format.*scene="),
    ("wnv-export weights=konet_tiny out=new ray_code=plucker", "ray_code.*from="),
    ("wnv-export weights=konet_tiny", "out="),
    ("wnv-export weights=konet_tiny out=new dtype=int8", "dtype.*bf16.*int8"),
    ("wnv-export weights=konet_tiny out=new hub=konet", "owner/name.*konet"),
    ("wnv-export weights=konet_tiny out=new private=no", "private"),
    ("wnv-export weights=konet_tiny out=new license=2", "license"),
    ("wnv-export weights=konet_tiny out=new datasets=me/rooms", "datasets.*me/rooms"),
    ("wnv-export weights=konet_tiny out=new evaluations=[scenes]", r"scenes.*summary\.json"),
    ("wnv-export weights=konet_tiny hub=me/konet", "out=.*konet_tiny"),
    ("wnv-export weights=nowhere out=new", "no weights at 'nowhere'"),
    ("wnv-export weights=spoilt out=new", SHAPES),
    ("wnv-export weights=weights out=large", "large.*overwrite=true"),
    ("wnv-export from=gs checkpoint=x out=new", "from.*lvsm, prope.*gs"),
    ("wnv-export from=lvsm out=new", "checkpoint="),
    ("wnv-export from=lvsm checkpoint=text out=new", "text"),
    ("wnv-export from=lvsm checkpoint=x out=new ray_code=none", "ray_code.*num_heads"),
    ("wnv-export from=lvsm checkpoint=x out=new num_heads=many", "num_heads"),
]
TRAINING = [
    (f"{TRAIN} data.root=mixed", MIXED),
    (f"{TRAIN} data.root=empty", "empty"),
    (f"{TRAIN} data.image_size=[16,23]", "width.*23"),
    (f"{INDEXED} data.val_sampler.path=absent.json", r"absent\.json"),
    (f"{INDEXED} data.val_sampler.path=beyond.json", r"beyond\.json"),
    ("wnv-train init_from=large", "large.*dim=64.*32"),
    ("wnv-train init_from=nowhere", "nowhere"),
    ("wnv-train resume=large.ckpt", r"large\.ckpt.*dim=64.*32"),
    ("wnv-train resume=nowhere.ckpt", r"nowhere\.ckpt"),
    ("wnv-train resume=last run_dir=empty", r"last\.ckpt"),
    ("wnv-train run_dir=done", "done.*resume=last"),
    ("wnv-train optim.warmup_steps=-1", "warmup_steps.*-1"),
    ("wnv-train precision=fp16", "precision=fp16"),
    ("wnv-train trainer.precision=16-true", "16-true"),
    ("wnv-train trainer.accelerator=abacus", "abacus"),
    ("wnv-train trainer.devices=none", r"trainer\.devices.*'none'"),
    ("wnv-train trainer.max_steps=abc", r"trainer\.max_steps .*integer.*'abc'"),
    ("wnv-train trainer.max_steps=1.5", r"trainer\.max_steps .*integer.*1\.5"),
    ("wnv-train optim.lr=abc", r"optim\.lr .*number.*'abc'"),
    ("wnv-train data.zoom_range=3", r"data\.zoom_range .*list.*3"),
    ("wnv-train seed=abc", "seed .*integer.*'abc'"),
    ("wnv-train module.compile=maybe", r"compile .*auto, off, blocks.*'maybe'"),
    ("wnv-train optimized_metric=val/psn", r"optimized_metric .*val/psn'.*val/psnr\?"),
    ("wnv-train callbacks.checkpoints.monitor=val/psn", r"callbacks\.checkpoints\.monitor .*val/psnr\?"),
    ("wnv-train trainer.max_steps=-1", r"trainer\.max_steps.*-1"),
    ("wnv-train trainer.overfit_batches=-3", "trainer.*-3.*overfit_batches"),
    ("wnv-train data.batch_size=0", "batch_size.*0"),
    ("wnv-demo scene=4 num_eval_scenes=4", "scene.*4"),
    ("wnv-demo minutes=0", "minutes"),
    ("wnv-demo init_from=konet_huge", "konet_huge"),
    ("wnv-demo train_experiment=nothing", "nothing"),
    ("wnv-demo 'train_overrides=[\"trainer.max_stepz=3\"]'", "max_stepz"),
]
CASES = [*DATA, *EVALUATION, *RENDERING, *EXPORT, *TRAINING]

# Groups whose choice makes another composition; single settings are set afterwards, as Hydra does.
GROUPS = ("bench", "data", "data/sampler", "precision", "protocol")
TASKS = {"wnv-bench": "bench_run:run", "wnv-export": "export:export", "wnv-report": "report_run:run"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, save_weights: Callable, save_scene: Callable) -> Path:
    """Scenes, weights, indices, videos and results, valid or damaged in one way each."""
    folder = tmp_path_factory.mktemp("world")
    for root in ("scenes", "mixed"):
        for name in ("a", "b"):
            save_scene(folder / root, name)
        if root == "mixed":
            _spoil_sizes(folder / root / "a.zip")
        build_index(folder / root)
    sizes = {"weights": 32, "large": 64}
    models = {name: KoNet.from_pretrained(save_weights(folder / name, dim=dim)) for name, dim in sizes.items()}
    state = {f"model.{key}": value for key, value in models["large"].state_dict().items()}
    for name, file in (("weights", "spoilt.ckpt"), ("large", "large.ckpt")):
        torch.save({"state_dict": state, "model_config": models[name].config, "global_step": 1}, folder / file)
    for name, source in (("spoilt", "large"), ("cut", "weights")):
        shutil.copytree(folder / source, folder / name)
    shutil.copy(folder / "weights" / "config.json", folder / "spoilt")
    os.truncate(folder / "cut" / "model.safetensors", 9000)
    for name, scene, target in (("absent", "x", 3), ("beyond", "a", 8)):
        (folder / f"{name}.json").write_text(json.dumps({scene: {"context": [0, 7], "target": [2, target]}}))
    for name in ("empty", "nothing", "done", "broken"):
        (folder / name).mkdir()
    for name in ("walk.csv", "list.csv"):
        (folder / name).write_text("序号,URL,视频标题\r\n1,https://www.bilibili.com/video/BV1Knp5YJ4st,一\r\n")
    for name in ("text", "film.mp4", "broken/config.yaml"):
        (folder / name).write_text("hello: 1")
    (folder / "broken" / "metrics.csv").write_text("step,a\nx,y\n")
    for name in ("records.jsonl", "evaluation.json", "summary.json", "path.mp4", "config.yaml", "last.ckpt"):
        (folder / "done" / name).write_text("weeks of work")
    with Ledger.open(folder / "root", val_fraction=0.25, test_fraction=0.0) as ledger:
        ledger.add_videos([ManifestLine(key="url:http://a.example/a.mp4", url=None, title="a", kind="static")])
    return folder


def _spoil_sizes(path: Path) -> None:
    """Replace all frames but the first by lower ones."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    other = encode_image(np.zeros((20, 40, 3), np.uint8), image_format="jpeg")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, other if name.startswith("frames/") and "000000" not in name else content)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Read everything below a folder but the files that an open ledger has beside it."""
    paths = [path for path in folder.rglob("*") if not path.name.endswith((".lock", "-shm", "-wal"))]
    return {str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes() for path in paths}


def given(command: str, words: list[str]) -> list[str]:
    """Return the words with the command's usual ones before them."""
    names = {word.partition("=")[0] for word in words}
    return [*(word for word in GIVEN.get(command, "").split() if word.partition("=")[0] not in names), *words]


@cache
def _compose(package: str, name: str, groups: tuple[str, ...]) -> DictConfig:
    with initialize_config_module(package, version_base="1.3"):
        return compose(name, [*groups], return_hydra_config=True)


def start(line: str) -> None:
    """Run a command line as the command does, with one composition per choice of groups."""
    command, *words = shlex.split(line)
    if command == "wnv-data":
        stage = data.STAGES[words.pop(0)]
        command, task, package = f"{command} {stage}", stage.task, stage.config_path.removeprefix("pkg://")
        name = stage.config_name
        words = given(f"wnv-data {line.split()[1]}", words)
    else:
        name, package = command.removeprefix("wnv-"), "wnv.conf"
        task = f"wnv.cli.{TASKS.get(command, f'{name}:run')}"
        if name == "bench":
            words[0] = f"bench={words[0]}"
        device = [] if name in ("bench", "export", "report") else ["device=cpu"]
        words = [*device, *given(command, words)]
    groups = [word for word in words if word.partition("=")[0].partition("@")[0] in (*GROUPS, "device")]
    cfg = copy.deepcopy(_compose(package, name, tuple(groups)))
    for word in words:
        if word not in groups:
            override = parse(readable(word))
            assert override is not None
            OmegaConf.update(cfg, override.key_or_group, override.value())
    with read_write(cfg.hydra):
        cfg.hydra.overrides.task = words
    with initialize_config_module(package, version_base="1.3"), described(cfg) as composed:
        check_config(composed)
        import_function(task)(composed)


@pytest.mark.parametrize(("line", "message"), CASES, ids=[line[-70:].replace("/", ":") for line, _ in CASES])
def test_an_unusable_setting_or_input_is_named_and_changes_nothing(
    world: Path, monkeypatch: pytest.MonkeyPatch, line: str, message: str
) -> None:
    monkeypatch.chdir(world)
    before = contents(world)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(Exception) as caught:  # noqa: PT011
        start(line.replace("TAKEN", str(server.getsockname()[1])))
    cause, answer = describe_error(caught.value)
    assert isinstance(cause, USER_ERRORS), caught.getrepr()
    assert re.search(message, answer), answer
    assert contents(world) == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{EXTRAPOLATE} out=done", "done.*resume=true.*overwrite=true"),
        (f"{EXTRAPOLATE} out=text", "text"),
        (f"{EXTRAPOLATE} out=done overwrite=true data.root=mixed", MIXED),
        ("wnv-render out=done", r"done/path\.mp4.*overwrite=true"),
        ("wnv-render out=done overwrite=true scene=mixed/a.zip", MIXED),
        ("wnv-train model.dim=33", r"dim.*33.*\(config key model\)"),
    ],
)
def test_a_command_prints_the_line_and_leaves_no_folder(
    world: Path, run_in_process: Callable, monkeypatch: pytest.MonkeyPatch, line: str, message: str
) -> None:
    monkeypatch.chdir(world)
    command, *words = line.split()
    before = contents(world)
    main = importlib.import_module(f"wnv.cli.{command.removeprefix('wnv-')}").main
    code, _, err = run_in_process(main, "device=cpu", *given(command, words))
    assert code == 2, err
    assert re.match(f"{command}: error: .*{message}.*\n$", err)
    assert contents(world) == before


def test_outdated_results_do_not_stay_beside_new_records(world: Path, run_in_process: Callable, tmp_path: Path) -> None:
    """Scene `b` is scored, then `a` fails: the evaluation can be resumed and has no outdated summary."""
    for name in ("done", "mixed", "weights"):
        shutil.copytree(world / name, tmp_path / name)
    lines = (tmp_path / "mixed" / "index.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "mixed" / "index.jsonl").write_text("".join(sorted(lines, key=lambda line: '"b"' not in line)))
    words = [*EXTRAPOLATE.split()[1:], "data.root=mixed", "data.batch_size=1", "out=done", "overwrite=true"]
    code, _, err = run_in_process(importlib.import_module("wnv.cli.eval").main, "device=cpu", *given("wnv-eval", words))
    assert code == 2
    assert re.search(MIXED, err)
    assert "weeks of work" not in (tmp_path / "done" / "records.jsonl").read_text()
    assert not (tmp_path / "done" / "summary.json").exists()
