"""`wnv-view`: move through a scene in the browser while a model renders it."""

import importlib.util
import logging
import os
import signal
import sys
from pathlib import Path
from socket import gethostname
from threading import Event, Timer
from types import FrameType

from omegaconf import DictConfig

from wnv.cli.commands import view as main
from wnv.cli.settings import check_setting, path_setting, plain
from wnv.cli.synthetic_scene import SYNTHETIC, open_synthetic
from wnv.models.konet import KoNet
from wnv.runtime.device import resolve_device
from wnv.viewer.scenes import SceneList, example_scenes, file_scenes
from wnv.viewer.session import SceneSession

# Closing takes a second or two.
_MAX_CLOSING_S = 15.0
_KINDS = {
    "context": list[int] | None,
    "num_context": int | None,
    "image_size": list[int] | None,
    "host": str,
    "port": int,
    "moving_side": int | None,
    "still_side": int | None,
    "still_after_s": int | float,
    "fps": int | float,
    "max_video_s": int | float,
    "num_encoded": int,
}


def run(cfg: DictConfig) -> None:
    """Serve the page until Ctrl-C."""
    if importlib.util.find_spec("viser") is None:
        raise ImportError("wnv-view needs viser, which is not installed: pip install 'wnv[viewer]'")
    from wnv.viewer.server import Viewer
    from wnv.viewer.window import WindowSettings

    for name, kind in _KINDS.items():
        check_setting(name, plain(cfg, name), kind)
    for name in ("fps", "max_video_s"):
        if cfg[name] <= 0:
            raise ValueError(f"{name} must be positive, got {cfg[name]}")
    logging.getLogger("websockets").setLevel(logging.WARNING)  # it logs every connection
    device = resolve_device(cfg.trainer.accelerator)
    model = KoNet.from_pretrained(path_setting(cfg, "weights"))
    scenes = _open_scenes(cfg, model=model)
    session = SceneSession(
        model=model,
        scenes=scenes,
        device=device,
        patch_size=model.patch_size,
        moving_side=cfg.moving_side,
        still_side=cfg.still_side,
        num_encoded=cfg.num_encoded,
    )
    try:
        # Before the first client connects.
        home = session.home(scenes.first)
        session.encode(home.scene, home.frames)
        settings = WindowSettings(
            out=Path(path_setting(cfg, "out")),
            video_fps=cfg.fps,
            max_video_s=cfg.max_video_s,
            still_after_s=float(cfg.still_after_s),
        )
        with Viewer(session, settings=settings, host=cfg.host, port=cfg.port) as viewer:
            others = f" and {len(scenes) - 1} more" if len(scenes) > 1 else ""
            sys.stdout.write(f"{session.scene(scenes.first).name}{others}, rendered by {cfg.weights} on {device}:\n")
            sys.stdout.write(f"  {viewer.url} (Ctrl-C ends)\n")
            if viewer.host in ("127.0.0.1", "localhost"):
                port = viewer.port
                sys.stdout.write(f"  from another machine: ssh -L {port}:localhost:{port} {gethostname()}\n")
            sys.stdout.flush()
            signal.signal(signal.SIGTERM, _end)  # videos in progress remove their files
            try:
                Event().wait()
            except (KeyboardInterrupt, SystemExit) as end:
                _limit_closing(end)
                raise
    finally:
        session.close()


def _limit_closing(end: KeyboardInterrupt | SystemExit) -> None:
    """End the process after a while even if a thread of the viewer, which Python would wait for, does not end."""
    code = end.code if isinstance(end, SystemExit) and isinstance(end.code, int) else 128 + signal.SIGINT
    timer = Timer(_MAX_CLOSING_S, os._exit, (code,))
    timer.daemon = True
    timer.start()


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _open_scenes(cfg: DictConfig, *, model: KoNet) -> SceneList:
    scene = path_setting(cfg, "scene")
    if not scene.startswith(SYNTHETIC):
        return file_scenes(
            scene,
            frames=plain(cfg, "context"),
            num_context=cfg.num_context,
            image_size=plain(cfg, "image_size"),
            size_multiple=model.patch_size,
            pose_normalization=cfg.pose_normalization or model.pose_normalization,
        )
    dataset, first = open_synthetic(cfg, scene)
    return example_scenes(
        dataset,
        name=SYNTHETIC,
        first=first,
        is_dynamic=cfg.data.kind != "static",
        pose_normalization=cfg.data.pose_normalization,
    )


if __name__ == "__main__":
    main()
