"""Examples that cannot be read, loader processes that die or are late, scripts without a guard."""

import itertools
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import Dataset

from wnv.data.faults import DataError, GuardedDataset
from wnv.data.loader import ExampleLoader
from wnv.data.mixing import MixedDataModule
from wnv.data.scene_datamodule import SceneDataModule
from wnv.data.view_sampling import BoundedSampler
from wnv.runtime.errors import RunFailed

SAMPLER = BoundedSampler(num_context=2, num_target=1, min_gap=3, max_gap=9)


@pytest.fixture
def make_data(tmp_path, write_tiny_scene):
    """A data module of ten scenes, `d` of which is damaged."""
    for name in "abcdefghij":
        write_tiny_scene(tmp_path / "train", name)
    path = tmp_path / "train" / "d.zip"
    path.write_bytes(path.read_bytes().replace(b"IHDR", b"IHDX"))
    write_tiny_scene(tmp_path / "val", "x")

    def make(**changes):
        settings = {"root": tmp_path / "train", "val_root": tmp_path / "val", "image_size": (8, 12), "batch_size": 2}
        settings |= {"sampler": SAMPLER, "val_sampler": SAMPLER, "on_error": "skip", "max_skipped_share": 0.1}
        data = SceneDataModule(**settings | changes)
        return attach(data)

    return make


def attach(data, rank=0, world_size=1):
    data.trainer = SimpleNamespace(
        distributed_sampler_kwargs={"rank": rank, "num_replicas": world_size},
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        num_devices=world_size,
        training=True,
        **{"max_steps": 10, "limit_train_batches": 1.0, "val_check_interval": 5, "overfit_batches": 0.0},
    )
    return data


def train(data, num_batches):
    """Scene and pixels of each example, as training receives them."""
    batches = [
        data.transfer_batch_to_device(batch, torch.device("cpu"), 0)
        for batch in itertools.islice(data.train_dataloader(), num_batches)
    ]
    pixels = [float(images.sum()) for batch in batches for images in batch.target.images]
    return list(zip([scene for batch in batches for scene in batch.scenes], pixels, strict=True))


def test_a_damaged_scene_ends_the_training_or_is_replaced_and_counted(make_data, caplog):
    with pytest.raises(DataError, match=r"d\.zip.*data\.on_error=skip"):
        train(make_data(on_error="raise"), 5)
    data = make_data()
    whole = train(data, 10)
    assert "d" not in {scene for scene, _ in whole}
    assert len(whole) == 20
    assert data.skipped_share == 0.1
    assert caplog.text.count("scene d skipped: ") == 1
    assert "1 of 10 training examples" in caplog.text

    resumed = make_data()
    resumed.load_state_dict(data.state_dict() | {"samples_consumed": 6})
    assert train(resumed, 7) == whole[6:]
    shares = [train(attach(make_data(), rank, 2), 5) for rank in range(2)]
    assert [sample for pair in zip(*shares, strict=True) for sample in pair] == whole


def test_too_many_damaged_scenes_end_the_training(make_data, tmp_path):
    with pytest.raises(DataError, match=r"1 of 10 training examples.*max_skipped_share=0\.05.*d\.zip"):
        train(make_data(max_skipped_share=0.05), 5)
    data = make_data(val_root=tmp_path / "train")
    data.trainer.training = False
    (batch,) = (batch for batch in data.val_dataloader() if batch.skipped)
    data.transfer_batch_to_device(batch, torch.device("cpu"), 0)
    assert data.skipped_share == 0, "validation is counted separately"
    with pytest.raises(ValueError, match=r"max_skipped_share.*2"):
        make_data(max_skipped_share=2)


def test_a_mix_replaces_examples_from_the_same_source(make_data, tmp_path):
    sources = {"one": make_data(), "two": make_data(root=tmp_path / "val", on_error="raise")}
    mix = attach(MixedDataModule(sources=sources, batch_size=2, block_size=2, on_error="skip", max_skipped_share=0.1))
    scenes = [scene for scene, _ in train(mix, 10)]
    assert scenes.count("x") == 10
    assert "d" not in scenes


class Broken(Dataset):
    def __getitem__(self, key):
        raise OSError("the network is down")


def test_data_of_which_nothing_can_be_read_are_an_error():
    with pytest.raises(DataError, match=r"20 examples in a row.*the network is down"):
        GuardedDataset(Broken(), num_examples=None, on_error="skip")[(0, 1)]


class Slow(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        time.sleep(0.2)
        return index


def test_a_late_first_batch_is_reported_with_the_reason(monkeypatch, caplog):
    monkeypatch.setattr("wnv.data.loader.LATE_AFTER_S", 0.02)
    assert len(list(ExampleLoader(Slow()))) == 2
    assert caplog.text.count("no batch after") == 1
    assert "data.num_workers" in caplog.text


def test_more_loader_processes_than_cores_are_reported(make_data, monkeypatch, caplog):
    monkeypatch.setattr("wnv.data.datamodule.num_cores", lambda: 4)
    monkeypatch.setattr("wnv.data.datamodule.loader_context", lambda dataset: None)
    make_data(num_workers=4).train_dataloader()
    assert not caplog.text
    attach(make_data(num_workers=4), world_size=2).train_dataloader()
    assert "8 loader processes for 4 cores; 2 is enough" in caplog.text


@pytest.mark.slow  # starts processes
def test_processes_of_validation_end_with_it(make_data, tmp_path):
    data = make_data(val_root=tmp_path / "train", num_workers=1)
    whole = iter(data.val_dataloader())
    workers = [*whole._workers()]
    for _ in range(5):
        next(whole)  # not until it raises StopIteration
    stopped = iter(data.val_dataloader())
    workers += stopped._workers()
    batch = next(stopped)
    data.transfer_batch_to_device(batch, torch.device("cpu"), 0)  # the next training step
    for worker in workers:
        worker.join(10)
    assert [worker.is_alive() for worker in workers] == [False, False]


@pytest.mark.slow  # starts processes
def test_a_killed_loader_process_is_one_error_between_batches(make_data):
    batches = iter(make_data(num_workers=1).train_dataloader())
    next(batches)
    (worker,) = batches._workers()
    os.kill(worker.pid, signal.SIGKILL)
    time.sleep(0.5)  # nothing is raised meanwhile
    with pytest.raises(RunFailed, match=r"SIGKILL.*data\.num_workers"):
        list(itertools.islice(batches, 5))  # some were loaded before


UNGUARDED = """
from wnv.data.synthetic_datamodule import SyntheticDataModule
from wnv.synthetic.dataset import SyntheticDataset

class Own(SyntheticDataset):
    pass

data = SyntheticDataModule(image_size=(8, 12), num_context=1, num_target=1, batch_size=1, num_workers=1)
if {is_own}:
    data.train_dataset = Own(num_scenes=None, image_size=(8, 12), num_context=1, num_target=1)
print(next(iter(data.train_dataloader())).scenes)
"""


@pytest.mark.slow  # starts processes
@pytest.mark.parametrize("is_own", [False, True])
def test_a_script_without_a_guard_trains_or_ends_with_what_is_missing(tmp_path, is_own):
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED.format(is_own=is_own))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    if is_own:
        assert done.returncode != 0
        assert done.stdout == ""
        assert "if __name__ == '__main__'" in done.stderr
    else:
        assert (done.returncode, done.stdout) == (0, "('synthetic-0-0',)\n"), done.stderr
