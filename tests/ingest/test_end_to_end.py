"""From published lists to a training step, over a site with every kind of fault."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from loopback.bilibili import BilibiliPages
from loopback.site import LoopbackSite
from pipeline import (
    COMMAND,
    NO_PARALLAX,
    QUICK,
    assert_complete,
    assert_sound,
    outcomes,
    wnv_data,
    write_list,
)
from posed_video import PosedVideo
from video_files import moving, write_video

from wnv.ingest.ledger import Ledger
from wnv.scenes.scene_file import validate_scene


@dataclass(frozen=True)
class Row:
    """A video of the list: the fault of its site, and its outcome."""

    faults: dict[str, Any] = field(default_factory=dict)
    outcome: str = "done"
    after: str | None = None  # of a retry with cookies
    video: str = "layers"


ROWS = {
    "plain": Row(video="room"),
    "teddy": Row(video="teddy"),
    "bear": Row(video="bear"),
    "no_ranges": Row({"has_ranges": False}),
    "down_twice": Row({"failures": [503, 503]}),
    "storm": Row({"failures": [412, 412, 412]}),
    "breaks_off": Row({"truncate_at": 20_000, "num_truncations": 2}),
    "stalls": Row({"stall_after": 20_000, "num_stalls": 2}),  # the second one in the middle of the media
    "gone": Row({"failures": [404] * 99}, "fetch refused gone"),
    "down": Row({"failures": [503] * 99}, "fetch failed transient"),
    "cut_off": Row({"truncate_at": 20_000, "has_ranges": False}, "fetch failed transient"),
    "cookie": Row({"cookie": "SESSDATA=secret"}, "fetch refused login", "done"),
}


@pytest.mark.slow
def test_from_lists_to_a_training_step(
    site: LoopbackSite,
    bilibili: BilibiliPages,
    room_video: PosedVideo,
    short_videos: dict[str, Path],
    tmp_path: Path,
) -> None:
    layers = write_video(tmp_path / "layers.mp4", moving(16), fps=10)
    videos = {"layers": layers, "room": room_video.path, **short_videos}
    urls = {name: site.add(f"/{name}.mp4", videos[row.video], **row.faults) for name, row in ROWS.items()}
    outcome_of = {f"url:{urls[name]}": row.outcome for name, row in ROWS.items()}
    # Redirects: to a video, to a login page, and to a host that is not allowed.
    login = site.add("/login", b"<html>please log in</html>", content_type="text/html")
    for name, target, outcome in (
        ("moved", urls["no_ranges"], "done"),
        ("walled", login, "fetch refused login"),
        ("away", "http://169.254.169.254/latest/meta-data", "fetch refused forbidden_address"),
    ):
        urls[name] = site.redirects(f"/{name}.mp4", target, num_hops=2)
        outcome_of[f"url:{urls[name]}"] = outcome
    # Bilibili, read by yt-dlp's own extractors.
    media = site.add("/media.m4s", layers)
    pages = {
        bilibili.video("BV1Knp5YJ4st", media, duration_s=1.6): "done",
        bilibili.video("BV1Knp5YJ4s4", media, duration_s=0.0, num_parts=2) + "?p=2": "done",
        bilibili.video("BV1Knp5YJ4sx", media, duration_s=60): "fetch refused preview",
        bilibili.deleted("BV1Knp5YJ4sL"): "fetch refused gone",
        bilibili.login("BV1Knp5YJ4s5"): "fetch refused login",
    }
    for page, outcome in pages.items():
        bvid, _, part = page.rpartition("/")[2].partition("?p=")
        outcome_of[f"bv:{bvid}:p{part or 1}"] = outcome
    write_list(tmp_path / "static.csv", [*urls.values(), "file:///etc/passwd"], marks="0000,0005")
    write_list(tmp_path / "walk.csv", pages)

    command = (
        "run",
        "source=[static.csv,walk.csv]",
        "root=root",
        *QUICK,
        *NO_PARALLAX,
        "pose=custom",
        "pose.estimator._target_=pose_fakes.ColmapInTheRoom",
        f"+fetch.ydl={{_target_: loopback.bilibili.LoopbackYoutubeDL, _partial_: true, base: '{site.url}'}}",
        "fetch.hosts=[127.0.0.1,bilibili.com]",
        "fetch.socket_timeout_s=3.0",
        "gate.wait_s=0.3",
    )
    root = tmp_path / "root"
    _, err = wnv_data(*command, cwd=tmp_path)
    assert outcomes(root) == outcome_of
    assert "downloads paused for" in err
    found = assert_sound(root)
    assert len(found) == sum(outcome == "done" for outcome in outcome_of.values())
    with Ledger.read(root) as ledger:
        (posed,) = (row for row in ledger.rows("pose") if row.key == f"url:{urls['plain']}")
        assert posed.result["stats"]["homography_ratio"] is not None  # COLMAP's
        assert posed.result["num_registered"] == 12
        assert all(row.message for row in ledger.rows("fetch") if row.state != "done")

    # Retry with cookies.
    (tmp_path / "cookies.txt").write_text(
        "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tSESSDATA\tsecret\n"
    )
    for name in ("down", "cut_off"):
        site.add(f"/{name}.mp4", layers)
    wnv_data(*command, "fetch.cookies=cookies.txt", "retry=[login,transient]", cwd=tmp_path)
    for name in ("cookie", "down", "cut_off"):
        outcome_of[f"url:{urls[name]}"] = "done"
    assert outcomes(root) == outcome_of
    more = assert_sound(root)
    assert found.items() <= more.items()
    assert_complete(root, more)
    with Ledger.read(root) as ledger:
        (packed,) = (row for row in ledger.rows("pack") if row.key == f"url:{urls['no_ranges']}")
    info = validate_scene(root / packed.result["file"])
    assert (info.width, info.height, len(info.frames)) == (192, 108, 12)
    assert info.source["title"] == f"第{1 + [*urls].index('no_ranges')}段 🏠"
    assert info.source["segment"] == [0.0, 1.6]

    out, _ = wnv_data("status", "root=root", cwd=tmp_path)
    assert "forbidden_address" in out
    wnv_data("report", "root=root", cwd=tmp_path)
    assert "第1段 🏠" in (root / "report.html").read_text(encoding="utf-8")
    num_verified = 0
    for folder in sorted(path.parent for path in root.glob("scenes/*/*/index.jsonl")):
        out, _ = wnv_data("verify", f"path={folder}", cwd=tmp_path)
        num_verified += out.count("ok  ")
    assert num_verified == len(more)
    _train(root, tmp_path)


def _train(root: Path, folder: Path) -> None:
    settings = (
        "experiment=konet",
        "data=kokoni_static",
        f"data.root={root}",
        "data.val_split=scenes/static/train",  # with so few videos the validation split may be empty
        *(f"data.{sampler}.{gap}" for sampler in ("sampler", "val_sampler") for gap in ("min_gap=8", "max_gap=10")),
        "data.image_size=[16,24]",
        "data.batch_size=2",
        "data.num_workers=0",
        "device=cpu",
        "strategy=auto",
        "precision=fp32",
        "loss.perceptual_weight=0",
        "trainer.devices=1",
        "trainer.max_steps=2",
        "trainer.val_check_interval=2",
        "trainer.log_every_n_steps=1",
        "optim.warmup_steps=1",
        "model.dim=32",
        "model.num_layers=2",
        "model.num_heads=2",
        "model.mlp_dim=64",
        "run_dir=run",
    )
    trained = subprocess.run(
        [COMMAND.with_name("wnv-train"), *settings], cwd=folder, capture_output=True, text=True, timeout=240
    )
    assert trained.returncode == 0, trained.stderr[-3000:]
    assert (folder / "run" / "last.ckpt").is_file()
