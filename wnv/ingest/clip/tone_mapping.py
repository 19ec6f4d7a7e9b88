"""Tone mapping: PQ, HLG and BT.2020 to BT.709.

Steps per pixel: decode to linear light as a 1000 cd/m2 reference display shows it, divided by the 203 cd/m2 of diffuse
white (ITU-R BT.2408); convert BT.2020 primaries to BT.709; compress the brightest channel with a curve that keeps the
darker half and maps 1000 cd/m2 to 1, scaling the other channels in proportion to preserve hue; encode with gamma 2.2.
"""

from functools import cache

import numpy as np
from jaxtyping import Float32, UInt8, UInt16

PQ = 16
HLG = 18
BT2020 = 9

_WHITE = 203.0  # cd/m2
_PEAK = 1000.0  # cd/m2
_KNEE = 0.5
_GAMMA = 2.2

_LUMINANCE_2020 = np.array([0.2627, 0.6780, 0.0593], dtype=np.float32)
# ITU-R BT.2087, transposed for pixels in rows.
_TO_709 = np.array(
    [[1.6605, -0.1246, -0.0182], [-0.5876, 1.1329, -0.1006], [-0.0728, -0.0083, 1.1187]], dtype=np.float32
)
# FFmpeg's scaler outputs 65280 for full white in 16 bits; the tables use the upper 12 bits.
_SHIFT = 4
_FULL = 65280 >> _SHIFT


def needs_tone_mapping(transfer: int, primaries: int) -> bool:
    """Return whether frames with these codes (ITU-T H.273) are HDR or wide gamut."""
    return transfer in (PQ, HLG) or primaries == BT2020


def tone_map(image: UInt16[np.ndarray, "height width 3"], transfer: int) -> UInt8[np.ndarray, "height width 3"]:
    """Convert an RGB image (BT.2020 primaries, 0..65280, transfer code of H.273) to 8-bit BT.709."""
    linear = _to_linear(transfer)[np.minimum(image >> _SHIFT, _FULL)]
    if transfer == HLG:
        # HLG leaves the display's curve to the display (BT.2100: system gamma 1.2 at 1000 cd/m2).
        linear *= np.maximum(linear @ _LUMINANCE_2020, 1e-6)[..., None] ** 0.2 * (_PEAK / _WHITE)
    linear = np.maximum(linear @ _TO_709, 0)
    brightest = np.maximum(linear.max(axis=2, keepdims=True), 1e-6)
    if transfer in (PQ, HLG):
        linear *= _compress(brightest) / brightest
    return _to_code()[(np.minimum(linear, 1) * 65535).astype(np.uint16)]


def _compress(light: Float32[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
    """Compress light smoothly: identity below the knee, 1 at the peak."""
    top = (_PEAK / _WHITE - _KNEE) / (1 - _KNEE)
    above = np.maximum(light - _KNEE, 0) / (1 - _KNEE)
    return np.minimum(light, _KNEE) + (1 - _KNEE) * above * (1 + above / top**2) / (1 + above)


@cache
def _to_linear(transfer: int) -> Float32[np.ndarray, " code"]:
    """Return linear light per code: relative to diffuse white for PQ and SDR, scene light (0..1) for HLG."""
    signal = np.arange(_FULL + 1) / _FULL
    if transfer == PQ:
        root = signal ** (1 / 78.84375)
        light = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
        light *= 10_000 / _WHITE
    elif transfer == HLG:
        upper = (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
        light = np.where(signal <= 0.5, signal**2 / 3, upper)
    else:
        light = signal**_GAMMA
    return light.astype(np.float32)


@cache
def _to_code() -> UInt8[np.ndarray, " level"]:
    return np.round(255 * (np.arange(65536) / 65535) ** (1 / _GAMMA)).astype(np.uint8)
