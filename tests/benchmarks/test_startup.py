import pytest

from wnv.benchmarks.startup import run

TINY = [
    *("experiment=smoke", "device=cpu", "trainer.max_steps=1", "optim.warmup_steps=0", "trainer.limit_val_batches=0"),
    "callbacks.progress=null",
]


def test_too_few_repeats_are_refused() -> None:
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        run(repeats=0)


def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"wnv-nothing is not there; install the package"):
        run(commands=["wnv-nothing"], repeats=1)


@pytest.mark.slow
def test_help_is_faster_than_importing_torch_and_a_step_takes_little_beyond_the_imports() -> None:
    seen = []
    for _ in range(3):  # whoever else uses the machine may stop any of them for seconds
        table = run(commands=["wnv-train"], training=TINY, repeats=1)
        seconds = {name: values[0] for name, values in table.figures["seconds"].items()}
        assert len(table.rows) == len(seconds) == 4
        is_fast = seconds["wnv-train --help"] < seconds["python -c 'import torch'"]
        if is_fast and table.figures["first_step_per_imports"] < 4:
            return
        seen.append(table.to_markdown())
    pytest.fail("\n".join(seen))


def test_a_training_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wnv.benchmarks.startup.BASES", ())  # only to be quick
    with pytest.raises(RuntimeError, match=r"ended with code 2: wnv-train: error: Could not override"):
        run(commands=[], training=["trainer.nothing=1"], repeats=1)
