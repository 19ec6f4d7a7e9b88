"""Images of validation: in the run folder, and in TensorBoard or Weights & Biases."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from wandb_files import wandb_history

from wnv.cli.api import train
from wnv.models.konet import KoNet

SMOKE = ["experiment=smoke", "device=cpu"]
VALIDATED_TWICE = ["trainer.max_steps=3", "optim.warmup_steps=1", "trainer.val_check_interval=2"]  # and at the end


def command(*overrides: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "WORLD_SIZE")}
    words = [sys.executable, "-m", "wnv.cli.train", *overrides]
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


def pictures(run_dir: Path) -> dict[int, np.ndarray]:
    """Return the images of a run folder by step, after checking that each shows two scenes and their errors."""
    found = {
        int(path.stem.removeprefix("step_")): np.asarray(Image.open(path)) for path in run_dir.glob("images/*.png")
    }
    for pixels in found.values():
        cells = pixels.reshape(2, 18, 5, 26, 3)[:, 1:-1, :, 1:-1].swapaxes(1, 2).astype(int)
        _, _, target, rendered, error = cells.swapaxes(0, 1)
        assert np.abs(rendered - target).max() > 20
        assert np.abs((3 * np.abs(rendered - target)).clip(0, 255) - error).max() <= 4  # rounded before and after
    return found


def logged_pictures(run_dir: Path) -> list[tuple[int, np.ndarray]]:
    """Return step and pixels of every image in TensorBoard's files, which must also hold the metrics."""
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    accumulator = events.EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert {"val/psnr", "val/psnr_copy"} <= {*accumulator.Tags()["scalars"]}
    assert accumulator.Tags()["images"] == ["val/images"]
    shown = accumulator.Images("val/images")
    return [(event.step, np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))) for event in shown]


@pytest.mark.slow
def test_tensorboard_receives_the_images_of_every_validation(tmp_path: Path) -> None:
    train([*SMOKE, *VALIDATED_TWICE, "logger=tensorboard"], run_dir=tmp_path / "run")
    logged, written = logged_pictures(tmp_path / "run"), pictures(tmp_path / "run")
    assert [step for step, _ in logged] == sorted(written) == [2, 3]
    assert all(np.array_equal(pixels, written[step]) for step, pixels in logged)
    assert (tmp_path / "run" / "metrics.csv").exists()


@pytest.mark.slow
def test_wandb_receives_the_images_of_every_validation_offline(tmp_path: Path) -> None:
    done = command(*SMOKE, *VALIDATED_TWICE, "logger=wandb", "logger.wandb.offline=true", "run_dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "run").glob("wandb/offline-run-*/*.wandb")
    history = wandb_history(path)
    written = pictures(tmp_path / "run")
    logged = {int(row["trainer/global_step"]): row for row in history if "val/images/filenames" in row}
    assert sorted(logged) == sorted(written) == [2, 3]
    assert sum("val/images/filenames" in row for row in history) == 2
    assert sum("val/psnr" in row for row in history) == 2
    for step, row in logged.items():
        (name,) = row["val/images/filenames"]
        assert np.array_equal(np.asarray(Image.open(path.parent / "files" / name)), written[step])
        (caption,) = row["val/images/captions"]
        assert "error x 3" in caption


@pytest.mark.slow
def test_konet_fsdp_trains_on_two_processes(tmp_path: Path) -> None:
    settings = ["experiment=konet_fsdp", "device=cpu", "precision=fp32", "trainer.devices=2", *VALIDATED_TWICE]
    settings += ["data.image_size=[16,24]", "data.num_val_scenes=4", "data.num_workers=0", "logger=tensorboard"]
    settings += ["model.dim=32", "model.num_layers=2", "model.num_heads=2", "model.mlp_dim=64"]
    done = command(*settings, "run_dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert KoNet.from_pretrained(tmp_path / "run").config["num_layers"] == 2
    assert [step for step, _ in logged_pictures(tmp_path / "run")] == [2, 3], "only one process logs images"
