"""The card: what is known stands there, what is not is said to be unknown."""

import re

import pytest
import yaml
from huggingface_hub import ModelCard as HubCard
from huggingface_hub import ModelCardData

from wnv.models.konet import KoNet
from wnv.models.model_card import CardScores, ModelCard, strip_header

SMALL = dict(dim=32, num_layers=1, num_heads=2, mlp_dim=32)


@pytest.fixture
def make_card():
    def make(config: dict | None = None, **facts) -> ModelCard:
        model = KoNet(**SMALL, **(config or {}))
        given = dict(name="mine", source="me/mine", origin="Mine.", num_parameters=1234567, dtype="bfloat16")
        return ModelCard(config=model.config, **given | facts)

    return make


def section(text: str, title: str) -> str:
    found = re.search(rf"^## {title}\n\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"the card has no section {title}"
    return found[1].strip()


def test_what_is_not_known_is_said_to_be_unknown(make_card):
    text = make_card().text()
    for title in ("Data", "Training"):
        assert section(text, title) == "Unknown."
    assert section(text, "Scores") == "None: how good these weights are is unknown."
    assert section(text, "Licence").startswith("Unknown: whoever exported these weights did not say.")
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "unknown"


def test_what_is_known_stands_there(make_card):
    text = make_card(
        license="cc-by-4.0",
        license_note="As agreed.",
        datasets=["me/rooms", "you/gardens"],
        data={"root": ".../scenes", "zoom_range": [1, 3]},
        recipe={"optim.lr": 4e-4},
        training={"commands": ["wnv-train a|b", "wnv-train c"]},
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
    ).text()
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
        (dict(), "The weights know of no time"),
        (dict(attention="joint"), "Attention is joint"),
        (dict(ray_code="fixed", ray_size=[16, 24]), "Images are 16 x 24 pixels (height x width) and of no other size."),
        (dict(patch_size=4), "multiples of 4 pixels"),
    ],
)
def test_limits_follow_from_the_configuration(make_card, config, limit):
    assert limit in section(make_card(config).text(), "Limits")


def test_the_hub_reads_the_header(make_card):
    card = HubCard(make_card(license="mit", datasets=["me/rooms"]).text())
    assert isinstance(card.data, ModelCardData)
    assert (card.data.license, card.data.datasets, card.data.library_name) == ("mit", ["me/rooms"], "wnv")


def test_the_card_of_the_source_is_kept_without_header_and_pictures(make_card):
    first = make_card(license="apache-2.0", data={"root": "rooms"}).text() + "\n![sheet](sheet.png)\n"
    header, body = strip_header(first)
    assert (header["license"], header["library_name"]) == ("apache-2.0", "wnv")
    assert body.startswith("# mine")
    text = make_card(earlier_card=body).text()
    assert section(text, "Data") == "What is known stands in the card below."
    assert "### mine" in text
    assert "sheet.png" not in text
    assert "| root | rooms |" in text
    assert strip_header("# no header") == ({}, "# no header")
