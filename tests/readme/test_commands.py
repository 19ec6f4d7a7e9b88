"""Every command of the READMEs is run, in order, in one folder.

A command is run unchanged, with settings appended that make it small. Its inputs (photographs, scene files) are made
before.
"""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_checks import read_page
from readme_checks import assert_demo, assert_evaluation, assert_film, assert_run, config_of, newest
from readme_place import write_capture, write_films, write_room
from readme_walk import COMMANDS, ROOT, TABLE, Walk, read_commands, step, step_of

from wnv.evaluation.summary import read_summary
from wnv.models.konet import KoNet
from wnv.models.pretrained import shipped_weights
from wnv.scenes.index import build_index
from wnv.scenes.listing import open_scene

TINY = ["model.dim=32", "model.num_layers=2", "model.num_heads=2", "model.mlp_dim=64"]
STEPS = ["trainer.max_steps=2", "trainer.val_check_interval=2", "trainer.log_every_n_steps=1", "optim.warmup_steps=1"]
LITTLE_DATA = ["data.image_size=[16,24]", "data.batch_size=2", "data.num_workers=0"]
TRAIN = ["device=cpu", *TINY, *STEPS, *LITTLE_DATA]
FEW_SCENES = ["data.num_val_scenes=2"]
EVALUATE = ["device=cpu", *FEW_SCENES, "num_sheet_scenes=2"]
RENDER = ["device=cpu", "num_views=3", "min_side=1"]
DEMO = [
    "device=cpu",
    f"train_overrides={json.dumps([*STEPS, 'data.batch_size=2', 'data.num_val_scenes=2']).replace(' ', '')}",
    "num_eval_scenes=3",
    "num_sheet_scenes=2",
    "num_views=3",
]
BENCH = "bench.dim=32 bench.num_layers=1 bench.num_heads=2 bench.mlp_dim=32 bench.image_size=[16,24]".split()
BENCH += "bench.context_sizes=[1] bench.training_sizes=[[1,1]] bench.repeats=1 bench.training_repeats=1".split()


# --- The table, in the order of the READMEs ---------------------------------------------------------------------------


@step(r"wnv-eval weights=konet_tiny( data=synthetic)?", *EVALUATE)
def _shipped_weights_are_scored(place: Path, shown: str) -> None:
    out = newest(place, "outputs/eval/*")
    assert_evaluation(out, shown, num_examples=2)
    assert str(out.relative_to(place)) in shown


@step(r"make demo", f"ARGS={shlex.join([*DEMO, 'out=PLACE/outputs/demo'])}")
def _demo(place: Path, shown: str) -> None:
    assert re.search("weights.*konet_tiny", shown)
    assert_demo(place / "outputs" / "demo", shown)


@step(r"make demo FROM_SCRATCH=1", f"ARGS={shlex.join([*DEMO, 'out=PLACE/outputs/demo_from_scratch'])}")
def _demo_from_scratch(place: Path, shown: str) -> None:
    assert "random weights" in shown
    assert_demo(place / "outputs" / "demo_from_scratch", shown)


@step(r"make test", "--dry-run")  # not the tests inside a test
def _tests(_place: Path, shown: str) -> None:
    for part in ("-m ruff check", "-m ruff format --check", "lint_imports", "-m pytest -m 'not slow'"):
        assert part in shown


@step(r"make help")
def _help(_place: Path, shown: str) -> None:
    assert {"make demo", "make test"} <= {" ".join(line.split()[:2]) for line in shown.splitlines()}


@step(r"pip install -c constraints\.txt -e \.", "--dry-run", "--no-index", "--no-deps", "--no-build-isolation")
def _installation(_place: Path, shown: str) -> None:
    assert re.search(r"Would install wnv-\d", shown)


@step(r"wnv-train experiment=smoke device=cpu trainer\.max_steps=4 optim\.warmup_steps=1")
def _smoke(place: Path, _shown: str) -> None:
    assert_run(newest(place, "runs/smoke/*"), num_steps=4)


@step(r"wnv-train experiment=konet --(help|cfg job)")
def _help_and_configuration(_place: Path, shown: str) -> None:
    assert "LVSM" in shown or "max_steps: 100000" in shown


@step(r"wnv-train experiment=smoke device=cpu debug=fast")
def _debug(place: Path, _shown: str) -> None:
    assert {file.name for file in newest(place, "runs/smoke/*").iterdir()} == {"train.log"}


@step(r"wnv-train -m experiment=smoke device=cpu model\.camera_encoding=none,gta run_dir=runs/sweep")
def _small_sweep(place: Path, _shown: str) -> None:
    for job in "01":
        assert_run(place / "runs" / "sweep" / job, num_steps=8)


@step(r"wnv-train experiment=konet_tiny device=cpu", *TRAIN, *FEW_SCENES)
def _training(place: Path, _shown: str) -> None:
    run_dir = newest(place, "runs/konet_tiny/*")
    assert_run(run_dir, num_steps=2)


@step(r"wnv-train experiment=konet_tiny run_dir=runs/mine trainer\.max_steps=\d+", *TRAIN, *FEW_SCENES)
def _named_run(place: Path, _shown: str) -> None:
    assert_run(place / "runs" / "mine", num_steps=2)


@step(
    r"wnv-train (experiment=konet_tiny )?run_dir=runs/mine (trainer\.max_steps=\d+ )?"
    r"resume=last( trainer\.max_steps=\d+)?",
    *TRAIN,
    *FEW_SCENES,
    "trainer.max_steps=4",
)
def _resumed_run(place: Path, _shown: str) -> None:
    run_dir = place / "runs" / "mine"
    assert_run(run_dir, num_steps=4)
    starts = [json.loads(line) for line in (run_dir / "starts.jsonl").read_text().splitlines()]
    assert [start["resumed_from"] for start in starts] == [None, str(run_dir / "last.ckpt")]


@step(
    r"wnv-train experiment=konet loss=mse data\.root=scenes/train data\.val_root=scenes/test",
    *TRAIN,
    "trainer.devices=1",
)
def _scene_files(place: Path, _shown: str) -> None:
    run_dir = newest(place, "runs/konet/*")
    assert_run(run_dir, num_steps=2)
    assert config_of(run_dir)["data"]["root"] == "scenes/train"


@step(
    r"wnv-train experiment=konet_fsdp device=cpu trainer\.devices=2 trainer\.max_steps=20",
    *TINY,
    "trainer.log_every_n_steps=1",
    "trainer.val_check_interval=20",
    *LITTLE_DATA,
    *FEW_SCENES,
)
def _sharded(place: Path, _shown: str) -> None:
    (run_dir,) = (place / "runs" / "konet_fsdp").iterdir()  # both processes write into one
    assert_run(run_dir, num_steps=20)
    assert config_of(run_dir)["trainer"]["precision"] == "bf16-mixed"
    starts = (run_dir / "starts.jsonl").read_text().splitlines()
    assert [json.loads(line)["devices"] for line in starts] == [2]


@step(
    r"wnv-train -m experiment=konet_tiny model\.camera_encoding=none,gta,geope run_dir=runs/encodings",
    *TRAIN,
    *FEW_SCENES,
)
def _sweep(place: Path, _shown: str) -> None:
    jobs = sorted((place / "runs" / "encodings").glob("[0-9]*"))
    assert [job.name for job in jobs] == list("012")
    for job in jobs:
        assert_run(job, num_steps=2)
    assert [config_of(job)["model"]["camera_encoding"] for job in jobs] == ["none", "gta", "geope"]


@step(r"wnv-eval -m weights=runs/encodings/0,runs/encodings/1,runs/encodings/2 out=outputs/encodings", *EVALUATE)
def _sweep_is_scored(place: Path, shown: str) -> None:
    for job in "012":
        assert_evaluation(place / "outputs" / "encodings" / job, shown, num_examples=2)


@step(r"wnv-report runs/encodings outputs/encodings out=encodings\.html")
def _sweep_is_compared(place: Path, shown: str) -> None:
    assert shown.strip() == "encodings.html"
    page = read_page((place / "encodings.html").read_text(encoding="utf-8"))
    runs, scores = (" ".join(page.section(name).split()) for name in ("runs", "scores"))
    for job, encoding in enumerate(("none", "gta", "geope")):
        assert re.search(rf"{job} · camera_encoding={encoding} runs/encodings/{job} {encoding} [\d,]+ 2 ", runs)
        assert f"{job} · camera_encoding={encoding}" in scores
        summary = read_summary(place / "outputs" / "encodings" / str(job))
        assert summary.main.model["psnr"].text(2) in scores
    assert "paired over 2 examples" in scores
    assert len(page.all("img")) >= 6


@step(r"wnv-eval weights=runs/mine data\.num_val_scenes=\d+", *EVALUATE)
def _own_weights_are_scored(place: Path, shown: str) -> None:
    assert_evaluation(newest(place, "outputs/eval/*"), shown, num_examples=2)
    assert "runs/mine" in shown


@step(r"wnv-eval weights=konet_tiny protocol=nested data\.num_val_scenes=32", "protocol.min_gap=36", *EVALUATE)
def _nested_views_are_scored(place: Path, shown: str) -> None:
    out = newest(place, "outputs/eval/*")
    assert_evaluation(out, shown, num_examples=2)
    assert [variant.variant for variant in read_summary(out).variants] == ["views=2", "views=4", "views=8"]


@step(r"wnv-eval protocol=extrapolate make_index=outputs/views\.json data\.num_val_scenes=32", *FEW_SCENES)
def _an_index_is_made(place: Path, shown: str) -> None:
    assert shown.startswith("outputs/views.json: 2 scenes")
    assert len(json.loads((place / "outputs" / "views.json").read_text())) == 2


@step(
    r"torchrun --nproc-per-node 2 -m wnv\.cli\.eval weights=konet_tiny protocol=re10k "
    r"protocol\.index=outputs/views\.json out=outputs/shared",
    *EVALUATE,
)
def _processes_share_an_evaluation(place: Path, shown: str) -> None:
    assert_evaluation(place / "outputs" / "shared", shown, num_examples=2)
    assert read_summary(place / "outputs" / "shared").num_processes == 2


@step(r"wnv-export weights=runs/mine out=exports/mine dtype=bf16")
def _weights_for_others(place: Path, _shown: str) -> None:
    folder = place / "exports" / "mine"
    assert {"model.safetensors", "config.json", "README.md"} <= {file.name for file in folder.iterdir()}
    assert KoNet.from_pretrained(folder).config["dim"] == 32


@step(r"wnv-render weights=konet_tiny scene=synthetic:3 trajectory=interpolate", *RENDER)
def _synthetic_path(place: Path, shown: str) -> None:
    assert_film(newest(place, "outputs/render/*"), shown)


@step(r"wnv-data run source=phone_videos root=mine")
def _phone_videos(place: Path, shown: str) -> None:
    assert f"{place}/mine/scenes/static/train: 1 scenes" in shown
    with open_scene(next((place / "mine" / "scenes").rglob("*.zip"))) as scene:
        assert scene.info.source["title"] == "desk"


@step(r"wnv-data run source=photos root=house")
def _photos(place: Path, shown: str) -> None:
    assert f"{place}/house/scenes/static/train: 1 scenes" in shown


@step(r"wnv-data import format=photos source=photos out=photo_scenes")
def _photos_without_a_root(place: Path, _shown: str) -> None:
    assert len(open_scene(place / "photo_scenes" / "photos.zip").info.frames) > 2


@step(r"wnv-data status root=mine")
def _status(_place: Path, shown: str) -> None:
    for stage in ("fetch", "clip", "pose", "pack"):
        assert re.search(rf"^{stage} .* 1 ", shown, re.MULTILINE)


@step(r"wnv-data report root=mine")
def _report(place: Path, shown: str) -> None:
    assert "mine/report.html" in shown
    assert "data:image/jpeg" in (place / "mine" / "report.html").read_text()


@step(
    r"wnv-train experiment=fit_scene data\.root=mine/scenes/static/train run_dir=runs/phone",
    "device=cpu",
    *STEPS,
    "data.batch_size=2",
    "data.num_workers=0",
)
def _fit_phone_video(place: Path, _shown: str) -> None:
    assert_run(place / "runs" / "phone", num_steps=2)


@step(r"wnv-data manifest source=kokoni out=kokoni\.jsonl resolve=true", "--cfg", "job")  # no network under test
def _published_lists(_place: Path, shown: str) -> None:
    assert "source: kokoni" in shown


# A list of local videos, half of them for validation.
@step(
    r"wnv-data run source=kokoni\.jsonl root=kokoni fetch\.cookies=cookies\.txt",
    *("fetch.videos=PLACE/kokoni_videos", "val_fraction=0.5", "test_fraction=0"),
)
def _list_of_videos(place: Path, shown: str) -> None:
    for split in ("train", "val"):
        assert f"{place}/kokoni/scenes/static/{split}: 1 scenes" in shown


@step(r"wnv-train experiment=konet loss=mse data=kokoni_static data\.root=kokoni", *TRAIN, "trainer.devices=1")
def _train_on_them(place: Path, _shown: str) -> None:
    assert_run(newest(place, "runs/konet/*"), num_steps=2)


@step(r"wnv-data run root=kokoni retry=failed")
@step(r"wnv-data run root=kokoni 'retry=\[login\]' fetch\.cookies=cookies\.txt")
def _nothing_failed(_place: Path, shown: str) -> None:
    assert shown.startswith("nothing to do")


@step(r"wnv-data run root=kokoni redo=\[pack\] pack\.max_side=320", "pack.max_side=160")
def _packed_anew(place: Path, shown: str) -> None:
    assert "pack: 2 done" in shown
    with open_scene(next((place / "kokoni" / "scenes").rglob("*.zip"))) as scene:
        assert scene.info.width == 160


@step(r"wnv-data verify path=kokoni/scenes/static/train")
def _verified_train(_place: Path, shown: str) -> None:
    assert shown.startswith("ok  kokoni/scenes/static/train/")


@step(r"wnv-data run root=kokoni executor=ray executor\.address=auto", "executor.address=null", "redo=[pack]")
def _on_ray(_place: Path, shown: str) -> None:
    assert "pack: 2 done" in shown


@step(r"wnv-data forget root=kokoni keys=\[KEY\]", "keys=[file:room2.mp4]")
def _taken_out(place: Path, _shown: str) -> None:
    assert len(list((place / "kokoni" / "scenes").rglob("*.zip"))) == 1


@step(r"wnv-data import format=nerfstudio source=captures/fox out=scenes")
def _import(place: Path, shown: str) -> None:
    assert "scenes/fox.zip" in shown.splitlines()
    with open_scene(place / "scenes" / "fox.zip") as scene:
        assert (len(scene), scene.info.width, scene.info.height) == (16, 90, 160)
        lens = json.loads((place / "captures" / "fox" / "transforms.json").read_text())
        assert scene.info.K[0, 0, 0] != lens["fl_x"], "the lens must have been taken out"


@step(r"wnv-data verify path=scenes")
def _verified(_place: Path, shown: str) -> None:
    assert "ok  scenes/fox.zip: static, 16 frames of 90 x 160" in shown
    assert "rejected" not in shown


@step(
    r"wnv-train experiment=fit_scene data\.root=scenes/fox\.zip run_dir=runs/fox",
    "device=cpu",
    *STEPS,
    "data.batch_size=2",  # the model stays that of the shipped weights
    "data.num_workers=0",
)
def _fit(place: Path, _shown: str) -> None:
    assert_run(place / "runs" / "fox", num_steps=2)
    assert config_of(place / "runs" / "fox")["init_from"] == "konet_tiny"


@step(r"wnv-eval weights=runs/fox data=fit_scene data\.root=scenes/fox\.zip", "device=cpu", "num_sheet_scenes=2")
def _held_out_photographs(place: Path, shown: str) -> None:
    assert_evaluation(newest(place, "outputs/eval/*"), shown, num_examples=2)  # of 16 frames, 0 and 8


@step(
    r"wnv-render weights=runs/fox scene=scenes/fox\.zip image_size=\[128,72\] trajectory=interpolate",
    *RENDER,
)
def _path_between_photographs(place: Path, shown: str) -> None:
    assert assert_film(newest(place, "outputs/render/*"), shown) == (128, 72)


@step(r"wnv-render weights=runs/fox scene=scenes/fox\.zip trajectory=orbit", *RENDER)
def _path_around_what_the_photographs_show(place: Path, shown: str) -> None:
    assert_film(newest(place, "outputs/render/*"), shown)


@step(r"wnv-render weights=runs/fox scene=scenes/fox\.zip trajectory=fox-path\.json", "device=cpu", "min_side=1")
def _path_of_the_viewer(place: Path, shown: str) -> None:
    assert_film(newest(place, "outputs/render/*"), shown)


@step(r"wnv-export format=colmap scene=scenes/fox\.zip out=exports/fox")
def _export(place: Path, _shown: str) -> None:
    model = place / "exports" / "fox" / "sparse" / "0"
    assert {"cameras", "images", "points3D"} <= {file.stem for file in model.iterdir()}
    assert len(list((place / "exports" / "fox").rglob("*.jpg"))) == 16


@step(r"wnv-data index path=scenes")
def _index(place: Path, _shown: str) -> None:
    assert (place / "scenes" / "index.jsonl").is_file()


@step(r"wnv-data run source=phone_videos root=mine pose=custom .*", "--cfg", "job")  # there is no such package
def _own_estimator(_place: Path, shown: str) -> None:
    assert "my_package.MyEstimator" in shown


@step(r"import wnv\n\nwith wnv.open_scene.*", "print(pixels.shape, views.images.shape, cameras.width)")
def _open_scene(_place: Path, shown: str) -> None:
    assert "(160, 90, 3) torch.Size([2, 3, 160, 90]) 90" in shown


@step(r"import wnv\n\nsummary = wnv\.evaluate.*")
def _evaluate_in_python(place: Path, _shown: str) -> None:
    assert read_summary(place / "outputs" / "python").main.num_examples == 4


@step(r"import lightning\n.*", "print(MyData.__mro__[1].__name__)")
def _own_data_module(_place: Path, shown: str) -> None:
    assert shown.strip() == "LightningDataModule"


@step(r"import numpy as np\n.*", "print(rendered.min(), rendered.max(), *rendered.shape)")
def _python(place: Path, shown: str) -> None:
    lowest, highest, *shape = map(int, shown.split())
    assert 0 <= lowest < highest <= 255
    assert shape == [64, 96, 3], "as the comment in the block says"
    assert (place / "rendered.png").is_file()


@step(r"wnv-bench attention", *BENCH)
def _bench(_place: Path, shown: str) -> None:
    assert "| render a view from 1 encoded context view" in shown


# --- Running --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """A folder with everything the README supposes to be there."""
    assert "konet_tiny" in shipped_weights(), "the weights konet_tiny must be in wnv/models/weights, as the README says"
    place = tmp_path_factory.mktemp("readme")
    write_capture(place / "captures" / "fox")
    for split, seeds in (("train", (1, 2)), ("test", (3,))):
        for seed in seeds:
            write_room(place / "scenes" / split, seed=seed)
        build_index(place / "scenes" / split)
    write_films(place)
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("wnv", "conf", "data_manifests"):
        shutil.copytree(ROOT / name, place / "source" / name, ignore=ignored)
    for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, place / "source")
    yield Walk(place)
    # Checkpoints of models that are not tiny; pytest would keep them for three runs.
    shutil.rmtree(place)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.splitlines()[0].replace("/", ":"))
def test_a_command_does_what_the_readme_says(walk: Walk, command: str) -> None:
    ended = walk.through(command)
    assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
    step_of(command).check(walk.place, ended.stdout)


@pytest.mark.slow
def test_the_commands_write_nothing_else(walk: Walk) -> None:
    walk.through(COMMANDS[-1])
    made_for_them = "captures scenes source phone_videos photos kokoni_videos kokoni.jsonl cookies.txt fox-path.json"
    results = "photo_scenes runs outputs exports mine house kokoni rendered.png encodings.html encodings_tables"
    assert {file.name for file in walk.place.iterdir()} == {*made_for_them.split(), *results.split()}


def test_commands_are_found_wherever_they_stand() -> None:
    text = "`make\ndemo`, `wnv-eval`, `wnv-data status`\n"
    text += "```bash\nwnv-a x=1 \\\ny=2\n# so\n\nmake demo\n```\n```python\nf()\n```\n"
    text += "```\n`wnv-b in a drawing`\n```\n"
    assert read_commands(text) == ["make demo", "wnv-a x=1  y=2", "f()\n"]
    with pytest.raises(ValueError, match="sh"):
        read_commands("```sh\nrm\n```\n")


def test_every_command_is_run_and_every_step_has_a_command() -> None:
    used = [step_of(command).pattern for command in COMMANDS]
    idle = [entry.pattern for entry in TABLE if entry.pattern not in used]
    assert not idle, f"{Path(__file__).name} has steps without a command in a README: {idle}"


def test_a_command_without_a_step_is_named() -> None:
    with pytest.raises(pytest.fail.Exception, match="wnv-train experiment=konet_x"):
        step_of("wnv-train experiment=konet_x")
