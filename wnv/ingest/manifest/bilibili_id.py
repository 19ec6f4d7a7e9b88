"""Bilibili's video ids: the public transform between `BV...` and `av...`, and a check of their form."""

ALPHABET = "FcwAPNKTMug3GV5Lj7EJnHpWsx4tb8haYeviqBz6rkCy12mUSDQX9RdoZf"
"""The base-58 digits in order; 0, I, O and l are not among them."""

MAX_AV = 2**51 - 1

_BASE = len(ALPHABET)
_DIGIT = {character: digit for digit, character in enumerate(ALPHABET)}
_XOR = 23442827791579
_NUM_DIGITS = 9
_SWAPS = ((3, 9), (4, 7))


def av_to_bv(av: int) -> str:
    """Convert an av number to the `BV...` id of the same video.

    Raises:
        ValueError: If the number is not in 1..2^51 - 1.
    """
    if not 1 <= av <= MAX_AV:
        raise ValueError(f"an av number must be in 1..{MAX_AV}, got {av}")
    value = (av | 2**51) ^ _XOR
    digits = []
    for _ in range(_NUM_DIGITS):
        value, digit = divmod(value, _BASE)
        digits.append(ALPHABET[digit])
    return _swapped("BV1" + "".join(reversed(digits)))


def bv_to_av(bv: str) -> int | None:
    """Convert a `BV...` id to the av number of the same video; None if the text cannot be such an id.

    The form is checked: prefix, length, alphabet, and the one bit set in all ids. There is no checksum, so an id with
    one wrong letter usually passes.
    """
    if len(bv) != 3 + _NUM_DIGITS or not bv.startswith("BV1") or any(letter not in _DIGIT for letter in bv[3:]):
        return None
    value = 0
    for letter in _swapped(bv)[3:]:
        value = value * _BASE + _DIGIT[letter]
    if value >> 51 != 1:
        return None
    return (value & MAX_AV) ^ _XOR


def _swapped(bv: str) -> str:
    letters = list(bv)
    for i, j in _SWAPS:
        letters[i], letters[j] = letters[j], letters[i]
    return "".join(letters)
