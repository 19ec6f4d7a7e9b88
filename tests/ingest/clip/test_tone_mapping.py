"""Tone mapping is monotonic, keeps gray neutral and white levels right."""

import numpy as np
import pytest

from wnv.ingest.clip.tone_mapping import HLG, PQ, tone_map

_WHITE_CODE = 65280


def _grey(signal: np.ndarray, transfer: int) -> np.ndarray:
    """Map gray signals, 0..1, to one value each."""
    image = np.broadcast_to(np.round(signal[None, :, None] * _WHITE_CODE).astype(np.uint16), (2, len(signal), 3))
    result = tone_map(image, transfer)
    assert np.ptp(result.astype(int), axis=2).max() <= 1  # grey stays grey
    return result[0, :, 1].astype(int)


@pytest.mark.parametrize("transfer", [PQ, HLG, 14])
def test_brighter_stays_brighter(transfer: int) -> None:
    values = _grey(np.linspace(0, 1, 200), transfer)
    assert values[0] == 0
    assert values[-1] == 255
    assert np.diff(values).min() >= 0


def test_diffuse_white_and_peak() -> None:
    # BT.2408: paper white, 203 cd/m2, is 58 % in PQ and 75 % in HLG; a display of 1000 cd/m2 ends at 75 % in PQ.
    pq, hlg = _grey(np.array([0.5807, 0.7518]), PQ), _grey(np.array([0.75, 1.0]), HLG)
    assert np.abs(pq - hlg).max() <= 3
    assert 215 < pq[0] < 235
    assert 252 <= pq[1] <= 255


def test_the_darker_half_is_unchanged() -> None:
    # 100 cd/m2 are 0.508 in PQ: half of diffuse white, which is unchanged.
    assert _grey(np.array([0.5081]), PQ)[0] == pytest.approx(255 * (100 / 203) ** (1 / 2.2), abs=2)


def _to_xyz(red: tuple[float, float], green: tuple[float, float], blue: tuple[float, float]) -> np.ndarray:
    """XYZ<-RGB of primaries with white D65."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in (red, green, blue)]).T
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    return columns * np.linalg.solve(columns, white)


def test_primaries_are_converted() -> None:
    wide = _to_xyz((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
    narrow = _to_xyz((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
    signal = np.array([0.45, 0.55, 0.5])
    expected = np.linalg.solve(narrow, wide @ signal**2.2) ** (1 / 2.2)
    image = np.round(signal * _WHITE_CODE).astype(np.uint16)[None, None]
    np.testing.assert_allclose(tone_map(image, 14)[0, 0] / 255, expected, atol=0.005)
