"""Tiny scene files whose frames can be recognised."""

import math

import numpy as np
import pytest
import torch

from wnv.data.view_sampling import SceneFrames
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import Frame, SceneInfo


def camera_on_arc(index, offset):
    angle = 0.1 * index
    pose = np.eye(4)
    pose[:3, :3] = [
        [math.cos(angle), 0, math.sin(angle)],
        [0, 1, 0],
        [-math.sin(angle), 0, math.cos(angle)],
    ]
    pose[:3, 3] = offset + np.array([3 * math.sin(angle), 0.05 * index, 3 * math.cos(angle)])
    return pose


@pytest.fixture
def make_frames():
    """Frames of a scene whose cameras all stand in one place, one second apart."""

    def make(num_frames, scene_id="room"):
        return SceneFrames(
            scene_id=scene_id,
            num_frames=num_frames,
            times_s=torch.arange(num_frames, dtype=torch.float64),
            camtoworld=torch.eye(4, dtype=torch.float64).repeat(num_frames, 1, 1),
        )

    return make


@pytest.fixture
def write_tiny_scene():
    """Write a scene of 24 x 16 images; frame i has the grey value 10 * i and the time 100 + i / 4 seconds."""

    def write(folder, scene_id, *, num_frames=12, kind="static", offset=0.0):
        frames = tuple(
            Frame(
                time_s=100 + index / 4,
                K=np.array([[20.0 + index, 0, 12], [0, 21.0 + index, 8], [0, 0, 1]]),
                camtoworld=camera_on_arc(index, offset),
            )
            for index in range(num_frames)
        )
        info = SceneInfo(id=scene_id, kind=kind, width=24, height=16, frames=frames)
        images = [np.full((16, 24, 3), 10 * index, dtype=np.uint8) for index in range(num_frames)]
        return write_scene(folder, info, images, image_format="png")

    return write
