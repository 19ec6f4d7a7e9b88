import av
import numpy as np
import pytest
import torch
from PIL import Image

from wnv.evaluation.contact_sheet import GAP_PX
from wnv.evaluation.film import film_path, target_sheet

CPU = torch.device("cpu")
OPTIONS = {"trajectory": "interpolate", "num_views": 5, "device": CPU}


def num_frames(path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_path_becomes_video_gif_sheet_and_frames(tmp_path, dataset, copy_model):
    film = film_path(copy_model, dataset[0].context, out=tmp_path, write_frames=True, min_side=32, **OPTIONS)
    assert num_frames(film.mp4) == 5
    assert [path.name for path in sorted(film.frames.iterdir())] == [f"{i:06d}.png" for i in range(5)]
    # The path begins and ends at context cameras, which the copy model draws as they are.
    with Image.open(film.frames / "000000.png") as picture:
        first = np.asarray(picture).astype(float) / 255
    truth = dataset[0].context.images[0].movedim(0, -1).numpy()
    assert np.abs(first - truth).max() <= 0.5 / 255 + 1e-6
    with Image.open(film.gif) as gif:
        assert gif.size == (48, 32)
    with Image.open(film.sheet) as sheet:
        assert sheet.size == ((24 * 10 + GAP_PX) * 4 + GAP_PX, 430)


def test_frames_of_a_longer_path_do_not_stay_behind(tmp_path, dataset, copy_model):
    options = {**OPTIONS, "out": tmp_path, "write_frames": True, "min_side": 1, "overwrite": True}
    film_path(copy_model, dataset[0].context, **options)
    film = film_path(copy_model, dataset[0].context, **{**options, "num_views": 2})
    assert sorted(path.name for path in film.frames.iterdir()) == ["000000.png", "000001.png"]
    (film.frames / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"also holds notes.txt, which would be lost"):
        film_path(copy_model, dataset[0].context, **options)
    assert (film.frames / "notes.txt").read_text() == "mine"


def test_there_and_back_shows_no_end_twice(tmp_path, dataset, copy_model):
    film = film_path(copy_model, dataset[0].context, out=tmp_path, there_and_back=True, min_side=1, **OPTIONS)
    assert num_frames(film.mp4) == 5 + 3


class Clock(torch.nn.Module):
    """Keeps the times it was asked for."""

    def encode(self, context):
        return None

    def render(self, scene, cameras, times=None):
        self.times = times[0].tolist()
        return torch.zeros(*times.shape, 3, cameras.height, cameras.width)


@pytest.mark.parametrize(
    ("time", "is_dynamic", "expected"),
    [
        (None, False, [0.0] * 5),
        (None, True, [0.0, 0.25, 0.5, 0.75, 1.0]),
        (0.5, True, [0.5] * 5),
        ([1, 0], True, [1.0, 0.75, 0.5, 0.25, 0.0]),
    ],
)
def test_time_runs_along_the_path(tmp_path, dataset, time, is_dynamic, expected):
    from dataclasses import replace

    context = dataset[0].context
    if is_dynamic:
        context = replace(context, times=torch.tensor([0.0, 0.5, 1.0]))
    model = Clock()
    film_path(model, context, out=tmp_path, time=time, **OPTIONS)
    assert model.times == expected


def test_faults_are_named_before_anything_is_drawn(tmp_path, dataset, copy_model):
    context = dataset[0].context
    with pytest.raises(ValueError, match=r"trajectory must be one of orbit, .*, got 'zigzag'"):
        film_path(copy_model, context, out=tmp_path, trajectory="zigzag", num_views=5, device=CPU)
    with pytest.raises(ValueError, match="time must be one number or"):
        film_path(copy_model, context, out=tmp_path, time=[0, 1, 2], **OPTIONS)
    with pytest.raises(ValueError, match="fps must be positive, got -1"):
        film_path(copy_model, context, out=tmp_path, fps=-1, **OPTIONS)
    with pytest.raises(TypeError, match="no option speed"):
        film_path(copy_model, context, out=tmp_path, options={"speed": 1}, **OPTIONS)
    assert list(tmp_path.iterdir()) == []
    assert copy_model.num_encoded == 0
    (tmp_path / "path.gif").write_text("mine")
    with pytest.raises(FileExistsError, match=r"path.gif exists; choose another out= or pass overwrite=true"):
        film_path(copy_model, context, out=tmp_path, **OPTIONS)
    assert copy_model.num_encoded == 0
    film_path(copy_model, context, out=tmp_path, overwrite=True, **OPTIONS)
    assert (tmp_path / "path.gif").read_bytes().startswith(b"GIF89a")


def test_a_target_sheet_has_a_row_a_scene_and_a_column_a_picture(dataset, perfect_model):
    sheet = target_sheet(perfect_model, [dataset[0], dataset[1]], device=CPU, with_error=True)
    cell_height, cell_width = 160, 240
    assert sheet.shape[1] == 7 * (cell_width + GAP_PX) + GAP_PX  # 3 context views, target, drawn, nearest, error
    assert sheet.shape[0] > 2 * cell_height
