"""The data configurations for captured scenes read the output of wnv-data, and name missing parts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from wnv.data.datamodule import ExampleDataModule
from wnv.ingest.layout import clip_file
from wnv.ingest.pack_stage import PackStage
from wnv.ingest.scene_index import index_scenes
from wnv.ingest.tasks import Task, run_task

SMALL = ["data.image_size=[16,24]", "data.batch_size=2", "data.num_workers=0"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, write_posed_clip: Callable) -> Path:
    """An output root as wnv-data leaves it: two clips and scenes on each split, of both kinds."""
    folder = tmp_path_factory.mktemp("root")
    for kind in ("static", "dynamic"):
        for split in ("train", "val"):
            for name in ("a", "b"):
                name = f"{kind}_{split}_{name}"
                file = clip_file(name, kind=kind, split=split)
                write_posed_clip((folder / file).parent, name, num_frames=28, kind=kind)
                payload = {"id": name, "file": file, "key": name, "kind": kind, "split": split, "start_s": 0.0}
                payload |= {"end_s": 1.0, "title": "", "url": None}
                payload["pose"] = {"sidecar": file.replace(".mp4", ".json")}
                task = Task(stage="pack", item=name, root=folder, payload=payload)
                assert run_task(PackStage(), task).state == "done"
    index_scenes(folder)
    return folder


def make(*overrides: str) -> ExampleDataModule:
    with initialize_config_module("wnv.conf", version_base="1.3"):
        return instantiate(compose("train", [*overrides, *SMALL]).data, _convert_="all")


def scenes(data: ExampleDataModule) -> tuple[set[str], list[str]]:
    """Training scenes of the first batches, and all validation scenes."""
    loader = iter(data.train_dataloader())
    trained = {name for _ in range(8) for name in next(loader).scenes}
    return trained, [name for batch in data.val_dataloader() for name in batch.scenes]


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("kokoni_static", ["static"]),
        ("kokoni_walk", ["dynamic"]),
        ("video", ["static"]),
        ("kokoni", ["static", "dynamic"]),
    ],
)
def test_an_output_root_is_read(root: Path, name: str, kinds: list[str]) -> None:
    data = make(f"data={name}", f"data.root={root}")
    trained, validated = scenes(data)
    assert trained == {f"{kind}_train_{one}" for kind in kinds for one in "ab"}
    assert validated == [f"{kind}_val_{one}" for kind in kinds for one in "ab"]
    batch = next(iter(data.train_dataloader()))
    assert batch.target.images.shape == (2, 6, 3, 16, 24)


def test_a_root_may_be_a_url(root: Path) -> None:
    files = fsspec.filesystem("memory")
    files.put(str(root / "scenes"), "/remote/scenes", recursive=True)
    try:
        trained, validated = scenes(make("data=kokoni_static", "data.root=memory://remote"))
    finally:
        files.rm("/remote", recursive=True)
    assert trained == {"static_train_a", "static_train_b"}
    assert validated == ["static_val_a", "static_val_b"]


def test_missing_validation_scenes_are_an_error_with_a_way_out(root: Path, tmp_path: Path) -> None:
    root = shutil.copytree(root, tmp_path / "root")
    shutil.rmtree(root / "scenes/static/val")
    data = make("data=kokoni_static", f"data.root={root}")
    with pytest.raises(FileNotFoundError, match=r"static/val.*limit_val_batches=0"):
        data.val_dataloader()
    other = make("data=kokoni_static", f"data.root={root}", "data.val_split=scenes/dynamic/val")
    assert scenes(other)[1] == ["dynamic_val_a", "dynamic_val_b"]


def test_short_scenes_are_left_out_and_logged(root: Path, tmp_path: Path, write_posed_clip: Callable, caplog) -> None:
    root = shutil.copytree(root, tmp_path / "root")
    write_posed_clip(root / "clips/static/train", "short", num_frames=8)
    assert "short" not in scenes(make("data=video", f"data.root={root}"))[0]
    assert "1 of 3 scenes" in caplog.text


def test_re10k_takes_an_evaluation_index(root: Path, tmp_path: Path) -> None:
    index = tmp_path / "index.json"
    index.write_text(json.dumps({"static_val_b": {"context": [0, 12], "target": [3, 5, 9]}, "static_val_a": None}))
    data = make(
        "data=re10k",
        f"data.root={root / 'scenes/static/train'}",
        f"data.val_root={root / 'scenes/static/val'}",
        "data/sampler@data.val_sampler=index",
        f"data.val_sampler.path={index}",
        "data.sampler.min_gap=8",
        "data.sampler.max_gap=9",
    )
    assert scenes(data)[1] == ["static_val_b"]
    assert (data.val_dataset[0].context.times.shape, data.val_dataset[0].target.times.shape) == ((2,), (3,))


def test_any_data_are_mixed(root: Path) -> None:
    data = make(
        "data=mixed",
        "+data@data.sources.walks=kokoni_walk",
        "+data@data.sources.world=synthetic",
        f"data.sources.walks.root={root}",
        "data.sources.walks.image_size=[16,24]",
        "data.sources.world.image_size=[16,24]",
        "data.sources.world.num_val_scenes=1",
        "data.weights={walks: 3, world: 1}",
    )
    assert data.counts == {"walks": 75, "world": 25}
    trained, validated = scenes(data)
    assert {"dynamic_train_a", "dynamic_train_b"} < trained
    assert len(validated) == 3


def test_the_seed_of_the_run_is_that_of_its_data() -> None:
    assert make("data=synthetic", "seed=4").seed == 4


def test_the_small_experiment_takes_scene_files_too() -> None:
    data = make("experiment=konet_tiny", "data=scenes", "data.root=one", "data.val_root=two", "data.on_error=skip")
    assert data.on_error == "skip"
    assert data.val_settings["sampler"].num_context == 2
