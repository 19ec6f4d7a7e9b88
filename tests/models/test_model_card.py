"""Model cards state what is known, and mark the rest as unknown."""

import re

import pytest
import yaml
from huggingface_hub import ModelCard

from wnv.models.konet import KoNet
from wnv.models.model_card import CardScores, make_card

SMALL = dict(dim=32, num_layers=1, num_heads=2, mlp_dim=32)


def card_text(config: dict | None = None, **facts) -> str:
    given = dict(name="mine", source="me/mine", origin="Mine.", num_parameters=1234567, dtype="bfloat16")
    return str(make_card(config=KoNet(**SMALL, **(config or {})).config, **given | facts))


def section(text: str, title: str) -> str:
    found = re.search(rf"^## {title}\n\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"the card has no section {title}"
    return found[1].strip()


def test_missing_facts_are_unknown():
    text = card_text()
    for title in ("Data", "Training", "Scores", "Licence"):
        assert section(text, title).startswith("Unknown")
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "unknown"


def test_known_facts():
    text = card_text(
        license="cc-by-4.0",
        license_note="As agreed.",
        datasets=["me/rooms", "you/gardens"],
        data={"root": ".../scenes", "zoom_range": [1, 3]},
        training={"optim.lr": 4e-4, "commands": ["wnv-train a|b", "wnv-train c"]},
        scores=[
            CardScores(
                title="re10k views=8",
                rows={
                    "these weights": {"psnr": (27.616, 0.204), "ssim": (0.91234, None)},
                    "copy": {"psnr": (15.0, 0.1), "lpips": (0.4, None)},
                },
                notes=["3 scenes.", "On a CPU."],
            )
        ],
        limits=["Small."],
    )
    header = yaml.safe_load(text.split("---\n")[1])
    assert (header["library_name"], header["license"]) == ("wnv", "cc-by-4.0")
    assert (header["pipeline_tag"], header["datasets"]) == ("image-to-image", ["me/rooms", "you/gardens"])
    assert "| parameters | 1,234,567, stored in bfloat16 |" in text
    assert 'KoNet.from_pretrained("me/mine")' in section(text, "Use")
    assert "| zoom_range | [1, 3] |" in section(text, "Data")
    assert "| optim.lr | 0.0004 |" in section(text, "Training")
    assert r"| commands | wnv-train a\|b<br>wnv-train c |" in section(text, "Training")
    scores = section(text, "Scores").splitlines()
    assert scores[0] == "**re10k views=8**"
    assert scores[2:6] == [
        "| | PSNR, dB | SSIM | LPIPS |",
        "|---|---|---|---|",
        "| these weights | 27.62 ± 0.20 | 0.9123 |  |",
        "| copy | 15.00 ± 0.10 |  | 0.4000 |",
    ]
    assert "3 scenes. On a CPU." in scores
    assert "- Small." in section(text, "Limits")
    assert section(text, "Licence") == "`cc-by-4.0`. As agreed."


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        (dict(), "no notion of time"),
        (dict(attention="joint"), "joint"),
        (dict(ray_code="fixed", ray_size=[16, 24]), "16 x 24 pixels"),
        (dict(patch_size=4), "multiples of 4 pixels"),
    ],
)
def test_limits_follow_from_the_configuration(config, limit):
    assert limit in section(card_text(config), "Limits")


def test_earlier_card_is_nested_without_header_and_images():
    first = card_text(license="apache-2.0", data={"root": "rooms"}) + "\n![sheet](sheet.png)\n"
    text = card_text(earlier_card=ModelCard(first).text)
    assert "below" in section(text, "Data")
    assert "### mine" in text
    assert "sheet.png" not in text
    assert "| root | rooms |" in text
    assert text.count("library_name") == 1
