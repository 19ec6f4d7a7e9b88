from functools import partial

import av
import pytest
from PIL import Image

from wnv.cli.demo import main
from wnv.evaluation.summary import read_summary
from wnv.models.konet import KoNet

TWO_STEPS = '.overrides=["trainer.max_steps=2","trainer.val_check_interval=2","optim.warmup_steps=1"]'
SHRUNKEN = ["hydra/job_logging=none", "hydra/hydra_logging=none", "device=cpu", "train_experiment=smoke", "minutes=1"]
SHRUNKEN += [f"scratch{TWO_STEPS}", f"fine_tuning{TWO_STEPS}", "num_eval_scenes=4", "num_sheet_scenes=2", "num_views=3"]


@pytest.fixture
def call(run_in_process):
    return partial(run_in_process, main, *SHRUNKEN)


@pytest.mark.slow
def test_it_trains_scores_renders_and_lists_its_files(tmp_path, call):
    code, stdout, stderr = call("from_scratch=true", "out=first")
    assert code == 0, stderr
    out = tmp_path / "first"
    scores = read_summary(out / "eval").main
    assert scores.num_scenes == 4
    assert f"KoNet {scores.model['psnr'].mean:.2f} dB" in stdout
    assert f"copying the nearest context view {scores.copy['psnr'].mean:.2f} dB" in stdout
    for name in ("sheet.png", "path.mp4", "path.gif", "path.png", "eval/summary.json", "run"):
        assert f"first/{name}" in stdout
        assert (out / name).exists()
    with av.open(str(out / "path.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 4
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width > 5 * 160
    assert KoNet.from_pretrained(out / "run").config["dim"] == 32

    code, _, stderr = call("from_scratch=true", "out=first")
    assert code == 2
    assert stderr.startswith("wnv-demo: error: first ")


@pytest.mark.slow
def test_its_weights_initialise_another_demo_and_a_seed_reproduces_it(tmp_path, call):
    assert call("from_scratch=true", "out=first")[0] == 0
    code, stdout, stderr = call("init_from=first/run", "out=second")
    assert code == 0, stderr
    assert "starting from the weights first/run" in stdout
    code, _, stderr = call("from_scratch=true", "out=third")
    assert code == 0, stderr
    first, third = (read_summary(tmp_path / out / "eval").main for out in ("first", "third"))
    assert third.model["psnr"].mean == pytest.approx(first.model["psnr"].mean, abs=1e-6)
    assert (tmp_path / "third" / "path.gif").read_bytes() == (tmp_path / "first" / "path.gif").read_bytes()
