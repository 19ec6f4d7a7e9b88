import json
from functools import partial

import av
import pytest
from omegaconf import OmegaConf

from wnv.cli.api import open_data
from wnv.cli.eval import main
from wnv.cli.eval_settings import warn_of_image_size, warn_of_pose_normalization
from wnv.evaluation.records import read_records
from wnv.evaluation.summary import read_summary
from wnv.models.konet import KoNet
from wnv.scenes.index import build_index

QUIET = ["hydra/job_logging=none", "hydra/hydra_logging=none", "device=cpu"]
SMALL = ["data.image_size=[16,24]", "data.num_val_scenes=3", "data.num_target=2", "num_sheet_scenes=2"]


@pytest.fixture
def weights(tmp_path, save_weights):
    return save_weights(tmp_path / "weights")


@pytest.fixture
def call(run_in_process):
    return partial(run_in_process, main, *QUIET)


@pytest.mark.slow
def test_from_python_the_data_are_those_of_the_command(weights, call):
    data = open_data(SMALL[:3])
    assert len(data.val_dataset) == 3
    assert data.val_dataset[0].target.images.shape == (2, 3, 16, 24)
    assert call(f"weights={weights}", "out=results", *SMALL)[0] == 0
    assert [record.scene for record in read_records("results")] == [data.val_dataset[i].scene for i in range(3)]
    with pytest.raises(Exception, match=r"data\.speed"):
        open_data(["data.speed=1"])


def test_synthetic_scenes_are_scored_recorded_and_shown(tmp_path, call, weights):
    code, stdout, stderr = call(f"weights={weights}", "out=results", *SMALL)
    assert code == 0, stderr
    out = tmp_path / "results"
    names = {"evaluation.json", "pictures", "records.jsonl", "sheet.png", "summary.json", "table.txt"}
    assert {path.name for path in out.iterdir()} == names
    assert len((out / "records.jsonl").read_text().splitlines()) == 3
    summary = read_summary(out)
    assert (summary.main.num_scenes, summary.main.num_views) == (3, 6)
    assert summary.settings["weights"] == str(weights)
    assert summary.settings["data"]["image_size"] == [16, 24]
    assert summary.environment["device"].startswith("cpu")
    assert f"{summary.main.model['psnr'].mean:.2f}" in stdout
    assert "nearest context view" in stdout
    assert (out / "table.txt").read_text() in stdout
    assert "records.jsonl, summary.json, table.txt, sheet.png, pictures" in stdout
    order = sorted(read_records(out), key=lambda record: record.mean("model", "psnr"))
    # From the worst to the best, and one that is the same for every model.
    shown = {order[0].index, order[-1].index, 0}
    assert {path.name for path in (out / "pictures").iterdir()} == {f"{index:06d}-all.png" for index in shown}


@pytest.mark.slow
def test_results_are_resumed_or_replaced_only_when_asked(tmp_path, call, weights):
    def arguments(*more: str) -> list[str]:
        return [f"weights={weights}", "out=results", *SMALL, "num_sheet_scenes=0", *more]

    assert call(*arguments())[0] == 0
    code, _, stderr = call(*arguments())
    assert code == 2
    assert stderr.count("\n") == 1
    assert stderr.startswith("wnv-eval: error: results holds an evaluation; pass resume=true")
    assert call(*arguments("resume=true", "data.num_scenes=5", "data.batch_size=3"))[0] == 0
    code, _, stderr = call(*arguments("resume=true", "data.zoom_range=[1.0,1.0]"))
    assert code == 2
    assert "(data was" in stderr
    pictures = tmp_path / "results" / "pictures"
    pictures.mkdir()
    for name in ("000000-all.png", "mine.png"):
        (pictures / name).write_bytes(b"")
    assert call(*arguments("overwrite=true", "data.zoom_range=[1.0,1.0]"))[0] == 0
    # Images of the replaced evaluation are removed; other files stay.
    assert [path.name for path in pictures.iterdir()] == ["mine.png"]


@pytest.fixture
def scenes(tmp_path, save_scene):
    """Two scenes of eight frames."""
    for name in ("a", "b"):
        save_scene(tmp_path / "scenes", name)
    build_index(tmp_path / "scenes")
    return tmp_path / "scenes"


def test_scene_files_are_scored(tmp_path, call, weights, scenes, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    sampler = [f"data.val_sampler.{setting}" for setting in ("min_gap=5", "max_gap=7", "num_target=2")]
    data = ["data=scenes", 'data.root="~/scenes"', "data.image_size=[16,24]", "data.num_workers=0", *sampler]
    code, stdout, stderr = call(f"weights={weights}", *data, "out=results")
    assert code == 0, stderr
    assert "2 scenes, 4 target views" in stdout


SCENES = ["data=scenes", "data.root=scenes", "data.image_size=[16,24]", "data.num_workers=0", "num_sheet_scenes=1"]
GAPS = ["protocol.min_gap=4", "protocol.max_gap=5"]


@pytest.mark.slow
def test_an_index_is_made_and_scored_and_neither_is_replaced_unasked(tmp_path, call, weights, scenes):
    make = ["make_index=views/index.json", "protocol=extrapolate", "protocol.num_target=2", *GAPS, *SCENES]
    code, stdout, stderr = call(*make)
    assert code == 0, stderr
    assert stdout.startswith("views/index.json: 2 scenes, 0 ")
    index = json.loads((tmp_path / "views" / "index.json").read_text())
    assert list(index) == ["a", "b"]
    assert {len(choice["context"]) + len(choice["target"]) for choice in index.values()} == {4}
    assert {path.name for path in tmp_path.iterdir()} == {"scenes", "views", "weights"}, "no folder of results"
    code, _, stderr = call(*make)
    assert code == 2
    assert "views/index.json" in stderr
    assert call(*make, "overwrite=true", "data.val_seed=4")[0] == 0
    assert json.loads((tmp_path / "views" / "index.json").read_text()) != index

    index = json.loads((tmp_path / "views" / "index.json").read_text()) | {"gone": index["a"], "void": None}
    (tmp_path / "views" / "index.json").write_text(json.dumps(index))
    scored = ["protocol=re10k", "protocol.index=views/index.json", "protocol.num_target=2", f"weights={weights}"]
    code, stdout, stderr = call(*scored, *SCENES, "out=results")
    assert code == 0, stderr
    assert "1 scene of 4 listed" in stdout
    assert "PARTIAL: 2 of 3" in stdout
    assert "Not in the data: 1 scene (gone; all in summary.json)." in stdout
    summary = read_summary(tmp_path / "results")
    assert (summary.protocol, summary.num_listed, summary.num_null, summary.missing) == ("re10k", 4, 1, ["gone"])
    assert summary.settings["protocol"]["index"] == "views/index.json"
    for record in read_records(tmp_path / "results"):
        assert {"context": record.context_frames, "target": record.target_frames} == index[record.scene]
    code, _, stderr = call(*scored, *SCENES, "out=results")
    assert code == 2
    assert "results holds an evaluation" in stderr
    assert call(*scored, *SCENES, "out=results", "resume=true")[0] == 0
    (tmp_path / "views" / "index.json").write_text(json.dumps(index | {"a": {"context": [0, 7], "target": [2, 3]}}))
    code, _, stderr = call(*scored, *SCENES, "out=results", "resume=true")
    assert code == 2
    assert "(protocol was" in stderr


def test_an_index_of_another_form_is_converted(tmp_path, call, scenes):
    entry = {"context": [0, 5], "target": [2], "overlap": 0.5}
    (tmp_path / "list.json").write_text(json.dumps([{"scene": "2K/a", **entry}, {"scene": "dl3dv_b", **entry}]))
    code, stdout, stderr = call("make_index=plain.json", "from=list.json")
    assert (code, stdout) == (0, "plain.json: 2 scenes, 0 of them without frames (null)\n"), stderr
    expected = {"context": [0, 5], "target": [2]}
    assert json.loads((tmp_path / "plain.json").read_text()) == {"a": expected, "b": expected}
    folds = [{"scene_name": name, "fold_4_kmeans_2_input": [1, 5]} for name in ("a", "b")]
    (tmp_path / "folds.json").write_text(json.dumps(folds))
    code, _, stderr = call("make_index=x.json", "from=folds.json", *SCENES)
    assert code == 0, stderr
    assert json.loads((tmp_path / "x.json").read_text())["b"] == {"context": [1, 5], "target": [0, 4]}
    code, _, stderr = call("from=list.json", "out=results")
    assert code == 2
    assert "make_index" in stderr


@pytest.mark.slow
def test_variants_are_tabulated_and_shown_and_films_made(tmp_path, call, weights):
    small = [*SMALL, "num_sheet_scenes=1", f"weights={weights}"]
    film = ["protocol=video", "protocol.min_gap=5", "protocol.max_gap=5", "out=film", *small]
    code, stdout, stderr = call("protocol=zoom", "protocol.zooms=[1,2.5]", "out=zoom", *small)
    assert code == 0, stderr
    assert "KoNet, change from zoom=1" in stdout
    assert f"{weights} on data=synthetic, protocol=zoom" in stdout
    shown = sorted(path.name for path in (tmp_path / "zoom" / "pictures").iterdir())
    assert shown == [f"{shown[0][:6]}-zoom={zoom}.png" for zoom in ("1", "2.5")], "the same scene in both"
    code, stdout, stderr = call(*film)
    assert code == 0, stderr
    assert "3 scenes, 12 target views" in stdout
    (video,) = (tmp_path / "film" / "pictures").glob("*-all.mp4")
    with av.open(str(video)) as container:
        frames = [frame for frame in container.decode(video=0)]
    assert (len(frames), frames[0].height, frames[0].width) == (4, 256, 2 * 384)
    (tmp_path / "film" / "pictures" / "mine.png").touch()
    code, _, stderr = call(*film, "overwrite=true")
    assert code == 2
    assert "also holds mine.png" in stderr


@pytest.mark.slow
def test_unavailable_lpips_is_reported_and_left_out(tmp_path, call, weights, monkeypatch):
    def fail(backbone):
        raise ImportError(f"LPIPS ({backbone}) needs torchvision: pip install 'wnv[perceptual]', or leave LPIPS out")

    monkeypatch.setattr("wnv.evaluation.scores.LPIPS", fail)
    code, stdout, stderr = call(f"weights={weights}", "out=results", *SMALL)
    assert code == 0, stderr
    assert "LPIPS was not measured: LPIPS (vgg) needs torchvision: pip install 'wnv[perceptual]'" in stdout
    assert all("lpips" not in record.model for record in read_records(tmp_path / "results"))
    code, stdout, _ = call(f"weights={weights}", "out=without", "lpips=null", *SMALL)
    assert code == 0
    assert "LPIPS" not in stdout


def test_images_far_from_the_size_of_the_training_are_warned_about(tmp_path, caplog):
    def warned(weights, *size: int) -> bool:
        caplog.clear()
        warn_of_image_size(str(weights), OmegaConf.create({"image_size": list(size)} if size else {}))
        return "data.image_size=[64,64]" in caplog.text

    assert warned("konet_tiny", 256, 256)
    assert warned("konet_tiny", 32, 48)
    assert not any([warned("konet_tiny", 72, 128), warned("konet_tiny"), warned("nowhere", 256, 256)])
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("data: {image_size: [64, 64]}")
    (run / "last.ckpt").touch()
    assert warned(run, 256, 256)
    assert warned(run / "last.ckpt", 256, 256)
    (run / "config.yaml").write_text("data: {sources: {}}")
    assert not warned(run, 256, 256)


def test_a_different_pose_normalization_is_warned_about(caplog):
    first = KoNet(dim=32, num_layers=1, num_heads=2, mlp_dim=32, pose_normalization="first")
    warn_of_pose_normalization(first, OmegaConf.create({"pose_normalization": "first"}))
    warn_of_pose_normalization(first, OmegaConf.create({"sources": {}}))
    assert caplog.text == ""
    warn_of_pose_normalization(first, OmegaConf.create({"pose_normalization": "mean"}))
    assert "data.pose_normalization=first" in caplog.text
