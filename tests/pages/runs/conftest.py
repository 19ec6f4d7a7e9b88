"""Folders of `wnv-train` and `wnv-eval` with known scores, written without training."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from wnv.evaluation.images import write_png
from wnv.evaluation.layout import PICTURES_FOLDER, picture_stem
from wnv.evaluation.records import RecordFile, SceneRecord
from wnv.evaluation.summary import Listing, summarize
from wnv.training.run_folder import CONFIG_FILE, FINISHED, METRICS_FILE, note_end, note_start

CONFIG = {
    "name": "wnv",
    "seed": 0,
    "run_dir": None,
    "model": {"_target_": "wnv.models.konet.KoNet", "dim": 192, "num_heads": 6, "camera_encoding": "geope"},
    "optim": {"lr": 1e-3},
    "trainer": {"max_steps": 40},
}
DATA = {"_target_": "wnv.data.synthetic_datamodule.SyntheticDataModule", "image_size": [16, 24]}


class Folders:
    """Writes runs and evaluations below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(
        self,
        place: str,
        *,
        steps: int = 40,
        psnr: float = 20.0,
        end: tuple[str, str | None] | None = (FINISHED, None),
        metrics: Mapping[str, Sequence[float]] | None = None,
        **settings: Any,
    ) -> Path:
        """A run that validated every ten steps; `end` None leaves its end open. `model_dim=8` sets `model.dim`."""
        folder = self.root / place
        folder.mkdir(parents=True)
        config = json.loads(json.dumps(CONFIG)) | {"run_dir": str(folder)}
        for key, value in settings.items():
            group, _, setting = key.partition("_")
            if setting:
                config[group][setting] = value
            else:
                config[group] = value
        (folder / CONFIG_FILE).write_text(yaml.safe_dump(config))
        rows = range(10, steps + 1, 10)
        table = {"val/psnr": [psnr - 5 + 5 * row / steps for row in rows], "val/psnr_copy": [17.0 for _ in rows]}
        table |= {"train/loss": [1.0 / row for row in rows], **(metrics or {})}
        lines = [",".join(["step", *table])]
        lines += [",".join(map(str, values)) for values in zip((row - 1 for row in rows), *table.values(), strict=True)]
        (folder / METRICS_FILE).write_text("\n".join(lines) + "\n")
        start = {"date": "2026-01-02", "version": "1.2.3", "command": ["/bin/wnv-train", "seed=0"]}
        number = note_start(folder, start)
        if end is not None:
            note_end(folder, end[0], start=number, step=steps, message=end[1])
        return folder

    def evaluation(
        self,
        name: str,
        scores: Mapping[str, float] | Mapping[str, Mapping[str, float]],
        *,
        weights: str | Path = "konet_tiny",
        copy: float = 17.0,
        protocol: str = "default",
        data: Mapping[str, Any] = DATA,
        pictures: Sequence[int] = (),
        film_bytes: int = 0,
        fingerprint: str = "abc",
        finish: bool = True,
        missing: Sequence[str] = (),
        num_capped: int = 0,
        is_noted: bool = True,
        **facts: Any,
    ) -> Path:
        """An evaluation with a PSNR a scene, of each variant where `scores` has several.

        `is_noted` False leaves out where the weights lay, as older versions did.
        """
        folder = self.root / name
        variants = scores if isinstance(next(iter(scores.values())), Mapping) else {"": scores}
        records = [
            SceneRecord(
                index=index,
                scene=scene,
                num_context=2,
                context_times=[0.0, 0.0],
                target_times=[0.0],
                model={"psnr": [psnr], "ssim": [psnr / 40]},
                copy={"psnr": [copy], "ssim": [copy / 40]},
                num_capped=num_capped if index == 0 else 0,
                encode_ms=4.0,
                render_ms=2.5,
                variant=variant,
            )
            for variant, values in variants.items()
            for index, (scene, psnr) in enumerate(values.items())
        ]
        settings = {"weights": str(weights), "fingerprint": fingerprint}
        settings |= {"protocol": {"name": protocol}, "data": dict(data)}
        RecordFile(folder, settings=settings).append(records)
        if finish:
            origin = {"weights_path": str(Path(weights).resolve())} if is_noted and Path(weights).exists() else {}
            facts |= {"settings": settings, "environment": {"date": "2026-01-03", "device": "cpu: test", **origin}}
            counts = {variant: len(values) + len(missing) for variant, values in variants.items()}
            listings = {name: Listing(num_listed=count, missing=missing) for name, count in counts.items()}
            summarize(records, protocol=protocol, listings=listings, **facts).write(folder)
        for index in pictures:
            for number, variant in enumerate(variants):
                colour = np.full((12, 40, 3), (20 * index, 100 * number, 90), np.uint8)
                (folder / PICTURES_FOLDER).mkdir(exist_ok=True)
                write_png(folder / PICTURES_FOLDER / f"{picture_stem(index, variant)}.png", colour)
                if film_bytes:
                    (folder / PICTURES_FOLDER / f"{picture_stem(index, variant)}.mp4").write_bytes(bytes(film_bytes))
        return folder


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    """The test's folder, which is also the working directory."""
    monkeypatch.chdir(tmp_path)
    return Folders(Path())
