"""Checks of the outputs of the README's commands: runs, evaluations, videos, images."""

import csv
from pathlib import Path

import av
import yaml
from PIL import Image

from wnv.checkpoints.read import read_checkpoint
from wnv.evaluation.records import read_records
from wnv.evaluation.summary import read_summary
from wnv.models.konet import KoNet


def newest(place: Path, pattern: str) -> Path:
    """The newest folder; names that are times sort by age."""
    found = sorted(place.glob(pattern))
    assert found, f"there is no {pattern}"
    return found[-1]


def config_of(run_dir: Path) -> dict:
    return yaml.safe_load((run_dir / "config.yaml").read_text())


def assert_run(run_dir: Path, *, num_steps: int) -> None:
    names = {file.name for file in run_dir.iterdir()}
    assert {"config.yaml", "metrics.csv", "images", "last.ckpt", "best.ckpt"} <= names
    assert list((run_dir / "images").glob("*.png"))
    assert read_checkpoint(run_dir)["global_step"] == num_steps
    with (run_dir / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows if row["train/loss"]] == list(range(num_steps))
    assert any(row["val/psnr"] for row in rows)
    KoNet.from_pretrained(run_dir)


def assert_evaluation(out: Path, shown: str, *, num_examples: int) -> None:
    main = read_summary(out).main
    assert main.num_examples == num_examples
    assert len(read_records(out)) == num_examples * len(read_summary(out).variants)
    assert_picture(out / "sheet.png")
    for means in (main.model, main.copy):
        assert f"{means['psnr'].mean:.2f}" in shown
        assert f"{means['ssim'].mean:.4f}" in shown


def assert_film(out: Path, shown: str, *, num_views: int = 3) -> tuple[int, int]:
    """Check that the video exists and was reported; return the height and width of its frames."""
    for name in ("path.mp4", "path.gif", "path.png"):
        assert f"{out.name}/{name}" in shown
    num_frames = 2 * num_views - 2  # there and back
    with av.open(str(out / "path.mp4")) as container:
        frames = [(frame.height, frame.width) for frame in container.decode(video=0)]
    assert len(frames) == num_frames
    with Image.open(out / "path.gif") as gif:
        assert gif.n_frames == num_frames
    assert_picture(out / "path.png")
    return frames[0]


def assert_demo(out: Path, shown: str) -> None:
    main = read_summary(out / "eval").main
    assert f"KoNet {main.model['psnr'].mean:.2f} dB" in shown
    assert f"copying the nearest context view {main.copy['psnr'].mean:.2f} dB" in shown
    assert_picture(out / "sheet.png")
    assert_film(out, shown)


def assert_picture(path: Path) -> None:
    with Image.open(path) as image:
        assert len(image.convert("L").getcolors()) > 10, f"{path} is nearly empty"
