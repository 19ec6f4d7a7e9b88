"""Every protocol, with models whose scores are known."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import wnv.conf

from wnv.evaluation.evaluator import evaluate
from wnv.evaluation.protocols.protocol import choose_frames
from wnv.evaluation.protocols.views import Extrapolate
from wnv.evaluation.records import read_records

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
    "world_change": ["unchanged", "before:scale=2", "before:shift=10", "after:scale=2", "after:shift=10"],
    "zoom": ["zoom=1", "zoom=3", "zoom=5"],
}


@pytest.fixture
def settings(make_world, tmp_path) -> Callable[[str], list[str]]:
    """The required settings of a protocol: indices made by another one."""

    def index(num_context: int, num_target: int) -> Path:
        maker = Extrapolate(num_context=num_context, num_target=num_target, max_gap=30)
        path = tmp_path / f"{num_context}.json"
        path.write_text(json.dumps(choose_frames(maker, make_world())))
        return path

    def make(name: str) -> list[str]:
        if name == "re10k":
            return [f"protocol.index={index(2, 3)}"]
        if name == "re10k_context":
            return [f"protocol.indices={{3: {index(3, 2)}, 5: {index(5, 2)}}}"]
        if name == "world_change":
            return ["protocol.scales=[2]", "protocol.rolls_deg=[]"]
        return ["protocol.min_gap=6", "protocol.max_gap=9"] if name == "video" else []

    return make


def test_every_protocol_is_tested() -> None:
    assert set(VARIANTS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_models_score_what_is_known(
    name,
    make_protocol,
    make_world,
    make_perfect_model,
    grey_model,
    slow_copies,
    slow_psnr,
    settings,
    tmp_path,
    monkeypatch,
) -> None:
    protocol = make_protocol(name, *settings(name))
    data = make_world("dynamic" if name == "dynamic" else "static")
    variants = protocol.variants(data)
    assert [variant.name for variant in variants] == VARIANTS[name]
    assert protocol.name == name
    assert protocol.reference is None or protocol.reference == variants[0].name
    cases = {(v.name, i): v[i] for v in variants for i in range(len(v))}
    for variant in variants:  # rendered once for both models
        monkeypatch.setattr(variant, "__getitems__", lambda indices, v=variant: [cases[v.name, i] for i in indices])
    assert len(cases) == 2 * len(variants)

    perfect = make_perfect_model([case.example.target for case in cases.values()])
    options = {"device": CPU, "protocol": name, "reference": protocol.reference}
    summary = evaluate(perfect, variants, out=tmp_path / "perfect", **options)
    for variant in summary.variants:
        assert variant.model["psnr"].mean == 100
        assert variant.model["ssim"].mean == pytest.approx(1)
        assert variant.num_capped == variant.num_views
        assert variant.num_listed == variant.num_scenes == 2
        assert variant.missing == []

    evaluate(grey_model, variants, out=tmp_path / "grey", **options)
    for record in read_records(tmp_path / "grey"):
        case = cases[record.key]
        context, target = case.example.context, case.example.target
        grey = slow_psnr(grey_model.render(None, target.cameras), target.images)
        copied = slow_psnr(context.images[slow_copies(case.example)], target.images)
        assert record.model["psnr"] == pytest.approx(grey, abs=1e-3)
        assert record.copy["psnr"] == pytest.approx(copied, abs=1e-3)
        if name != "default":
            assert tuple(record.context_frames) == case.context_frames
            assert tuple(record.target_frames) == case.target_frames
            assert len(record.context_frames) == record.num_context
