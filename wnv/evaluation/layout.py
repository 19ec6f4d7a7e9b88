"""What the folder of an evaluation holds to be looked at, and under which names."""

SHEET_FILE = "sheet.png"
"""Some cases of the first variant, from the worst to the best."""

PICTURES_FOLDER = "pictures"
"""One picture a shown case, and where it was asked for a film."""


def picture_stem(index: int, variant: str) -> str:
    """The name, without its ending, of the picture and the film of one case."""
    return f"{index:06d}-{variant.replace('/', '_') or 'all'}"
