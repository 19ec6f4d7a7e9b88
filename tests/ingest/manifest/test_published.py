"""Published lists: downloaded once, and verified."""

import hashlib
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from wnv.ingest.manifest.published import PublishedFile, download_published

ROOT = Path(__file__).parents[3]
DATA = b"url\r\nhttps://b23.tv/AbCdEf1\r\n"
SUM = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def published(site):
    site.add("/static.csv", DATA)

    def make(**changes) -> PublishedFile:
        values = {"name": "static.csv", "kind": "static", "url": f"{site.url}/static.csv", "sha256": SUM}
        return PublishedFile(**{**values, **changes})

    return make


def test_a_list_is_downloaded_once(site, published, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "lists"
    assert download_published([published()], folder) == [folder / "static.csv"]
    assert (folder / "static.csv").read_bytes() == DATA
    assert download_published([published()], folder) == [folder / "static.csv"]
    assert len(site.seen) == 1
    assert [path.name for path in folder.iterdir()] == ["static.csv"]


def test_a_changed_file_in_the_cache_is_an_error_and_kept(site, published, tmp_path: Path) -> None:
    (tmp_path / "static.csv").write_bytes(b"mine")
    with pytest.raises(ValueError, match=rf"static\.csv: .*{SUM}.*{hashlib.sha256(b'mine').hexdigest()}"):
        download_published([published()], tmp_path)
    assert (tmp_path / "static.csv").read_bytes() == b"mine"
    assert site.seen == []


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ({"failures": [404]}, "HTTP status 404"),
        ({"truncate_at": 5}, "IncompleteRead"),
        ({"body": b"other"}, f"sha256 must be {SUM}"),
    ],
)
def test_a_failed_download_leaves_nothing(site, published, tmp_path: Path, trouble: dict, message: str) -> None:
    file = published()
    site.add("/static.csv", **{"body": DATA, **trouble})
    with pytest.raises((OSError, ValueError), match=rf"/static\.csv: .*{message}"):
        download_published([file], tmp_path, timeout_s=2.0)
    assert list(tmp_path.iterdir()) == []


def test_the_source_of_kokoni() -> None:
    source = instantiate(OmegaConf.load(ROOT / "conf" / "ingest" / "sources" / "kokoni.yaml"))
    place = (
        "https://raw.githubusercontent.com/tianrun-chen/World-in-Novel-View/346998a2717fc07a4788ed14d50496e5d42808b7"
    )
    assert [(file.name, file.kind, file.url) for file in source.files] == [
        ("static.csv", "static", f"{place}/dataset/static.csv"),
        ("walk.csv", "dynamic", f"{place}/dataset/walk.csv"),
    ]
