"""Weights on a hub: the real client against one on this machine."""

import re
from collections.abc import Iterator

import huggingface_hub
import pytest
import torch
from huggingface_hub import HfApi
from loopback.hub import ScriptedHub, serving

from wnv.models.hub import upload_folder
from wnv.models.konet import KoNet

CARD = "---\nlibrary_name: wnv\n---\n\n# a model\n"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[ScriptedHub]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with serving() as hub:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub


def api(hub: ScriptedHub, token: str | bool = "hf_writer") -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=token)


def test_what_is_pushed_comes_back_the_same(make_model, make_views, make_cameras, hub):
    model = make_model()
    address = model.push_to_hub("me/konet", card=CARD, private=True, api=api(hub))
    assert address.startswith(f"{hub.endpoint}/me/konet/commit/")
    assert sorted(hub.files["me/konet"]) == ["README.md", "config.json", "model.safetensors"]
    assert hub.files["me/konet"]["README.md"].decode() == CARD
    assert hub.private["me/konet"]
    context, targets = make_views(), make_cameras(seed=5)
    assert torch.equal(KoNet.from_pretrained("me/konet")(context, targets), model(context, targets))


def test_weights_on_the_hub_are_not_overwritten_without_overwrite(make_model, hub):
    make_model(seed=1).push_to_hub("me/konet", card=CARD, api=api(hub))
    before = dict(hub.files["me/konet"])
    with pytest.raises(FileExistsError, match=r"me/konet.*overwrite=true"):
        make_model(seed=2).push_to_hub("me/konet", card=CARD, api=api(hub))
    assert hub.files["me/konet"] == before
    make_model(seed=2).push_to_hub("me/konet", card=CARD, overwrite=True, dtype=torch.bfloat16, api=api(hub))
    assert len(hub.files["me/konet"]["model.safetensors"]) < 0.6 * len(before["model.safetensors"])
    assert not hub.private["me/konet"]


def test_an_empty_repository_is_filled(make_model, hub):
    hub.files["me/konet"] = {}
    make_model().push_to_hub("me/konet", card=CARD, api=api(hub))
    assert "model.safetensors" in hub.files["me/konet"]


@pytest.mark.parametrize("token", ["hf_reader", False])
def test_upload_needs_write_access(make_model, hub, token):
    with pytest.raises(PermissionError, match=r"me/konet.*hf auth login.*HF_TOKEN"):
        make_model().push_to_hub("me/konet", card=CARD, api=api(hub, token))
    assert hub.files == {}


@pytest.mark.parametrize("name", ["konet", "me/konet/v2", "me/ko net", "", "me/", "-/-"])
def test_invalid_repository_names(make_model, hub, name):
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        make_model().push_to_hub(name, card=CARD, api=api(hub))


def test_unreachable_hub(make_model, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    away = HfApi(endpoint="http://127.0.0.1:9", token="hf_writer")
    with pytest.raises(ValueError, match=r"me/konet.*refused"):
        make_model().push_to_hub("me/konet", card=CARD, api=away)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"me/konet.*offline"):
        make_model().push_to_hub("me/konet", card=CARD, api=HfApi(token="hf_writer"))


def test_incomplete_folder_is_not_uploaded(make_model, hub, tmp_path):
    make_model().save_pretrained(tmp_path / "weights")
    with pytest.raises(FileNotFoundError, match=r"README\.md"):
        upload_folder(tmp_path / "weights", "me/konet", api=api(hub))
    assert hub.files == {}
