import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wnv.geometry.patches import patchify, unpatchify


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    batch=st.lists(st.integers(1, 3), max_size=2),
    channel=st.integers(1, 4),
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    patch_size=st.integers(1, 5),
)
def test_unpatchify_undoes_patchify(batch, channel, rows, columns, patch_size):
    height, width = rows * patch_size, columns * patch_size
    shape = (*batch, channel, height, width)
    x = torch.arange(float(math.prod(shape))).reshape(shape)
    tokens = patchify(x, patch_size=patch_size)
    assert tokens.shape == (*batch, rows * columns, patch_size**2 * channel)
    assert torch.equal(unpatchify(tokens, height=height, width=width, patch_size=patch_size), x)


def test_tokens_run_along_rows_and_hold_patch_row_patch_column_channel():
    x = torch.arange(3 * 4 * 6.0).reshape(3, 4, 6)
    tokens = patchify(x, patch_size=2)
    assert tokens.shape == (6, 12)
    assert torch.equal(tokens[1].reshape(2, 2, 3), x[:, 0:2, 2:4].permute(1, 2, 0))  # second of the first row
    assert torch.equal(tokens[3].reshape(2, 2, 3), x[:, 2:4, 0:2].permute(1, 2, 0))  # first of the second row


@pytest.mark.parametrize(
    ("height", "width", "message"),
    [
        (20, 24, "height.*8.*20.*16 or 24"),
        (16, 30, "width.*8.*30.*24 or 32"),
        (7, 8, "height.*7.*8"),
    ],
)
def test_a_size_that_does_not_divide_is_named(height, width, message):
    with pytest.raises(ValueError, match=message):
        patchify(torch.zeros(3, height, width), patch_size=8)
    with pytest.raises(ValueError, match=message):
        unpatchify(torch.zeros(6, 192), height=height, width=width, patch_size=8)


def test_tokens_of_another_image_and_no_patch_size_are_rejected():
    with pytest.raises(ValueError, match=r"patch_size.* 0"):
        patchify(torch.zeros(3, 8, 8), patch_size=0)
    for shape in ((5, 192), (6, 190)):
        with pytest.raises(ValueError, match=r"16 x 24 .*patches of 8"):
            unpatchify(torch.zeros(shape), height=16, width=24, patch_size=8)
