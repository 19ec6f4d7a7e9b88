import av
import numpy as np
import pytest
import torch
from PIL import Image

from wnv.evaluation.camera_path import CameraPath, plan_path
from wnv.evaluation.contact_sheet import GAP_PX
from wnv.evaluation.path_video import write_path_video
from wnv.types import Views

CPU = torch.device("cpu")


def write(model, context: Views, *, num_views: int = 5, **options):
    path = plan_path(context, "interpolate", num_views=num_views)
    return write_path_video(model, context, path, **{"device": CPU, "min_side": 1, **options})


def num_frames(path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_path_becomes_video_gif_sheet_and_frames(tmp_path, dataset, copy_model):
    files = write(copy_model, dataset[0].context, out=tmp_path, write_frames=True, min_side=32)
    assert num_frames(files.mp4) == 5
    assert [path.name for path in sorted(files.frames.iterdir())] == [f"{i:06d}.png" for i in range(5)]
    # The path begins and ends at context cameras, which the copy model reproduces.
    with Image.open(files.frames / "000000.png") as picture:
        first = np.asarray(picture).astype(float) / 255
    truth = dataset[0].context.images[0].movedim(0, -1).numpy()
    assert np.abs(first - truth).max() <= 0.5 / 255 + 1e-6
    with Image.open(files.gif) as gif:
        assert gif.size == (48, 32)
    with Image.open(files.sheet) as sheet:
        assert sheet.size == ((24 * 10 + GAP_PX) * 4 + GAP_PX, 430)
    assert files.psnr_db is None


def test_frames_of_a_longer_path_do_not_stay_behind(tmp_path, dataset, copy_model, caplog):
    options = {"out": tmp_path, "overwrite": True}
    write(copy_model, dataset[0].context, **options, write_frames=True)
    assert caplog.text == ""
    back = write(copy_model, dataset[0].context, **options, there_and_back=True)
    assert num_frames(back.mp4) == 5 + 3, "no end is shown twice"
    assert "earlier video" in caplog.text
    files = write(copy_model, dataset[0].context, num_views=2, **options, write_frames=True)
    assert sorted(path.name for path in files.frames.iterdir()) == ["000000.png", "000001.png"]
    (files.frames / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"notes\.txt"):
        write(copy_model, dataset[0].context, **options, write_frames=True)
    assert (files.frames / "notes.txt").read_text() == "mine"


def test_the_truth_is_shown_on_the_left_and_scored(tmp_path, dataset, copy_model):
    context = dataset[0].context
    truth = context.images[[0, 1]] * 0.5 + 0.25
    path = CameraPath(context.cameras[[0, 1]], context.times[[0, 1]], truth=truth)
    files = write_path_video(copy_model, context, path, out=tmp_path, device=CPU, side_by_side=True, min_side=64)
    with av.open(str(files.mp4)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(float) / 255
    assert frame.shape == (64, 2 * 96, 3)
    left, right = frame[:, :96].mean(axis=(0, 1)), frame[:, 96:].mean(axis=(0, 1))
    assert np.abs(left - truth[0].mean(dim=(1, 2)).numpy()).max() < 0.02
    assert np.abs(right - context.images[0].mean(dim=(1, 2)).numpy()).max() < 0.02
    errors = ((context.images[[0, 1]] - truth) ** 2).mean(dim=(1, 2, 3))
    assert files.psnr_db == pytest.approx(float((-10 * errors.log10()).mean()), abs=1e-4)
    with Image.open(files.sheet) as sheet:
        assert sheet.height > 600  # three rows


def test_faults_are_named_before_anything_is_rendered(tmp_path, dataset, copy_model):
    context = dataset[0].context
    with pytest.raises(ValueError, match=r"fps .*-1"):
        write(copy_model, context, out=tmp_path, fps=-1)
    with pytest.raises(ValueError, match="side_by_side"):
        write(copy_model, context, out=tmp_path, side_by_side=True)
    assert list(tmp_path.iterdir()) == []
    assert copy_model.num_encoded == 0
    (tmp_path / "path.gif").write_text("mine")
    with pytest.raises(FileExistsError, match=r"path.gif .*overwrite=true"):
        write(copy_model, context, out=tmp_path)
    assert copy_model.num_encoded == 0
    write(copy_model, context, out=tmp_path, overwrite=True)
    assert (tmp_path / "path.gif").read_bytes().startswith(b"GIF89a")
