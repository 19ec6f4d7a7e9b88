from functools import partial

import av
import pytest
from PIL import Image

from wnv.cli.demo import main
from wnv.evaluation.summary import read_summary
from wnv.models.konet import KoNet

SHRUNKEN = [
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
    "device=cpu",
    "train_experiment=smoke",
    'scratch.overrides=["trainer.max_steps=2","trainer.val_check_interval=2","optim.warmup_steps=1"]',
    'fine_tuning.overrides=["trainer.max_steps=2","trainer.val_check_interval=2","optim.warmup_steps=1"]',
    "minutes=1",
    "num_eval_scenes=4",
    "num_sheet_scenes=2",
    "num_views=3",
]


@pytest.fixture
def call(run_in_process):
    return partial(run_in_process, main, *SHRUNKEN)


@pytest.mark.slow
def test_it_trains_scores_draws_and_says_where_everything_is(tmp_path, call):
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
    assert stderr == "wnv-demo: error: first holds a demo; choose another out=\n"


@pytest.mark.slow
def test_its_weights_are_something_to_begin_with_and_a_seed_gives_the_same_again(tmp_path, call):
    assert call("from_scratch=true", "out=first")[0] == 0
    code, stdout, stderr = call("init_from=first/run", "out=second")
    assert code == 0, stderr
    assert "starting from the weights first/run" in stdout
    code, _, stderr = call("from_scratch=true", "out=third")
    assert code == 0, stderr
    first, third = (read_summary(tmp_path / out / "eval").main for out in ("first", "third"))
    assert third.model["psnr"].mean == pytest.approx(first.model["psnr"].mean, abs=1e-6)
    assert (tmp_path / "third" / "path.gif").read_bytes() == (tmp_path / "first" / "path.gif").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scene=4"], "scene must be in 0..3 (num_eval_scenes), got 4"),
        (["minutes=0"], "minutes must be positive, got 0"),
        (["init_from=konet_huge"], "no weights at 'konet_huge'"),
        (["train_experiment=nothing"], "nothing"),
        (['train_overrides=["trainer.max_stepz=3"]'], "max_stepz"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(call, arguments, message):
    code, _, stderr = call("out=results", *arguments)
    assert code == 2
    assert stderr.startswith("wnv-demo: error: ")
    assert stderr.count("\n") == 1
    assert message in stderr
