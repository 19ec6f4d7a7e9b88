"""`wnv-export weights=` and `from=` as a user types them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from loopback.hub import serving
from safetensors.torch import load_file

from wnv.cli import eval as eval_command
from wnv.evaluation.environment import fingerprint
from wnv.models.konet import KoNet

TINY = dict(dim=32, num_layers=1, num_heads=2, mlp_dim=32)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run as `wnv-train` leaves it: two starts, two validations, averaged weights."""
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    model, average = KoNet(**TINY), KoNet(**TINY)
    torch.save(
        {
            "state_dict": {f"model.{name}": tensor for name, tensor in model.state_dict().items()},
            "ema_state_dict": average.state_dict(),
            "model_config": model.config,
            "global_step": 40,
        },
        folder / "last.ckpt",
    )
    config = {
        "name": "mine",
        "seed": 7,
        "run_dir": str(folder),
        "init_from": None,
        "optimized_metric": "val/psnr",
        "data": {
            "_target_": "wnv.data.scene_datamodule.SceneDataModule",
            "root": "/scratch/me/data/rooms/train",
            "image_size": [64, 96],
            "sampler": {"_target_": "wnv.data.view_sampling.BoundedSampler", "num_context": 3},
            "num_workers": 8,
        },
        "model": {"dim": 32},
        "loss": {"_target_": "x.ImageLoss", "perceptual_weight": 0.5},
        "optim": {"lr": 4e-4, "betas": [0.9, 0.95]},
        "trainer": {"max_steps": 60, "precision": "bf16-mixed", "default_root_dir": str(folder)},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    start = {"date": "2026-01-02T03:04:05+00:00", "version": "0.1.0", "torch": "2.13.0", "device": "cpu", "devices": 1}
    starts = [
        start | {"commit": "aaaa", "command": ["/opt/bin/wnv-train", "experiment=konet"]},
        start | {"commit": "bbbb", "command": ["/opt/bin/wnv-train", "experiment=konet", "resume=last"]},
    ]
    (folder / "starts.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in starts))
    (folder / "metrics.csv").write_text(
        "step,train/loss,val/psnr,val/ssim,val/psnr_copy\n0,0.5,,,\n19,0.4,20.5,0.61,18\n39,0.3,21.25,0.66,18\n49,0.2,30,0.9,18\n"
    )
    return folder


def write_evaluation(folder: Path, model: KoNet, **changes: object) -> Path:
    """The summary that `wnv-eval` writes of two variants."""
    scores = {
        "psnr": {"mean": 23.456, "half_width": 0.5},
        "ssim": {"mean": 0.7, "half_width": None},
        "lpips": {"mean": 0.21, "half_width": 0.01},
    }
    variant = {"model": scores, "copy": {"psnr": {"mean": 18.0, "half_width": 0.4}}, "num_scenes": 9, "num_views": 27}
    variant |= {"num_examples": 9, "num_ahead": 8, "num_capped": 0}
    summary = {
        "protocol": "re10k_context",
        "variants": [variant | {"variant": "views=4"}, variant | {"variant": "views=8"}],
        "lpips_backbone": "vgg",
        "num_listed": 12,
        "missing": ["a", "b", "c"],
        "settings": {"fingerprint": fingerprint(model), "data": {"root": "/data/re10k/test"}},
        "environment": {"device": "cpu: x86_64", "commit": "cccc"},
    }
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps(summary | changes))
    return folder


def test_a_run_with_its_card(wnv_export: Run, run_folder: Path, tmp_path: Path) -> None:
    model = KoNet.from_pretrained(run_folder)
    write_evaluation(tmp_path / "scored", model)
    arguments = ("weights=runs/mine", "out=exports/mine", "dtype=bf16", "license=apache-2.0", "evaluations=[scored]")
    code, out, err = wnv_export(*arguments, "datasets=[me/rooms]")
    assert (code, err) == (0, "")
    assert out.startswith("exports/mine: config.json, model.safetensors, README.md; ")
    folder = tmp_path / "exports" / "mine"
    assert sorted(os.listdir(folder)) == ["README.md", "config.json", "model.safetensors"]
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    exported = KoNet.from_pretrained(folder).state_dict()
    assert all(torch.equal(exported[name], tensor.bfloat16().float()) for name, tensor in model.state_dict().items())
    card = (folder / "README.md").read_text()
    header = yaml.safe_load(card.split("---\n")[1])
    assert (header["license"], header["datasets"]) == ("apache-2.0", ["me/rooms"])
    for fact in (
        "in the run `mine`",
        "| data | SceneDataModule |",
        "| root | .../rooms/train |",
        "| sampler.num_context | 3 |",
        "| optim.lr | 0.0004 |",
        "| trainer.precision | bf16-mixed |",
        "| steps done | 40 of 60 |",
        "| weights | averaged over steps |",
        "| commit | aaaa, bbbb |",
        "wnv-train experiment=konet<br>wnv-train experiment=konet resume=last",
        "**re10k_context views=8 on .../re10k/test**",
        "| these weights | 23.46 ± 0.50 | 0.7000 | 0.2100 ± 0.0100 |",
        "| nearest context image, copied | 18.00 ± 0.40 |  |  |",
        "3 of the 12 scenes in the index were missing.",
        "commit cccc",
        "after step 40**",
        "| these weights | 21.25 | 0.6600 |",
        "64 x 96 pixels",
        "3 context images",
    ):
        assert fact in card
    for hidden in ("/scratch/me", "num_workers", "optimized_metric", str(tmp_path)):
        assert hidden not in card


@pytest.mark.slow
def test_existing_folders_are_kept_unless_overwrite(wnv_export: Run, tmp_path: Path) -> None:
    assert wnv_export("weights=konet_tiny", "out=out")[0] == 0
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    code, out, err = wnv_export("weights=konet_tiny", "out=out", "dtype=fp16")
    assert (code, out) == (2, "")
    assert "overwrite=true" in err
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    assert wnv_export("weights=konet_tiny", "out=out", "dtype=fp16", "overwrite=true")[0] == 0
    assert len((tmp_path / "out" / "model.safetensors").read_bytes()) < 0.6 * len(before)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    code, _, err = wnv_export("weights=konet_tiny", "out=out", "overwrite=true")
    assert (code, "notes.txt" in err) == (2, True)


def test_a_copy_keeps_card_and_licence(wnv_export: Run, tmp_path: Path) -> None:
    assert wnv_export("weights=konet_tiny", "out=first")[0] == 0
    assert wnv_export("weights=first", "out=second")[0] == 0
    for name in ("first", "second"):
        card = (tmp_path / name / "README.md").read_text()
        assert "license: apache-2.0" in card
        assert "make demo" in card  # of the original card
    _, out, _ = wnv_export("weights=first", "out=third", "license=mit")
    assert "license: mit" in (tmp_path / "third" / "README.md").read_text()
    assert "unknown" not in out


def test_a_local_folder_takes_precedence_over_shipped_weights(wnv_export: Run, tmp_path: Path) -> None:
    model = KoNet(**TINY)
    model.save_pretrained(tmp_path / "konet_tiny")
    code, out, err = wnv_export("weights=konet_tiny", "out=copy")
    assert code == 0, err
    assert "unknown licence" in out
    assert "make demo" not in (tmp_path / "copy" / "README.md").read_text()
    assert KoNet.from_pretrained(tmp_path / "copy").config == model.config


@pytest.fixture
def lvsm_file(tmp_path: Path) -> Path:
    """A checkpoint under LVSM's names, of one layer; tests/models/test_lvsm.py compares its images."""
    dim, patch = 32, 8
    shapes = {
        "image_tokenizer.1.weight": (dim, 9 * patch**2),
        "target_pose_tokenizer.1.weight": (dim, 6 * patch**2),
        "transformer_input_layernorm.weight": (dim,),
        "image_token_decoder.0.weight": (dim,),
        "image_token_decoder.1.weight": (3 * patch**2, dim),
        "transformer_blocks.0.norm1.weight": (dim,),
        "transformer_blocks.0.norm2.weight": (dim,),
        "transformer_blocks.0.attn.to_qkv.weight": (3 * dim, dim),
        "transformer_blocks.0.attn.fc.weight": (dim, dim),
        "transformer_blocks.0.attn.q_norm.weight": (16,),
        "transformer_blocks.0.attn.k_norm.weight": (16,),
        "transformer_blocks.0.mlp.mlp.0.weight": (4 * dim, dim),
        "transformer_blocks.0.mlp.mlp.2.weight": (dim, 4 * dim),
        "loss_computer.vgg.weight": (2,),
        "loss_computer.vgg.bias": (2,),
    }
    path = tmp_path / "scene_decoder_only_256.pt"
    torch.save({"model": {name: torch.randn(shape) for name, shape in shapes.items()}}, path)
    return path


@pytest.mark.slow
def test_lvsm_weights_are_converted_and_evaluated(
    wnv_export: Run, run_in_process: Run, lvsm_file: Path, tmp_path: Path
) -> None:
    code, out, err = wnv_export("from=lvsm", f"checkpoint={lvsm_file.name}", "out=lvsm", "dtype=fp16")
    assert (code, err) == (0, "")
    assert "loss_computer (2 tensors)" in out
    card = (tmp_path / "lvsm" / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "cc-by-nc-sa-4.0"
    assert "scene_decoder_only_256.pt`, SHA-256 `" in card
    code, out, _ = run_in_process(
        eval_command.main,
        "weights=lvsm",
        "data.num_val_scenes=2",
        "data.image_size=[16,24]",
        "out=scored",
        "device=cpu",
    )
    assert (code, "KoNet is ahead in" in out) == (0, True)
    assert wnv_export("weights=lvsm", "out=again", "evaluations=[scored]")[0] == 0
    assert "**evaluation on SyntheticDataModule**" in (tmp_path / "again" / "README.md").read_text()


def test_unusable_evaluations_and_runs(wnv_export: Run, run_folder: Path, tmp_path: Path) -> None:
    write_evaluation(tmp_path / "other", KoNet(**TINY))
    _, _, err = wnv_export("weights=runs/mine", "out=out", "evaluations=[other]")
    assert re.search("other.*fingerprint", err)
    write_evaluation(tmp_path / "broken", KoNet(**TINY), variants=[{"variant": "x"}])
    _, _, err = wnv_export("weights=runs/mine", "out=out", "evaluations=[broken]")
    assert "broken/summary.json" in err
    (run_folder / "starts.jsonl").write_text("half a li\n")
    _, _, err = wnv_export("weights=runs/mine", "out=out")
    assert "starts.jsonl, line 1" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_straight_to_the_hub_and_back(tmp_path: Path) -> None:
    """In a separate process, with the environment variables that users set."""
    with serving() as hub:
        environment = os.environ | {
            "HF_ENDPOINT": hub.endpoint,
            "HF_HUB_OFFLINE": "0",
            "HF_TOKEN": "hf_reader",
            "HF_HOME": str(tmp_path / "hf"),
        }

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            program = [sys.executable, "-m", "wnv.cli.export", *arguments]
            return subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True)

        refused = run("weights=konet_tiny", "out=out", "hub=me/konet", "private=true")
        assert refused.returncode == 2
        assert "hf auth login" in refused.stderr
        assert "wnv-export weights=out hub=me/konet" in refused.stderr
        environment["HF_TOKEN"] = "hf_writer"
        pushed = run("weights=out", "hub=me/konet", "private=true")
        assert (pushed.returncode, pushed.stdout) == (0, f"{hub.endpoint}/me/konet/commit/{'a' * 40}\n"), pushed.stderr
        assert hub.private["me/konet"]
        assert b'KoNet.from_pretrained("me/konet")' in hub.files["me/konet"]["README.md"]
        back = run("weights=me/konet", "out=back")
        assert back.returncode == 0, back.stderr
    ours, theirs = KoNet.from_pretrained("konet_tiny"), KoNet.from_pretrained(tmp_path / "back")
    assert fingerprint(ours) == fingerprint(theirs)
