"""`wnv-export weights=` and `from=` as a user types them."""

import json
import os
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
from wnv.cli import export
from wnv.evaluation.environment import fingerprint
from wnv.models.konet import KoNet

TINY = dict(dim=32, num_layers=1, num_heads=2, mlp_dim=32)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a command of this package in `tmp_path`: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")

    def run(*arguments: str, main: Callable[[], None] = export.main) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["wnv-export", *arguments])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


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


def test_a_run_with_its_card(command: Run, run_folder: Path, tmp_path: Path) -> None:
    model = KoNet.from_pretrained(run_folder)
    write_evaluation(tmp_path / "scored", model)
    arguments = ("weights=runs/mine", "out=exports/mine", "dtype=bf16", "license=apache-2.0", "evaluations=[scored]")
    code, out, err = command(*arguments, "datasets=[me/rooms]")
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
    for told in (
        "trained in the run `mine`",
        "| data | SceneDataModule |",
        "| root | .../rooms/train |",
        "| sampler.num_context | 3 |",
        "| seed | 7 |",
        "| optim.lr | 0.0004 |",
        "| loss.perceptual_weight | 0.5 |",
        "| trainer.precision | bf16-mixed |",
        "| steps done | 40 of 60 |",
        "| weights | averaged over the steps |",
        "| commit | aaaa, bbbb |",
        "wnv-train experiment=konet<br>wnv-train experiment=konet resume=last",
        "**re10k_context views=4 on .../re10k/test**",
        "**re10k_context views=8 on .../re10k/test**",
        "| these weights | 23.46 ± 0.50 | 0.7000 | 0.2100 ± 0.0100 |",
        "| nearest given image, copied | 18.00 ± 0.40 |  |  |",
        "Of the 12 scenes that the index lists, 3 were missing.",
        "LPIPS with the backbone vgg.",
        "**validation in the run, after step 40**",
        "| these weights | 21.25 | 0.6600 |",
        "Trained on images of 64 x 96 pixels (height x width)",
        "Trained with 3 given images",
    ):
        assert told in card
    for hidden in ("/scratch/me", "num_workers", "optimized_metric", str(tmp_path)):
        assert hidden not in card


def test_nothing_is_overwritten_unasked(command: Run, tmp_path: Path) -> None:
    assert command("weights=konet_tiny", "out=out")[0] == 0
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    code, out, err = command("weights=konet_tiny", "out=out", "dtype=fp16")
    assert (code, out) == (2, "")
    assert err == "wnv-export: error: out is not empty; set overwrite=true to replace it, or name another folder\n"
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    assert command("weights=konet_tiny", "out=out", "dtype=fp16", "overwrite=true")[0] == 0
    assert len((tmp_path / "out" / "model.safetensors").read_bytes()) < 0.6 * len(before)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    code, _, err = command("weights=konet_tiny", "out=out", "overwrite=true")
    assert code == 2
    assert "out also holds notes.txt, which would be lost" in err


def test_a_copy_keeps_the_card_and_the_licence_of_its_source(command: Run, tmp_path: Path) -> None:
    assert command("weights=konet_tiny", "out=first")[0] == 0
    assert command("weights=first", "out=second")[0] == 0
    for name in ("first", "second"):
        card = (tmp_path / name / "README.md").read_text()
        assert "license: apache-2.0" in card
        assert "Nothing but the synthetic world went into the training." in card
    _, out, _ = command("weights=first", "out=third", "license=mit")
    assert "license: mit" in (tmp_path / "third" / "README.md").read_text()
    assert "unknown" not in out


def test_a_folder_called_as_shipped_weights_has_a_card_of_its_own(command: Run, tmp_path: Path) -> None:
    model = KoNet(**TINY)
    model.save_pretrained(tmp_path / "konet_tiny")
    code, out, err = command("weights=konet_tiny", "out=copy")
    assert code == 0, err
    assert "licence is unknown" in out
    assert "whose own card" not in (tmp_path / "copy" / "README.md").read_text()
    assert KoNet.from_pretrained(tmp_path / "copy").config == model.config


def test_an_unknown_licence_is_pointed_out(command: Run, run_folder: Path, tmp_path: Path) -> None:
    code, out, _ = command("weights=runs/mine/last.ckpt", "out=out")
    assert (code, "the card says that the licence is unknown: set license=" in out) == (0, True)


@pytest.fixture
def lvsm_file(tmp_path: Path) -> Path:
    """A checkpoint under LVSM's names, of one layer; tests/models/test_lvsm.py compares what is drawn."""
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


def test_lvsm_weights_are_converted_and_evaluated(command: Run, lvsm_file: Path, tmp_path: Path) -> None:
    code, out, err = command("from=lvsm", f"checkpoint={lvsm_file.name}", "out=lvsm", "dtype=fp16")
    assert (code, err) == (0, "")
    assert "left out, since drawing does not need it: loss_computer (2 tensors)" in out
    card = (tmp_path / "lvsm" / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "cc-by-nc-sa-4.0"
    for told in ("CC BY-NC-SA 4.0", "scene_decoder_only_256.pt`, SHA-256 `", "arXiv:2410.17242", "## Data\n\nUnknown."):
        assert told in card
    code, out, _ = command(
        "weights=lvsm",
        "data.num_val_scenes=2",
        "data.image_size=[16,24]",
        "out=scored",
        "device=cpu",
        main=eval_command.main,
    )
    assert (code, "KoNet is ahead in" in out) == (0, True)
    assert command("weights=lvsm", "out=again", "evaluations=[scored]")[0] == 0
    assert "**evaluation on SyntheticDataModule**" in (tmp_path / "again" / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("out=out",), "set one of scene= (a scene file, or a folder of them), weights= (weights, or a run) and from="),
        (("weights=a", "scene=b", "out=out"), "got scene=b and weights=a"),
        (("weights=konet_tiny", "out=out", "format=colmap"), "format goes with scene=, not with weights="),
        (("scene=b", "out=out", "dtype=bf16"), "dtype goes with weights= and from=, not with scene="),
        (("weights=konet_tiny", "out=out", "ray_code=plucker"), "ray_code goes with from=, not with weights="),
        (("weights=konet_tiny",), "out has no default; set out=... to the folder to write"),
        (("weights=konet_tiny", "out=out", "dtype=int8"), "dtype must be one of fp32, bf16, fp16, got int8"),
        (("weights=konet_tiny", "out=out", "hub=konet"), "a model on the hub is named owner/name"),
        (("weights=konet_tiny", "out=out", "private=no"), "private must be true or false, got 'no'"),
        (("weights=konet_tiny", "out=out", "license=2"), "license"),
        (("weights=konet_tiny", "out=out", "datasets=me/rooms"), "datasets must be a list, as datasets=[one,other]"),
        (("weights=konet_tiny", "out=out", "evaluations=[scenes]"), "no finished evaluation in scenes: it holds no"),
        (("weights=nowhere", "out=out"), "no weights at 'nowhere'"),
        (("weights=konet_tiny", "hub=me/konet"), "konet_tiny is no folder of weights with a card, to upload as it is"),
        (("from=gs", "checkpoint=x", "out=out"), "from must be one of lvsm, prope, got gs"),
        (("from=lvsm", "out=out"), "checkpoint has no default; set checkpoint= to the file that from=lvsm is to"),
        (("from=lvsm", "checkpoint=x.pt", "out=out"), "no checkpoint at x.pt"),
        (("from=lvsm", "checkpoint=x", "out=out", "ray_code=none"), "from=lvsm has no ray_code; it has num_heads"),
        (("from=prope", "checkpoint=scene_decoder_only_256.pt", "out=out"), "set from=lvsm"),
        (("from=lvsm", "checkpoint=x", "out=out", "num_heads=many"), "num_heads"),
    ],
)
def test_mistakes_are_one_line_and_code_2(
    command: Run, lvsm_file: Path, tmp_path: Path, arguments: tuple, message: str
) -> None:
    code, out, err = command(*arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("wnv-export: error: ")
    assert message in err
    assert os.listdir(tmp_path) == [lvsm_file.name]


def test_scores_of_other_weights_are_refused(command: Run, run_folder: Path, tmp_path: Path) -> None:
    write_evaluation(tmp_path / "other", KoNet(**TINY))
    _, _, err = command("weights=runs/mine", "out=out", "evaluations=[other]")
    assert "other scored other weights (fingerprint " in err
    write_evaluation(tmp_path / "broken", KoNet(**TINY), variants=[{"variant": "x"}])
    _, _, err = command("weights=runs/mine", "out=out", "evaluations=[broken]")
    assert "broken/summary.json is not the summary of an evaluation of weights: KeyError 'model'" in err
    (run_folder / "starts.jsonl").write_text("half a li\n")
    _, _, err = command("weights=runs/mine", "out=out")
    assert (
        "runs/mine is not a whole run's folder: runs/mine/starts.jsonl, line 1 cannot be read: Expecting value" in err
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_straight_to_the_hub_and_back(tmp_path: Path) -> None:
    """In a process of its own, with the variables that people set."""
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
        assert "log in with `hf auth login`" in refused.stderr
        assert "upload it by itself with: wnv-export weights=out hub=me/konet" in refused.stderr
        environment["HF_TOKEN"] = "hf_writer"
        pushed = run("weights=out", "hub=me/konet", "private=true")
        assert (pushed.returncode, pushed.stdout) == (0, f"{hub.endpoint}/me/konet/commit/{'a' * 40}\n"), pushed.stderr
        assert hub.private["me/konet"]
        assert b'KoNet.from_pretrained("me/konet")' in hub.files["me/konet"]["README.md"]
        back = run("weights=me/konet", "out=back")
        assert back.returncode == 0, back.stderr
    ours, theirs = KoNet.from_pretrained("konet_tiny"), KoNet.from_pretrained(tmp_path / "back")
    assert fingerprint(ours) == fingerprint(theirs)
