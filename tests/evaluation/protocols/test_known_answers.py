"""Every protocol, with models whose scores are known without it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import wnv.conf
from torch import Tensor, nn

from wnv.evaluation.evaluator import evaluate
from wnv.evaluation.protocols.protocol import choose_frames
from wnv.evaluation.records import read_records
from wnv.types import Cameras, Views

CPU = torch.device("cpu")
NAMES = sorted(file.stem for file in (Path(wnv.conf.__path__[0]) / "protocol").glob("*.yaml"))
VARIANTS = {
    "default": [""],
    "dynamic": [""],
    "extrapolate": [""],
    "nested": ["views=2", "views=4", "views=8"],
    "re10k": [""],
    "re10k_context": ["views=3", "views=5"],
    "video": [""],
    "world_change": [
        "unchanged",
        *(
            f"{where}:{what}"
            for where in ("before", "after")
            for what in ("scale=0.5", "scale=2", "roll=90", "shift=10")
        ),
    ],
    "zoom": ["zoom=1", "zoom=3", "zoom=5"],
}


class PerfectModel(nn.Module):
    """Draws the truth, which it was told: it finds an image by its camera."""

    def __init__(self, targets: list[Views]) -> None:
        super().__init__()
        self.cameras = torch.cat([self.flat(target.cameras) for target in targets])
        self.images = torch.cat([target.images for target in targets])

    @staticmethod
    def flat(cameras: Cameras) -> Tensor:
        return torch.cat([cameras.camtoworld.flatten(-2), cameras.K.flatten(-2) / 100], dim=-1)

    def encode(self, context: Views) -> None:
        return None

    def render(self, scene: None, cameras: Cameras, times: Tensor | None = None) -> Tensor:
        found = (self.flat(cameras)[..., None, :] - self.cameras).abs().amax(-1).argmin(-1)
        return self.images[found]


class GreyModel(nn.Module):
    def encode(self, context: Views) -> None:
        return None

    def render(self, scene: None, cameras: Cameras, times: Tensor | None = None) -> Tensor:
        return torch.full((*cameras.batch_shape, 3, cameras.height, cameras.width), 0.25)


def slow_copy(example) -> list[float]:
    """PSNR of the nearest context view, in numpy."""
    poses = example.context.cameras.camtoworld.double().numpy()
    spread = np.linalg.norm(poses[:, :3, 3] - poses[:, :3, 3].mean(0), axis=1).mean()
    scores = []
    for pose, image in zip(example.target.cameras.camtoworld.double().numpy(), example.target.images, strict=True):
        turns = [(np.trace(pose[:3, :3].T @ other[:3, :3]) - 1) / 2 for other in poses]
        distances = np.linalg.norm(poses[:, :3, 3] - pose[:3, 3], axis=1) / spread + np.arccos(np.clip(turns, -1, 1))
        copied = example.context.images[int(distances.argmin())]
        scores.append(-10 * math.log10(((copied - image).double().numpy() ** 2).mean()))
    return scores


@pytest.fixture
def settings(make_protocol, make_world, tmp_path) -> dict[str, list[str]]:
    """What a protocol cannot do without: indices, made by the other protocols."""
    files = {}
    for name, views, num_target in (("two", 2, 3), ("three", 3, 2), ("five", 5, 2)):
        maker = make_protocol(
            "extrapolate", f"protocol.num_context={views}", f"protocol.num_target={num_target}", "protocol.max_gap=30"
        )
        files[name] = tmp_path / f"{name}.json"
        files[name].write_text(json.dumps(choose_frames(maker, make_world())))
    return {
        "re10k": [f"protocol.index={files['two']}"],
        "re10k_context": [f"protocol.indices={{3: {files['three']}, 5: {files['five']}}}"],
        "video": ["protocol.min_gap=6", "protocol.max_gap=9"],
    }


def test_every_protocol_is_tested() -> None:
    assert set(VARIANTS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_models_score_what_is_known(name, make_protocol, make_world, settings, tmp_path) -> None:
    protocol = make_protocol(name, *settings.get(name, []))
    data = make_world("dynamic" if name == "dynamic" else "static")
    variants = protocol.variants(data)
    assert [variant.name for variant in variants] == VARIANTS[name]
    assert protocol.name == name
    assert protocol.reference is None or protocol.reference == variants[0].name
    cases = {(v.name, i): v[i] for v in variants for i in range(len(v))}
    assert len(cases) == 2 * len(variants)

    perfect = PerfectModel([case.example.target for case in cases.values()])
    options = {"device": CPU, "protocol": name, "reference": protocol.reference}
    summary = evaluate(perfect, variants, out=tmp_path / "perfect", **options)
    for variant in summary.variants:
        assert variant.model["psnr"].mean == 100
        assert variant.model["ssim"].mean == pytest.approx(1)
        assert variant.num_capped == variant.num_views
        assert variant.num_listed == variant.num_scenes == 2
        assert variant.missing == []

    evaluate(GreyModel(), variants, out=tmp_path / "grey", **options)
    for record in read_records(tmp_path / "grey"):
        case = cases[record.key]
        grey = [-10 * math.log10(((image.double() - 0.25) ** 2).mean()) for image in case.example.target.images]
        assert record.model["psnr"] == pytest.approx(grey, abs=1e-3)
        assert record.copy["psnr"] == pytest.approx(slow_copy(case.example), abs=1e-3)
        if name != "default":
            assert tuple(record.context_frames) == case.context_frames
            assert tuple(record.target_frames) == case.target_frames
            assert len(record.context_frames) == record.num_context
