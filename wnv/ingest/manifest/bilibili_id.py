"""Bilibili's video ids: the public transform between `BV...` and `av...`, and a check of their form."""

ALPHABET = "FcwAPNKTMug3GV5Lj7EJnHpWsx4tb8haYeviqBz6rkCy12mUSDQX9RdoZf"
"""The base-58 digits in order; 0, I, O and l are not among them."""

MAX_AV = 2**51 - 1

_BASE = len(ALPHABET)
_XOR = 23442827791579
# Digits of an id, the most significant first, by their position in it.
_POSITIONS = (9, 7, 5, 6, 4, 8, 3, 10, 11)


def av_to_bv(av: int) -> str:
    """Convert an av number to the `BV...` id of the same video.

    Raises:
        ValueError: If the number is not in 1..2^51 - 1.
    """
    if not 1 <= av <= MAX_AV:
        raise ValueError(f"an av number must be in 1..{MAX_AV}, got {av}")
    value = (av | 2**51) ^ _XOR
    letters = list("BV1.........")
    for position in reversed(_POSITIONS):
        value, digit = divmod(value, _BASE)
        letters[position] = ALPHABET[digit]
    return "".join(letters)


def bv_to_av(bv: str) -> int | None:
    """Convert a `BV...` id to the av number of the same video; None if the text cannot be such an id.

    The form is checked: prefix, length, alphabet, and the one bit set in all ids. There is no checksum, so an id with
    one wrong letter usually passes.
    """
    if len(bv) != 12 or not bv.startswith("BV1") or not set(bv[3:]) <= set(ALPHABET):
        return None
    value = 0
    for position in _POSITIONS:
        value = value * _BASE + ALPHABET.index(bv[position])
    return (value & MAX_AV) ^ _XOR if value >> 51 == 1 else None
