"""Every code has one meaning and is used."""

from pathlib import Path

import wnv.ingest.manifest.codes
from wnv.ingest.manifest.codes import CODES, FILE_CODES, LINE_CODES, REFUSAL_CODES, ROW_CODES

FOLDER = Path(wnv.ingest.manifest.codes.__file__).parent


def test_codes_are_unique() -> None:
    assert len(CODES) == sum(len(codes) for codes in (REFUSAL_CODES, ROW_CODES, LINE_CODES, FILE_CODES))


def test_codes_are_used() -> None:
    source = "".join(path.read_text() for path in FOLDER.glob("*.py") if path.name != "codes.py")
    assert [code for code in CODES if f'"{code}"' not in source] == []
