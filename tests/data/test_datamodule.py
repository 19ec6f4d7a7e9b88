"""Data modules: exact resumption, shares of several processes, limits, and settings that cannot work."""

import itertools
import logging
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DistributedSampler

from wnv.data.scene_datamodule import SceneDataModule
from wnv.data.synthetic_datamodule import SyntheticDataModule
from wnv.data.view_sampling import BoundedSampler, HoldoutSampler
from wnv.types import Batch

SAMPLER = BoundedSampler(num_context=2, num_target=1, min_gap=3, max_gap=9)
pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning:lightning"),
]


@pytest.fixture
def roots(tmp_path, write_tiny_scene):
    for part, names in (("train", "abcde"), ("val", "xyz")):
        for name in names:
            write_tiny_scene(tmp_path / part, name)
    return {"root": tmp_path / "train", "val_root": tmp_path / "val"}


@pytest.fixture
def make_scenes(roots):
    def make(**changes):
        settings = {
            **roots,
            "sampler": SAMPLER,
            "val_sampler": SAMPLER,
            "image_size": (8, 12),
            "zoom_range": (1.0, 2.0),
            "batch_size": 2,
        }
        return SceneDataModule(**settings | changes)

    return make


def make_synthetic(**changes):
    settings = {"image_size": (8, 12), "num_context": 2, "num_target": 1, "batch_size": 2, "num_val_scenes": 4}
    return SyntheticDataModule(**settings | changes)


def summarize(batches):
    """Scene, pixels and cameras of each example: equal only for the same sample."""
    return [
        (scene, round(float(target.images.sum() + context.images.sum()), 4), round(float(target.cameras.K.sum()), 4))
        for batch in batches
        for scene, context, target in zip(batch.scenes, batch.context, batch.target, strict=True)
    ]


def take(datamodule, num_batches):
    return summarize(itertools.islice(datamodule.train_dataloader(), num_batches))


class Recorder(L.LightningModule):
    """Records the batches of each stage."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.trained, self.validated, self.tested = [], [], []

    def training_step(self, batch, batch_idx):
        self.trained += summarize([batch])
        self.trainer.datamodule.advance(self.trainer.datamodule.global_batch_size)
        return (self.weight - batch.target.images.mean()) ** 2

    def validation_step(self, batch, batch_idx):
        self.validated += summarize([batch])

    def test_step(self, batch, batch_idx):
        self.tested += summarize([batch])

    def predict_step(self, batch, batch_idx):
        return summarize([batch])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def make_trainer(folder, **settings):
    defaults = {
        "default_root_dir": folder,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "check_val_every_n_epoch": None,
        "val_check_interval": 3,
    }
    return L.Trainer(**defaults | settings)


def fit(folder, datamodule, *, max_steps, **settings):
    ckpt_path = settings.pop("ckpt_path", None)
    module, trainer = Recorder(), make_trainer(folder, max_steps=max_steps, **settings)
    trainer.fit(module, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=True)
    return module, trainer


@pytest.mark.slow
def test_a_resumed_run_sees_the_samples_of_an_uninterrupted_one(tmp_path, make_scenes):
    whole, _ = fit(tmp_path, make_scenes(), max_steps=11)
    assert len(whole.trained) == 22

    def checkpoint():
        return L.pytorch.callbacks.ModelCheckpoint(dirpath=tmp_path / "saved", every_n_train_steps=4, save_top_k=-1)

    first, _ = fit(tmp_path, make_scenes(), max_steps=6, enable_checkpointing=True, callbacks=[checkpoint()])
    saved = tmp_path / "saved" / "epoch=0-step=4.ckpt"
    state = torch.load(saved, weights_only=True)
    assert state["SceneDataModule"] == {"samples_consumed": 8, "seed": 0, "num_scenes": 5}

    second, trainer = fit(
        tmp_path, make_scenes(), max_steps=11, enable_checkpointing=True, callbacks=[checkpoint()], ckpt_path=saved
    )
    assert first.trained[:8] + second.trained == whole.trained
    assert trainer.global_step == 11
    assert trainer.datamodule.samples_consumed == 22
    assert torch.equal(second.weight, whole.weight)


def test_validation_testing_and_prediction_read_the_same_examples(tmp_path, make_scenes):
    module, trainer = fit(tmp_path, make_scenes(), max_steps=7)
    assert [scene for scene, *_ in module.validated] == ["x", "y", "z"] * 2
    assert module.validated[:3] == module.validated[3:]
    trainer.test(module, datamodule=make_scenes(), verbose=False)
    assert module.tested == module.validated[:3]
    predicted = trainer.predict(module, datamodule=make_scenes())
    assert [example for batch in predicted for example in batch] == module.tested


def test_epochs_of_limited_length_continue_the_stream(tmp_path, make_scenes):
    module, _ = fit(tmp_path, make_scenes(), max_steps=-1, max_epochs=3, limit_train_batches=2, limit_val_batches=0)
    assert module.trained == take(make_scenes(), 6)


@pytest.mark.filterwarnings("ignore:You requested to overfit:UserWarning")
def test_overfitting_repeats_the_first_batches(tmp_path, make_scenes):
    module, _ = fit(tmp_path, make_scenes(), max_steps=6, overfit_batches=2)
    assert module.trained == 3 * take(make_scenes(), 2)
    assert module.validated == 2 * summarize(make_scenes().val_dataloader())
    with pytest.raises(ValueError, match=r"overfit_batches.*0\.5"):
        fit(tmp_path, make_scenes(), max_steps=6, overfit_batches=0.5)


def test_reading_ahead_moves_neither_the_position_nor_the_global_generator(make_scenes):
    before = torch.random.get_rng_state()
    datamodule = make_scenes()
    whole = take(make_scenes(), 6)
    assert take(datamodule, 4) == whole[:8]
    assert datamodule.state_dict()["samples_consumed"] == 0
    datamodule.advance(4)
    assert take(datamodule, 4) == whole[4:12]
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.slow  # spawned processes import torch
@pytest.mark.parametrize("kind", ["scenes", "synthetic"])
def test_workers_load_what_the_training_process_loads(kind, make_scenes):
    make = {"scenes": make_scenes, "synthetic": make_synthetic}[kind]
    expected = take(make(), 4)
    for num_workers in (1, 2):
        datamodule = make(num_workers=num_workers)
        assert take(datamodule, 4) == expected
        assert len(summarize(datamodule.val_dataloader())) == (3 if kind == "scenes" else 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"seed": 3}, "seed .* 0 .* 3"), ({"root": "val"}, "num_scenes .* 5 .* 3")],
)
def test_resuming_in_another_order_is_an_error_unless_allowed(make_scenes, roots, caplog, changes, message):
    state = make_scenes().state_dict() | {"samples_consumed": 6}
    changes = {name: roots["val_root"] if value == "val" else value for name, value in changes.items()}
    with pytest.raises(ValueError, match=message):
        make_scenes(**changes).load_state_dict(state)
    allowed = make_scenes(**changes, allow_changed_order=True)
    allowed.load_state_dict(state)
    assert allowed.samples_consumed == 6
    assert "new order" in caplog.text


def on_process(datamodule, rank, world_size, device="cpu"):
    """The data module as one of several processes has it."""
    datamodule.trainer = SimpleNamespace(
        distributed_sampler_kwargs={"rank": rank, "num_replicas": world_size},
        strategy=SimpleNamespace(root_device=torch.device(device)),
        num_devices=1,
        training=True,
        **{"max_steps": 10, "limit_train_batches": 1.0, "val_check_interval": 5, "overfit_batches": 0.0},
    )
    return datamodule


def test_processes_share_the_stream_and_the_validation_scenes(make_scenes):
    whole = take(make_scenes(), 12)
    shares = [take(on_process(make_scenes(), rank, 3), 4) for rank in range(3)]
    assert [sample for samples in zip(*shares, strict=True) for sample in samples] == whole
    datamodule = on_process(make_scenes(), 0, 3)
    assert datamodule.global_batch_size == 6
    # Lightning replaces every other kind of sampler on several devices.
    assert isinstance(datamodule.train_dataloader().sampler, DistributedSampler)
    assert isinstance(datamodule.val_dataloader().sampler, DistributedSampler)

    scenes = [s for r in range(3) for b in on_process(make_scenes(), r, 3).val_dataloader() for s in b.scenes]
    assert sorted(scenes) == ["x", "y", "z"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_memory_is_pinned_only_when_a_gpu_trains(make_scenes, monkeypatch, device):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    datamodule = on_process(make_scenes(), 0, 1, device)
    assert datamodule.train_dataloader().pin_memory == datamodule.val_dataloader().pin_memory == (device == "cuda")


def test_uneven_validation_is_an_error(make_scenes):
    with pytest.raises(ValueError, match=r"2 devices.* 3"):
        on_process(make_scenes(val_batch_size=1), 0, 2).val_dataloader()
    batches = list(on_process(make_scenes(val_batch_size=1, num_val_examples=2), 1, 2).val_dataloader())
    assert [batch.scenes for batch in batches] == [("y",)]


def test_batches_are_copied_without_waiting(make_scenes, monkeypatch):
    calls = []
    batch = next(iter(make_scenes().val_dataloader()))
    monkeypatch.setattr(Batch, "to", lambda self, *args, **kwargs: calls.append(kwargs) or self)
    for device in ("cpu", "cuda"):
        make_scenes().transfer_batch_to_device(batch, torch.device(device), 0)
    assert calls == [{"non_blocking": False}, {"non_blocking": True}]


def test_limits_and_intervals_of_an_endless_stream(tmp_path, make_scenes, caplog):
    with pytest.raises(ValueError, match="max_steps"):
        fit(tmp_path, make_scenes(), max_steps=-1, max_epochs=2)
    module, _ = fit(tmp_path, make_scenes(), max_steps=2, val_check_interval=1)  # a batch, not an epoch
    assert len(module.validated) == 2 * 3
    assert "validation will not run" not in caplog.text
    fit(tmp_path, make_scenes(), max_steps=1, val_check_interval=1.0, check_val_every_n_epoch=1)
    assert "validation will not run" in caplog.text


def test_scenes_in_training_and_validation_are_logged(make_scenes, roots, caplog):
    make_scenes().val_dataloader()
    assert not caplog.text
    datamodule = make_scenes(val_root=roots["root"] / "b.zip")
    assert len(datamodule.val_dataset) == 1  # as an evaluation reads it
    assert not caplog.text
    datamodule.val_dataloader()
    assert "1 scenes" in caplog.text


def test_holdout_splits_one_scene_without_overlap(make_scenes, roots, caplog):
    root = roots["root"] / "a.zip"
    samplers = {
        "sampler": HoldoutSampler(split="train", num_context=2, num_target=2, every=4),
        "val_sampler": HoldoutSampler(split="val", num_context=2, every=4),
    }
    with caplog.at_level(logging.WARNING):
        datamodule = make_scenes(root=root, val_root=root, **samplers)
        assert sum(len(batch) for batch in datamodule.val_dataloader()) == 3
    # These cameras look outwards, which is doubtful.
    assert not [record for record in caplog.records if record.name != "wnv.scenes.listing"]
    with pytest.raises(ValueError, match="every=4 and every=5"):
        make_scenes(sampler=samplers["sampler"], val_sampler=HoldoutSampler(split="val", num_context=2, every=5))


def test_values_out_of_range_are_errors(make_scenes):
    for name, value in (("batch_size", 0), ("val_batch_size", 0), ("num_workers", -1), ("num_val_examples", 0)):
        with pytest.raises(ValueError, match=f"{name}.*{value}"):
            make_scenes(**{name: value})
    for settings in ({"num_val_scenes": 0}, {"val_seed": 5, "seed": 5}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            make_synthetic(**settings)
    with pytest.raises(ValueError, match=r"num_samples.*-1"):
        make_scenes().advance(-1)


@pytest.mark.parametrize(("num_scenes", "kind"), [(None, "static"), (3, "mixed")])
def test_synthetic_stream_and_validation(num_scenes, kind):
    datamodule = make_synthetic(num_scenes=num_scenes, kind=kind)
    train = take(datamodule, 3)
    assert len({scene for scene, *_ in train}) == (num_scenes or 6)
    batches = list(datamodule.val_dataloader())
    moves = torch.cat([batch.target.times.any(dim=1) for batch in batches])
    assert 0 < moves.sum() < 4 if kind == "mixed" else not moves.any()
    val = summarize(batches)
    assert not {tuple(d[1:]) for d in val} & {tuple(d[1:]) for d in train}
    assert val == summarize(make_synthetic(seed=77, kind=kind).val_dataloader())
    datamodule.advance(4)
    assert take(datamodule, 1) == train[4:]
    assert datamodule.state_dict() == {"samples_consumed": 4, "seed": 0, "num_scenes": num_scenes}
