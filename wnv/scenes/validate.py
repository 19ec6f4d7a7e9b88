"""Checks whole scene files, pixels and all."""

from pathlib import Path

from wnv.scenes.read import open_scene
from wnv.scenes.schema import SceneInfo


def validate_scene(path: str | Path) -> SceneInfo:
    """Check a scene file to its last pixel and return what it says about itself.

    Opening a scene checks the container, `scene.json` and that every frame is there; this reads and decodes
    every frame besides.

    Args:
        path: A local path, or any URL that fsspec understands.

    Raises:
        FileNotFoundError: If there is no such file.
        SceneError: At the first rule that is broken: which scene and frame, what was found, and the way out.
    """
    scene = open_scene(path)
    for index in range(len(scene)):
        scene.image_u8(index)
    return scene.info
