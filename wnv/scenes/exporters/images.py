"""What every exporter does alike: copying the images out of the scene file."""

from pathlib import Path, PurePosixPath

from wnv.scenes.image_codec import check_image
from wnv.scenes.scene_file import SceneFile
from wnv.scenes.schema import frame_label


def copy_images(scene: SceneFile, folder: Path) -> list[str]:
    """Write every image into `folder`, byte for byte, as `000000.jpg`, ...; the names in the order of frames.

    Raises:
        SceneError: If one is no image of the scene's size: the formats give one size for all, and would lie of it.
    """
    folder.mkdir(parents=True)
    info = scene.info
    names = []
    for index, frame in enumerate(info.frames):
        data = scene.image_bytes(index)
        where = frame_label(info.id, index, frame.file)
        check_image(data, width=info.width, height=info.height, where=where)
        # Counted anew: a foreign scene file may use names that the other format cannot take, with blanks say.
        name = f"{index:06d}{PurePosixPath(frame.file).suffix.lower()}"
        (folder / name).write_bytes(data)
        names.append(name)
    return names
