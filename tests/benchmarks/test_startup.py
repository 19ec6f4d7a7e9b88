import pytest

from wnv.benchmarks.startup import run

TINY = [
    *("experiment=smoke", "device=cpu", "trainer.max_steps=1", "optim.warmup_steps=0", "trainer.limit_val_batches=0"),
    "callbacks.progress=null",
]


def test_zero_repeats_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"repeats.*0"):
        run(repeats=0)


def test_a_missing_command_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="wnv-nothing"):
        run(commands=["wnv-nothing"], repeats=1)


@pytest.mark.slow
def test_help_is_faster_than_importing_torch_and_a_step_takes_little_beyond_the_imports() -> None:
    seen = []
    for _ in range(3):  # other load may stop any of them for seconds
        table = run(commands=["wnv-train"], training=TINY, repeats=1)
        seconds = {name: values[0] for name, values in table.figures["seconds"].items()}
        assert len(table.rows) == len(seconds) == 4
        is_fast = seconds["wnv-train --help"] < seconds["python -c 'import torch'"]
        if is_fast and table.figures["first_step_per_imports"] < 4:
            return
        seen.append(table.to_markdown())
    pytest.fail("\n".join(seen))


@pytest.mark.slow  # starts wnv-train
def test_a_failed_training_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wnv.benchmarks.startup.BASES", ())  # for speed
    with pytest.raises(RuntimeError, match=r"code 2.*wnv-train: error"):
        run(commands=[], training=["trainer.nothing=1"], repeats=1)
