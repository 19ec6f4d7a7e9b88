"""Cameras of a set of photographs: the JSON file beside it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from wnv.ingest.photos.photo_set import Lens
from wnv.runtime.atomic import atomic_file
from wnv.scenes.undistort import Distortion

_VERSION = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class PhotoPoses:
    """Cameras of photographs.

    Attributes:
        lenses: By camera number.
        camtoworlds: world<-camera, OpenCV axes, by position in the set.
        source: Where the cameras come from, any JSON object.
    """

    lenses: Mapping[int, Lens]
    camtoworlds: Mapping[int, Float64[np.ndarray, "4 4"]]
    source: Mapping[str, Any]


def write_photo_poses(path: Path, poses: PhotoPoses) -> None:
    """Write the file, replacing an earlier one."""
    lenses = {
        str(number): {"K": lens.K.tolist(), "distortion": asdict(lens.distortion)}
        for number, lens in sorted(poses.lenses.items())
    }
    camtoworlds = {str(index): camtoworld.tolist() for index, camtoworld in sorted(poses.camtoworlds.items())}
    content = {"photos_version": _VERSION, "source": poses.source, "lenses": lenses, "camtoworlds": camtoworlds}
    with atomic_file(path, overwrite=True) as file:
        file.write(json.dumps(content).encode())


def read_photo_poses(path: Path) -> PhotoPoses:
    """Read the file."""
    content = json.loads(path.read_bytes())
    lenses = {
        int(number): Lens(K=np.array(lens["K"], dtype=np.float64), distortion=Distortion(**lens["distortion"]))
        for number, lens in content["lenses"].items()
    }
    camtoworlds = {
        int(index): np.array(camtoworld, dtype=np.float64) for index, camtoworld in content["camtoworlds"].items()
    }
    return PhotoPoses(lenses=lenses, camtoworlds=camtoworlds, source=content["source"])
