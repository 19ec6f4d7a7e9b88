"""The stages of `wnv-data` that turn videos into scenes, as a user types them, and their configuration."""

import importlib
import inspect
import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import wnv.conf
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from wnv.cli import video_sources
from wnv.cli.api import ingest
from wnv.ingest.executors.executor import Executor
from wnv.ingest.ledger import Ledger
from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.pose.given import GivenPoses
from wnv.ingest.tasks import STAGES, Stage

CONF = Path(wnv.conf.__path__[0]) / "ingest"
LIST = "序号,URL,视频标题\r\n1,https://www.bilibili.com/video/BV1Knp5YJ4st,一\r\n"
# A port on which nothing listens.
CLOSED = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def sources(tmp_path: Path) -> None:
    """Two lists, an empty folder and an invalid video."""
    (tmp_path / "walk.csv").write_text(LIST, encoding="utf-8")
    (tmp_path / "list.csv").write_text(LIST, encoding="utf-8")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "film.mp4").write_bytes(b"no film")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with one pending video."""
    with Ledger.open(tmp_path / "root", val_fraction=0.25, test_fraction=0.0) as ledger:
        ledger.add_videos([ManifestLine(key="url:http://a.example/a.mp4", url=None, title="a", kind="static")])
    return tmp_path / "root"


def test_stages_run_from_python(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """tests/cli/test_api.py has the mistakes."""
    ingest("status", [f"root={root}"])
    assert "1 video;" in capsys.readouterr().out


def test_a_second_run_names_the_first(wnv_data: Callable, root: Path) -> None:
    with Ledger.open(root, val_fraction=0.25, test_fraction=0.0):
        code, _, err = wnv_data("run", "root=root")
        assert code == 2
        assert f"process {os.getpid()} on " in err
        assert len(err.splitlines()) == 1
        code, out, _ = wnv_data("status", "root=root")
        assert code == 0
        assert "1 video;" in out


def test_local_videos_need_their_folder(wnv_data: Callable, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "film.mp4").rename(tmp_path / "mine" / "film.mp4")
    assert wnv_data("manifest", "source=mine", "out=mine.jsonl")[0] == 0
    code, _, err = wnv_data("run", "source=mine.jsonl", "root=new")
    assert code == 2
    assert re.search("1 local videos.*file:film.mp4.*source=", err)


@pytest.mark.slow
def test_the_folder_of_local_videos_is_remembered_and_a_failed_run_has_exit_code_1(
    wnv_data: Callable, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "film.mp4").rename(tmp_path / "mine" / "film.mp4")
    for settings in (["source=mine"], ["retry=all"], ["retry=[corrupt]"]):
        code, out, err = wnv_data("fetch", "root=new", *settings)
        assert code == 1, err
        assert "fetch: 1 refused (refused/corrupt 1)" in out
    code, out, _ = wnv_data("fetch", "root=new")
    assert (code, out) == (0, "nothing to do\n")


def test_given_cameras_are_looked_for_beside_the_videos(
    wnv_data: Callable, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[str | None] = []
    monkeypatch.setattr(GivenPoses, "versions", lambda self: folders.append(self.folder) or {})
    with Ledger.open(root, val_fraction=0.25, test_fraction=0.0) as ledger:
        ledger.set_videos_folder(str(tmp_path))
    for option in ("given", "given_refined"):
        assert wnv_data("pose", f"root={root}", f"pose={option}")[0] == 0
    assert set(folders) == {str(tmp_path)}


def test_kokoni_without_a_network(wnv_data: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = (CONF / "sources" / "kokoni.yaml").read_text(encoding="utf-8")
    (tmp_path / "conf" / "sources").mkdir(parents=True)
    (tmp_path / "conf" / "sources" / "kokoni.yaml").write_text(
        published.replace("https://raw.githubusercontent.com", CLOSED), encoding="utf-8"
    )
    monkeypatch.setattr(video_sources, "files", lambda package: tmp_path / "conf")
    (tmp_path / "kokoni").mkdir()  # the root may well have that name
    for arguments in (("run", "root=kokoni"), ("manifest", "out=kokoni.jsonl")):
        code, _, err = wnv_data(*arguments, "source=kokoni", "cache=kept")
        assert code == 2
        assert len(err.splitlines()) == 1
        assert f"{CLOSED}/" in err
        assert "static.csv and walk.csv into kept/kokoni" in err
    assert os.listdir(tmp_path / "kokoni") == []


def test_a_manifest_of_a_list(wnv_data: Callable, tmp_path: Path) -> None:
    code, out, _ = wnv_data("manifest", "source=walk.csv", "out=walk.jsonl")
    assert code == 0
    assert out.splitlines()[0] == "walk.jsonl: 1 videos (0 marked segments, 0.0 h) from 1 rows; 0 rows without a video"
    code, _, err = wnv_data("manifest", "source=walk.csv", "out=walk.jsonl")
    assert code == 2
    assert "overwrite=true" in err
    assert wnv_data("manifest", "source=walk.csv", "out=walk.jsonl", "overwrite=true")[0] == 0


@cache
def _composed(*overrides: str) -> DictConfig:
    with initialize_config_module("wnv.conf.ingest", version_base="1.3"):
        return compose("run", ["root=root", *overrides])


def _targets(config: DictConfig, name: str) -> Iterator[tuple[str, DictConfig]]:
    """Iterate over the parts of a configuration that are objects."""
    if "_target_" in config:
        yield name, config
    for key in config:
        if not OmegaConf.is_missing(config, key) and OmegaConf.is_dict(config[key]):
            yield from _targets(config[key], f"{name}.{key}")


CUSTOM = ("pose=custom", "pose.estimator._target_=wnv.ingest.pose.colmap.ColmapEstimator")
OPTIONS = {
    **{group: () for group in (*STAGES, "gate", "retries", "executor")},  # the defaults
    "pose custom": CUSTOM,
    **{f"pose {name}": (f"pose={name}",) for name in ("given", "given_refined", "depth_anything")},
    "executor ray": ("executor=ray",),
}


@pytest.mark.parametrize(
    "option", [pytest.param(name, marks=pytest.mark.slow) if "ray" in name else name for name in OPTIONS]
)
def test_every_object_is_built_and_knows_its_settings(option: str) -> None:
    if "ray" in option:
        pytest.importorskip("ray")
    group = option.split()[0]
    config = _composed(*OPTIONS[option])[group]
    for name, part in _targets(config, group):
        module, _, found = part._target_.rpartition(".")
        parameters = inspect.signature(getattr(importlib.import_module(module), found)).parameters
        assert {str(key) for key in part} - {"_target_"} <= set(parameters), name
    made = instantiate(config, _convert_="all")
    if group in STAGES:
        assert isinstance(made, Stage)
        assert made.name == group
    if group == "executor":
        assert isinstance(made, Executor)


def test_every_option_is_built() -> None:
    files = {(file.parent.name, file.stem) for file in CONF.glob("*/*.yaml") if "_target_" in file.read_text()}
    others = {("pose", name) for name in ("custom", "given", "given_refined", "depth_anything")} | {("executor", "ray")}
    defaults = {(group, "default") for group in (*STAGES, "gate", "retries")} - {("pose", "default")}
    assert files - {("sources", "kokoni")} == {*others, *defaults, ("pose", "colmap"), ("executor", "local")}


@pytest.mark.parametrize("group", [*STAGES, "gate", "retries"])
def test_the_configuration_shows_every_setting_with_its_default(group: str) -> None:
    config = _composed()[group]
    module, _, found = config._target_.rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), found)).parameters.values()
    numbers = {found.name: found.default for found in parameters if isinstance(found.default, int | float)}
    assert {name: config[name] for name in numbers} == numbers
