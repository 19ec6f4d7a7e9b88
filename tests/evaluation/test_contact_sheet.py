import numpy as np
import torch

from wnv.evaluation.contact_sheet import Cell, contact_sheet


def flat(red: float | int, green: float | int, blue: float | int, *, height: int = 40, width: int = 56) -> torch.Tensor:
    return torch.tensor([red, green, blue], dtype=torch.float32)[:, None, None].expand(3, height, width)


def test_every_picture_is_on_the_sheet_at_its_enlarged_size():
    colours = [(1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)]
    sheet = contact_sheet([[Cell(flat(*c), "caption") for c in colours], [Cell(flat(1, 1, 0))]], min_side=80)
    for colour in [*colours, (1, 1, 0)]:
        rows, columns = np.nonzero((sheet == np.array(colour) * 255).all(-1))
        assert rows.max() - rows.min() + 1 == 80
        assert columns.max() - columns.min() + 1 == 112
        assert len(rows) == 80 * 112


def test_pictures_of_different_sizes_and_titles_share_a_sheet():
    sheet = contact_sheet(
        [[Cell(flat(1, 0, 0, height=30, width=50))], [Cell(flat(0, 1, 0, height=64, width=32), "b")]],
        row_titles=["first", "second"],
        min_side=1,
    )
    assert (sheet == [255, 0, 0]).all(-1).sum() == 30 * 50
    assert (sheet == [0, 255, 0]).all(-1).sum() == 64 * 32
