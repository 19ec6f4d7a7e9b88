"""What every exporter does alike: copying the images out of the scene file."""

from pathlib import Path, PurePosixPath

from wnv.scenes.read import Scene


def copy_images(scene: Scene, folder: Path) -> list[str]:
    """Write every image into `folder`, byte for byte, as `000000.jpg`, ...; the names in the order of frames."""
    folder.mkdir(parents=True)
    names = []
    for index, frame in enumerate(scene.info.frames):
        # Counted anew: a foreign scene file may use names that the other format cannot take, with blanks say.
        name = f"{index:06d}{PurePosixPath(frame.file).suffix.lower()}"
        (folder / name).write_bytes(scene.image_bytes(index))
        names.append(name)
    return names
