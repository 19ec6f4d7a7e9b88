"""Records of a run: its ends, and the settings of its starts."""

import json
from pathlib import Path

import lightning as L
import pytest
from omegaconf import OmegaConf
from torch._utils import ExceptionWrapper

from wnv.cli.run_record import RunRecord
from wnv.training.run_folder import FINISHED


def test_the_end_by_an_error_of_a_loader_process_has_no_traceback(tmp_path: Path) -> None:
    try:
        raise FileNotFoundError("scenes/a.zip: no such scene file")
    except FileNotFoundError:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(FileNotFoundError) as caught:
        wrapped.reraise()
    record = RunRecord(OmegaConf.create(), run_dir=tmp_path, checkpoint=None, overrides=[])
    record.start = "abc"
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    record.on_exception(trainer, L.LightningModule(), caught.value)
    (end,) = map(json.loads, (tmp_path / "ends.jsonl").read_text().splitlines())
    assert end["message"] == "FileNotFoundError: scenes/a.zip: no such scene file"


def test_failing_to_record_the_end_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = RunRecord(OmegaConf.create(), run_dir=tmp_path / "nowhere", checkpoint=None, overrides=[])
    record.start = "abc"
    record.note_end(FINISHED, step=2)
    assert "cannot record the end" in caplog.text
