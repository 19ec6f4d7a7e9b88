import av
import numpy as np
import pytest
import torch
from PIL import Image

from wnv.evaluation.camera_path import CameraPath, plan_path
from wnv.evaluation.contact_sheet import GAP_PX
from wnv.evaluation.path_video import target_sheet, write_path_video
from wnv.types import Views

CPU = torch.device("cpu")


def film(model, context: Views, *, num_views: int = 5, **options):
    shot = plan_path(context, "interpolate", num_views=num_views)
    return write_path_video(model, context, shot, **{"device": CPU, "min_side": 1, **options})


def num_frames(path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_path_becomes_video_gif_sheet_and_frames(tmp_path, dataset, copy_model):
    files = film(copy_model, dataset[0].context, out=tmp_path, write_frames=True, min_side=32)
    assert num_frames(files.mp4) == 5
    assert [path.name for path in sorted(files.frames.iterdir())] == [f"{i:06d}.png" for i in range(5)]
    # The path begins and ends at context cameras, which the copy model draws as they are.
    with Image.open(files.frames / "000000.png") as picture:
        first = np.asarray(picture).astype(float) / 255
    truth = dataset[0].context.images[0].movedim(0, -1).numpy()
    assert np.abs(first - truth).max() <= 0.5 / 255 + 1e-6
    with Image.open(files.gif) as gif:
        assert gif.size == (48, 32)
    with Image.open(files.sheet) as sheet:
        assert sheet.size == ((24 * 10 + GAP_PX) * 4 + GAP_PX, 430)
    assert files.psnr_db is None


def test_frames_of_an_earlier_film_are_told(tmp_path, dataset, copy_model, caplog):
    film(copy_model, dataset[0].context, out=tmp_path, write_frames=True)
    assert caplog.text == ""
    film(copy_model, dataset[0].context, out=tmp_path, num_views=2, overwrite=True)
    assert "frames is of an earlier film" in caplog.text
    assert len(list((tmp_path / "frames").iterdir())) == 5


def test_frames_of_a_longer_path_do_not_stay_behind(tmp_path, dataset, copy_model):
    options = {"out": tmp_path, "write_frames": True, "overwrite": True}
    film(copy_model, dataset[0].context, **options)
    files = film(copy_model, dataset[0].context, num_views=2, **options)
    assert sorted(path.name for path in files.frames.iterdir()) == ["000000.png", "000001.png"]
    (files.frames / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"also holds notes.txt, which would be lost"):
        film(copy_model, dataset[0].context, **options)
    assert (files.frames / "notes.txt").read_text() == "mine"


def test_there_and_back_shows_no_end_twice(tmp_path, dataset, copy_model):
    assert num_frames(film(copy_model, dataset[0].context, out=tmp_path, there_and_back=True).mp4) == 5 + 3


def test_the_truth_is_shown_on_the_left_and_scored(tmp_path, dataset, copy_model):
    context = dataset[0].context
    truth = context.images[[0, 1]] * 0.5 + 0.25
    shot = CameraPath(context.cameras[[0, 1]], context.times[[0, 1]], truth=truth)
    files = write_path_video(copy_model, context, shot, out=tmp_path, device=CPU, side_by_side=True, min_side=64)
    with av.open(str(files.mp4)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(float) / 255
    assert frame.shape == (64, 2 * 96, 3)
    left, right = frame[:, :96].mean(axis=(0, 1)), frame[:, 96:].mean(axis=(0, 1))
    assert np.abs(left - truth[0].mean(dim=(1, 2)).numpy()).max() < 0.02
    assert np.abs(right - context.images[0].mean(dim=(1, 2)).numpy()).max() < 0.02
    errors = ((context.images[[0, 1]] - truth) ** 2).mean(dim=(1, 2, 3))
    assert files.psnr_db == pytest.approx(float((-10 * errors.log10()).mean()), abs=1e-4)
    with Image.open(files.sheet) as sheet:
        assert sheet.height > 600  # given, drawn, truth


def test_faults_are_named_before_anything_is_drawn(tmp_path, dataset, copy_model):
    context = dataset[0].context
    with pytest.raises(ValueError, match="fps must be positive, got -1"):
        film(copy_model, context, out=tmp_path, fps=-1)
    with pytest.raises(ValueError, match="side_by_side=true needs the truth"):
        film(copy_model, context, out=tmp_path, side_by_side=True)
    assert list(tmp_path.iterdir()) == []
    assert copy_model.num_encoded == 0
    (tmp_path / "path.gif").write_text("mine")
    with pytest.raises(FileExistsError, match=r"path.gif exists; choose another out= or pass overwrite=true"):
        film(copy_model, context, out=tmp_path)
    assert copy_model.num_encoded == 0
    film(copy_model, context, out=tmp_path, overwrite=True)
    assert (tmp_path / "path.gif").read_bytes().startswith(b"GIF89a")


def test_a_target_sheet_has_a_row_a_scene_and_a_column_a_picture(dataset, perfect_model):
    sheet = target_sheet(perfect_model, [dataset[0], dataset[1]], device=CPU, with_error=True)
    cell_height, cell_width = 160, 240
    assert sheet.shape[1] == 7 * (cell_width + GAP_PX) + GAP_PX  # 3 context views, target, drawn, nearest, error
    assert sheet.shape[0] > 2 * cell_height
