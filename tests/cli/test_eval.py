import sys

import numpy as np
import pytest

from wnv.cli.eval import main
from wnv.evaluation.summary import read_summary
from wnv.models.konet import KoNet
from wnv.scenes.index import build_index
from wnv.scenes.schema import Frame, SceneInfo
from wnv.scenes.write import write_scene

QUIET = ["hydra/job_logging=none", "hydra/hydra_logging=none", "device=cpu"]
SMALL = ["data.image_size=[16,24]", "data.num_val_scenes=3", "data.num_target=2", "num_sheet_scenes=2"]


@pytest.fixture
def weights(tmp_path):
    return KoNet(dim=32, num_layers=1, num_heads=2, mlp_dim=32).save_pretrained(tmp_path / "weights")


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Runs the command in a folder of its own; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["wnv-eval", *QUIET, *arguments])
        code = 0
        try:
            main()
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    return run


def test_synthetic_scenes_are_scored_recorded_and_shown(tmp_path, call, weights):
    code, stdout, stderr = call(f"weights={weights}", "out=results", *SMALL)
    assert code == 0, stderr
    out = tmp_path / "results"
    assert sorted(path.name for path in out.iterdir()) == [
        "evaluation.json",
        "records.jsonl",
        "sheet.png",
        "summary.json",
        "table.txt",
    ]
    assert len((out / "records.jsonl").read_text().splitlines()) == 3
    summary = read_summary(out)
    assert (summary.main.num_scenes, summary.main.num_views) == (3, 6)
    assert summary.settings["weights"] == str(weights)
    assert summary.settings["data"]["image_size"] == [16, 24]
    assert summary.provenance["device"].startswith("cpu")
    assert f"{summary.main.model['psnr'].mean:.2f}" in stdout
    assert "nearest context view" in stdout
    assert (out / "table.txt").read_text() in stdout
    assert "records.jsonl, summary.json, table.txt, sheet.png" in stdout


def test_results_are_resumed_or_replaced_only_when_asked(call, weights):
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
    assert "made with other settings (data was" in stderr
    assert call(*arguments("overwrite=true", "data.zoom_range=[1.0,1.0]"))[0] == 0


def test_scene_files_are_scored(tmp_path, call, weights, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("a", "b"):
        frames = tuple(
            Frame(time_s=i, K=np.array([[30.0, 0, 20], [0, 30, 12], [0, 0, 1]]), camtoworld=_moved(0.3 * i))
            for i in range(8)
        )
        info = SceneInfo(id=name, kind="static", width=40, height=24, frames=frames)
        write_scene(tmp_path / "scenes", info, [np.full((24, 40, 3), 20 * i, dtype=np.uint8) for i in range(8)])
    build_index(tmp_path / "scenes")
    code, stdout, stderr = call(
        f"weights={weights}",
        "data=scenes",
        'data.root="~/scenes"',
        "data.image_size=[16,24]",
        "data.val_sampler.min_gap=5",
        "data.val_sampler.max_gap=7",
        "data.val_sampler.num_target=2",
        "data.num_workers=0",
        "out=results",
    )
    assert code == 0, stderr
    assert "2 scenes, 4 target views" in stdout


def _moved(x: float) -> np.ndarray:
    pose = np.eye(4)
    pose[0, 3] = x
    return pose


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["weights=konet_huge"], "no weights at 'konet_huge'"),
        (["weights=@", "data=scenes"], "data.root has no default"),
        (["weights=@", "data=fit_scene"], "data.root has no default"),
        (["weights=@", "data=scenes", "data.root=nowhere"], "nowhere"),
        (["weights=@", "overwrite=no"], "overwrite must be true or false, got 'no'"),
        (["weights=@", "num_sheet_scenes=few"], "num_sheet_scenes must be a whole number, got 'few'"),
        (["weights=@", "data.image_size=[15,24]"], "image height must be a multiple of patch_size=8, got 15"),
        (["weights=@", "data.num_val_scenes=0"], "num_val_scenes"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(call, weights, arguments, message):
    code, _, stderr = call("out=results", *[item.replace("=@", f"={weights}") for item in arguments])
    assert code == 2
    last = stderr.strip().splitlines()[-1]
    assert last.startswith("wnv-eval: error: ")
    assert message in last
    assert "Traceback" not in stderr
