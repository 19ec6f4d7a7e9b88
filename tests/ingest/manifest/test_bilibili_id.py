"""The public transform between BV and av ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wnv.ingest.manifest.bilibili_id import MAX_AV, av_to_bv, bv_to_av


@pytest.mark.parametrize(
    ("av", "bv"), [(2, "BV1xx411c7mD"), (170001, "BV17x411w7KC"), (455017605, "BV1Q541167Qg")]
)  # fmt: skip
def test_known_pairs(av: int, bv: str) -> None:
    assert av_to_bv(av) == bv
    assert bv_to_av(bv) == av


@given(st.integers(1, MAX_AV))
def test_there_and_back(av: int) -> None:
    bv = av_to_bv(av)
    assert len(bv) == 12
    assert bv_to_av(bv) == av


@pytest.mark.parametrize(
    "bv",
    [
        "",
        "BV1",
        "BV1xx411c7m",
        "BV1xx411c7mDD",
        "BV2xx411c7mD",
        "BV1xx411c7m0",
        "BV1xx411c7ml",
        "bv1xx411c7mD",
        "BV1zzzzzzzzz",
    ],
)
def test_invalid_ids(bv: str) -> None:
    assert bv_to_av(bv) is None


@pytest.mark.parametrize("av", [0, -1, MAX_AV + 1])
def test_numbers_out_of_range(av: int) -> None:
    with pytest.raises(ValueError, match="av number"):
        av_to_bv(av)


@given(st.text(max_size=20))
def test_any_text_is_an_id_or_not(text: str) -> None:
    number = bv_to_av(text)
    assert number is None or av_to_bv(number) == text or not 1 <= number <= MAX_AV
