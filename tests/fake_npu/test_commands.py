"""The commands with device=npu, on the simulated one."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from wnv.checkpoints.read import read_checkpoint
from wnv.models.konet import KoNet

pytestmark = [pytest.mark.fake_npu, pytest.mark.timeout(300)]  # the first of them builds it

TWO_STEPS = ["trainer.max_steps=2", "optim.warmup_steps=1", "trainer.val_check_interval=2", "run_dir=run"]
TRAIN = ["-m", "wnv.cli.train", "device=npu", *TWO_STEPS]
QUIET = ["hydra/job_logging=none", "hydra/hydra_logging=none", "device=npu"]


@pytest.mark.slow
def test_konet_tiny_trains_and_validates_without_an_operator_that_an_npu_lacks(
    tmp_path: Path, on_npu: Callable
) -> None:
    """Muon, averaged weights, camera maps, loss and metrics included; any such operator is an error here."""
    done = on_npu(*TRAIN, "experiment=konet_tiny", "data.batch_size=1", "data.num_val_scenes=1", "callbacks=ema")
    assert done.returncode == 0, done.stderr
    assert "on 1 x npu" in done.stdout + done.stderr
    assert json.loads((tmp_path / "run" / "starts.jsonl").read_text())["device"] == "npu: simulated NPU"
    assert KoNet.from_pretrained(tmp_path / "run").config["dim"] == 192, "a checkpoint of an NPU opens on a CPU"


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ("model.camera_encoding=gta", "model.patch_encoding=quaternion", "model.attention=joint"),
        ("model.camera_encoding=none", "data=synthetic_dynamic", "model.time_code=true"),
    ],
    ids=["gta-joint", "dynamic"],
)
def test_other_networks_train_too(on_npu: Callable, settings: tuple[str, ...]) -> None:
    done = on_npu(*TRAIN, "experiment=smoke", "precision=fp16", *settings)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_npus_share_a_training_that_a_cpu_takes_up(tmp_path: Path, on_npu: Callable) -> None:
    """Each process writes its shards of the checkpoints, including the averaged weights."""
    sharded = ["experiment=smoke", "strategy=fsdp", "precision=fp16", "trainer.devices=2", "callbacks=ema"]
    done = on_npu(*TRAIN, *sharded, "callbacks.checkpoints.sharded=true")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "run" / "step-00000002").glob("*.distcp"))) == 2
    checkpoint = read_checkpoint(tmp_path / "run")
    assert checkpoint["MixedPrecision"]["scale"] == 2.0**16
    more = [
        "-m",
        "wnv.cli.train",
        "experiment=smoke",
        "device=cpu",
        "trainer.max_steps=3",
        "run_dir=more",
        "resume=run",
        "callbacks=ema",
    ]
    done = on_npu(*more)
    assert done.returncode == 0, done.stderr
    assert read_checkpoint(tmp_path / "more")["global_step"] == 3


@pytest.mark.slow
def test_evaluation_and_rendering_run_on_an_npu(tmp_path: Path, on_npu: Callable) -> None:
    KoNet(dim=32, num_layers=1, num_heads=2, mlp_dim=32).save_pretrained(tmp_path / "weights")
    sizes = ["data.image_size=[16,24]", "data.num_val_scenes=2", "data.num_target=2", "num_sheet_scenes=1"]
    scores = {}
    for device in ("npu", "cpu"):
        done = on_npu("-m", "wnv.cli.eval", *QUIET, f"device={device}", "weights=weights", f"out={device}", *sizes)
        assert done.returncode == 0, done.stderr
        summary = json.loads((tmp_path / device / "summary.json").read_text())
        assert summary["environment"]["device"].startswith(device)
        scores[device] = summary["variants"][0]["model"]["psnr"]["mean"]
    assert scores["npu"] == pytest.approx(scores["cpu"], abs=1e-3)
    path = ["scene=synthetic:2", "image_size=[16,24]", "num_views=2", "min_side=32", "out=path"]
    done = on_npu("-m", "wnv.cli.render", *QUIET, "weights=weights", *path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_dynamic_scenes_are_evaluated_and_rendered_on_an_npu_too(tmp_path: Path, on_npu: Callable) -> None:
    options = {"time_code": True, "attention": "joint", "patch_encoding": "quaternion"}
    KoNet(dim=32, num_layers=1, num_heads=2, mlp_dim=32, **options).save_pretrained(tmp_path / "weights")
    common = [*QUIET, "weights=weights", "data=synthetic_dynamic", "data.num_context=2"]
    sizes = ["data.image_size=[16,24]", "data.num_val_scenes=1", "data.num_target=2", "num_sheet_scenes=1"]
    done = on_npu("-m", "wnv.cli.eval", *common, *sizes, "out=scores")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "scores" / "records.jsonl").read_text())
    assert len({*record["target_times"], 0.0}) > 1, "a dynamic scene has times"
    path = ["scene=synthetic:0", "image_size=[16,24]", "num_views=2", "min_side=32", "out=path", "time=[0,1]"]
    done = on_npu("-m", "wnv.cli.render", *common, *path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "path" / "path.mp4").stat().st_size > 0


@pytest.mark.slow
def test_what_cannot_work_is_answered_on_one_line(on_npu: Callable) -> None:
    done = on_npu(*TRAIN, "experiment=smoke", "hydra/job_logging=none", "trainer.devices=3")
    assert done.returncode == 2
    assert done.stderr.startswith("wnv-train: error: trainer.devices must be a number of NPUs")
    assert done.stderr.count("\n") == 1
