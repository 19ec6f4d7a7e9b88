import math
from functools import partial

import pytest
import torch
from torch import nn

from wnv.training.optim import lr_factor, make_optimizer, make_schedule


def test_only_matrices_decay_and_frozen_parameters_are_left_out() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    module[2].weight.requires_grad_(False)
    optimizer = make_optimizer("adamw", module, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay[id(module[0].weight)] == 0.05
    assert decay[id(module[0].bias)] == 0.0
    assert decay[id(module[1].weight)] == 0.0
    assert id(module[2].weight) not in decay
    assert len(decay) == 5
    assert optimizer.defaults["betas"] == (0.9, 0.95)


def test_nothing_to_train_is_rejected() -> None:
    with pytest.raises(ValueError, match="no trainable parameters"):
        make_optimizer("adamw", nn.Linear(2, 2).requires_grad_(False), lr=1.0)


def test_any_optimizer_can_be_used() -> None:
    """Its own arguments take precedence, None is not passed, and an unknown argument is named in the error."""
    optimizer = make_optimizer(partial(torch.optim.SGD, momentum=0.9), nn.Linear(3, 4), lr=0.1, weight_decay=0.5)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]
    assert {(group["lr"], group["momentum"]) for group in optimizer.param_groups} == {(0.1, 0.9)}
    own = make_optimizer(partial(torch.optim.AdamW, lr=0.3), nn.Linear(3, 4), lr=0.1)
    assert own.param_groups[0]["lr"] == 0.3
    with pytest.raises(TypeError, match=r"SGD.*betas"):
        make_optimizer(torch.optim.SGD, nn.Linear(3, 4), lr=0.1, betas=(0.9, 0.95))
    with pytest.raises(TypeError, match=r"transformer\.blocks.*Linear"):
        make_optimizer("muon", nn.Linear(3, 4), lr=0.1)


def test_schedule_equals_the_written_table() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.4)
    scheduler = make_schedule(optimizer, warmup_steps=4, max_steps=12)
    seen = []
    for _ in range(13):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    half = 0.2 * math.cos(math.pi / 8), 0.2 * math.cos(math.pi / 4), 0.2 * math.cos(3 * math.pi / 8)
    expected = [0.1, 0.2, 0.3, 0.4, 0.4, *(0.2 + h for h in half), 0.2, *(0.2 - h for h in reversed(half)), 0.0]
    assert seen == pytest.approx(expected, abs=1e-12)


def test_wsd_stays_at_the_peak_and_falls_at_the_end() -> None:
    options = {"warmup_steps": 2, "max_steps": 10, "schedule": "wsd", "decay_share": 0.4}
    assert [lr_factor(step, **options) for step in range(12)] == pytest.approx(
        [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0]
    )
    for wrong, message in (({"schedule": "line"}, "schedule.*line"), ({"decay_share": 1.5}, r"decay_share.*1\.5")):
        with pytest.raises(ValueError, match=message):
            make_schedule(torch.optim.SGD([nn.Parameter(torch.zeros(1))]), **{**options, **wrong})


def test_no_warmup_begins_at_the_peak_and_past_the_end_stays_at_zero() -> None:
    assert lr_factor(0, warmup_steps=0, max_steps=10) == 1.0
    assert lr_factor(25, warmup_steps=0, max_steps=10) == 0.0
    with pytest.raises(ValueError, match=r"optim\.warmup_steps.*-1"):
        make_schedule(torch.optim.SGD([nn.Parameter(torch.zeros(1))]), warmup_steps=-1, max_steps=10)


@pytest.mark.parametrize(("warmup_steps", "warns"), [(9, False), (10, True), (40, True)])
def test_a_run_that_ends_within_the_warmup_warns(
    warmup_steps: int, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with caplog.at_level("WARNING"):
        make_schedule(optimizer, warmup_steps=warmup_steps, max_steps=10)
    assert ("optim.warmup_steps" in caplog.text) == warns
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1 / warmup_steps)
