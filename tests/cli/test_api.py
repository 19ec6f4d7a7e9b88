"""The public API: the names of `import wnv`, and commands called from Python."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig

import wnv

SMALL = ["data.num_val_scenes=2", "data.image_size=[16,24]", "device=cpu"]


def test_import_loads_nothing_heavy_and_every_name_is_there() -> None:
    program = "import wnv, sys; assert not {'torch', 'hydra', 'numpy', 'wnv.types'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert {*wnv.__all__} <= {*dir(wnv)}
    assert all(callable(getattr(wnv, name)) for name in wnv.__all__)
    with pytest.raises(AttributeError, match="nonesuch"):
        wnv.nonesuch  # noqa: B018


def test_ingest_is_a_package_and_a_function(tmp_path: Path) -> None:
    from wnv.ingest.ledger import Ledger

    assert wnv.ingest.ledger.Ledger is Ledger
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        wnv.ingest("status", [f"root={tmp_path}"])


def test_evaluate_scores_and_writes_as_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    summary = wnv.evaluate([*SMALL, "weights=konet_tiny", "lpips=null", "num_sheet_scenes=0", "out=my results"])
    assert 0 < summary.main.model["psnr"].mean < 50
    assert (tmp_path / "my results" / "summary.json").exists()
    assert HydraConfig.instance().cfg is None or not HydraConfig.get().overrides.task
    with pytest.raises(FileExistsError, match="my results"):
        wnv.evaluate([*SMALL, "lpips=null", "out=my results"])


def test_render_returns_its_files(tmp_path: Path) -> None:
    files = wnv.render(["num_views=2", "min_side=1", "device=cpu", f"out={tmp_path / 'film'}"])
    assert {path.suffix for path in files} >= {".mp4", ".gif", ".png"}
    assert all(path.exists() for path in files)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wnv.train(["trainer.max_step=3"]), "trainer.max_step"),
        (lambda: wnv.train("experiment=smok"), "smok"),
        (lambda: wnv.evaluate(["weights=/nowhere", *SMALL]), "/nowhere"),
        (lambda: wnv.ingest("videos"), "videos"),
        (lambda: wnv.open_data(["data=scenes"]), "data.root"),
    ],
)
def test_mistakes_are_plain_exceptions(call, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        call()
