"""The stages of `wnv-data` that make scenes of videos, as a user types them, and their configuration."""

import importlib
import inspect
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import wnv.conf
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from wnv.cli import data_ingest
from wnv.cli.api import ingest
from wnv.ingest.executors.executor import Executor
from wnv.ingest.ledger import Ledger
from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.tasks import STAGES, Stage

CONF = Path(wnv.conf.__path__[0]) / "ingest"
COMMANDS = ("manifest", "run", *STAGES, "status", "report")
LIST = "序号,URL,视频标题\r\n1,https://www.bilibili.com/video/BV1Knp5YJ4st,一\r\n"
# On which nobody listens: the first port is nobody's to take without being root.
CLOSED = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def sources(tmp_path: Path) -> None:
    """Two lists, an empty folder and what calls itself a video."""
    (tmp_path / "walk.csv").write_text(LIST, encoding="utf-8")
    (tmp_path / "list.csv").write_text(LIST, encoding="utf-8")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "film.mp4").write_bytes(b"no film")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root that knows one video, with which nothing has been done yet."""
    with Ledger.open(tmp_path / "root", val_fraction=0.25, test_fraction=0.0) as ledger:
        ledger.add_videos([ManifestLine(key="url:http://a.example/a.mp4", url=None, title="a", kind="static")])
    return tmp_path / "root"


NEW = ("run", "root=new")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "source=walk.csv"), "root has no default; set root="),
        (NEW, "/new is new and has no videos yet; name some with source="),
        (("clip", "root=new"), "/new has no ledger.sqlite; begin with wnv-data run or fetch, source="),
        (("status", "root=new"), "ledger.sqlite does not exist; name the root that wnv-data run or fetch wrote to"),
        (("report", "root=new"), "ledger.sqlite does not exist; name the root"),
        (("manifest", "source=walk.csv"), "out has no default; set out="),
        ((*NEW, "source=nowhere.csv"), "nowhere.csv: no such file or folder"),
        ((*NEW, "source=我的视频"), "我的视频: no such file or folder"),
        ((*NEW, "source=nothing"), "nothing: no video .* among 0 files"),
        ((*NEW, "source=film.mp4"), "film.mp4 is a video; name the folder that it lies in"),
        ((*NEW, "source=list.csv"), "list.csv: the name does not say what kind .* set kind=static or kind=dynamic"),
        ((*NEW, "source=walk.csv", "kind=moving"), "kind must be static or dynamic, got 'moving'"),
        ((*NEW, "source=walk.csv", "val_fraction=much"), "val_fraction must be a number, got 'much'"),
        ((*NEW, "source=walk.csv", "val_fraction=-0.1"), "val_fraction and test_fraction must be at least 0"),
        (
            (*NEW, "source=walk.csv", "val_fraction=0.5", "test_fraction=0.5"),
            "together less than 1, got 0.5 and 0.5",
        ),
        ((*NEW, "source=walk.csv", "retry=nonsense"), "retry must be none, failed, all or a list of reason codes"),
        ((*NEW, "source=walk.csv", "start=3", "end=1"), "0 <= start <= end must hold, got start=3 and end=1"),
        ((*NEW, "source=walk.csv", "limit=few"), "limit must be a whole number, got 'few'"),
        ((*NEW, "source=walk.csv", "speed=1"), "Could not override 'speed'"),
        ((*NEW, "source=walk.csv", "clip.speed=1"), "Could not override 'clip.speed'"),
        ((*NEW, "source=walk.csv", "fetch.cookies=none.txt"), "none.txt"),
        ((*NEW, "source=walk.csv", "clip.short_side=35"), r"short_side must be an even number .* \(config key clip\)"),
        ((*NEW, "source=walk.csv", "gate.parallel=0"), "parallel must be at least 1, got 0"),
        ((*NEW, "source=walk.csv", "fetch.videos=lost"), "videos: no folder .*lost"),
        ((*NEW, "source=[nothing,.]"), "videos of one folder, got"),
    ],
)
def test_mistakes_are_one_line_and_code_2_and_make_nothing(
    wnv_data: Callable, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    before = sorted(os.listdir(tmp_path))
    code, out, err = wnv_data(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"wnv-data {arguments[0]}: error: ")
    assert len(err.splitlines()) == 1, err
    assert re.search(message, err)
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "source=walk.csv", "val_fraction=0.5"), "begun with val_fraction=0.25 and test_fraction=0.0, got 0.5"),
        (("run", "keys=[url:http://b.example]"), "url:http://b.example: not known in"),
        (("run", "executor.num_workers=0"), "num_workers, .* must be at least 1, got 0"),
        (("clip", "redo=[pose]"), "redo=pose: this run does clip only"),
        (("report", "out=walk.csv"), "walk.csv exists; choose another out="),
        (("report", "num_scenes=many"), "num_scenes must be a whole number, got 'many'"),
    ],
)
def test_mistakes_about_a_root_leave_it_as_it_was(
    wnv_data: Callable, root: Path, arguments: tuple[str, ...], message: str
) -> None:
    with Ledger.read(root) as ledger:
        before = list(ledger.rows())
    code, _, err = wnv_data(arguments[0], "root=root", *arguments[1:])
    assert code == 2
    assert re.search(message, err.splitlines()[-1]), err
    with Ledger.read(root) as ledger:
        assert list(ledger.rows())[: len(before)] == before


def test_from_python_a_stage_does_what_its_command_does(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ingest("status", [f"root={root}"])
    assert "1 videos" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match=r"new has no ledger\.sqlite"):
        ingest("clip", [f"root={root.with_name('new')}"])
    with pytest.raises(ValueError, match=r"stage.*films"):
        ingest("films", [])
    assert not root.with_name("new").exists()


def test_a_second_run_says_who_has_the_root(wnv_data: Callable, root: Path) -> None:
    with Ledger.open(root, val_fraction=0.25, test_fraction=0.0):
        code, _, err = wnv_data("run", "root=root")
        assert code == 2
        assert f"in use by another run (process {os.getpid()} on " in err
        assert len(err.splitlines()) == 1
        code, out, _ = wnv_data("status", "root=root")
        assert code == 0
        assert "1 videos" in out


def test_videos_whose_folder_is_lost_are_not_refused_one_by_one(wnv_data: Callable, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "film.mp4").rename(tmp_path / "mine" / "film.mp4")
    assert wnv_data("manifest", "source=mine", "out=mine.jsonl")[0] == 0
    code, _, err = wnv_data("run", "source=mine.jsonl", "root=new")
    assert code == 2
    assert "1 videos of your own wait to be read (file:film.mp4 first); name their folder with source=" in err


def test_kokoni_without_a_network(wnv_data: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = (CONF / "sources" / "kokoni.yaml").read_text(encoding="utf-8")
    (tmp_path / "conf" / "sources").mkdir(parents=True)
    (tmp_path / "conf" / "sources" / "kokoni.yaml").write_text(
        published.replace("https://raw.githubusercontent.com", CLOSED), encoding="utf-8"
    )
    monkeypatch.setattr(data_ingest, "files", lambda package: tmp_path / "conf")
    (tmp_path / "kokoni").mkdir()  # the root may well have that name
    for arguments in (("run", "root=kokoni"), ("manifest", "out=kokoni.jsonl")):
        code, _, err = wnv_data(*arguments, "source=kokoni", "cache=kept")
        assert code == 2
        assert len(err.splitlines()) == 1
        assert f"{CLOSED}/" in err
        assert "is the network open" in err
        assert "or put static.csv and walk.csv into kept/kokoni yourself" in err
    assert os.listdir(tmp_path / "kokoni") == []


def test_a_manifest_of_a_list(wnv_data: Callable, tmp_path: Path) -> None:
    code, out, _ = wnv_data("manifest", "source=walk.csv", "out=walk.jsonl")
    assert code == 0
    assert out.splitlines()[0] == "walk.jsonl: 1 videos (0 marked segments, 0.0 h) from 1 rows; 0 rows name no video"
    code, _, err = wnv_data("manifest", "source=walk.csv", "out=walk.jsonl")
    assert code == 2
    assert "set overwrite=true to replace it" in err
    assert wnv_data("manifest", "source=walk.csv", "out=walk.jsonl", "overwrite=true")[0] == 0


# ---------------------------------------------------------------- help


def test_help_lists_the_stages_in_the_order_of_the_work(wnv_data: Callable) -> None:
    code, out, _ = wnv_data("--help")
    assert code == 0
    listed = re.findall(r"^  (\w+) ", out, re.MULTILINE)
    assert listed[: len(COMMANDS)] == ["manifest", "run", "fetch", "clip", "pose", "pack", "status", "report"]
    for name in listed:
        assert f"\n            wnv-data {name} " in out


@pytest.mark.parametrize(
    "command", ["run", *(pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS if name != "run")]
)
def test_help_of_a_stage_shows_an_example_and_what_it_reads_and_writes(
    wnv_data: Callable, tmp_path: Path, command: str
) -> None:
    before = sorted(os.listdir(tmp_path))
    code, out, err = wnv_data(command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"wnv-data {command}: ")
    assert f"\nwnv-data {command} " in out
    assert re.search(r"\nReads: .*\.\s+Writes\b", out, re.DOTALL)
    assert ("root: ???" in out) == (command != "manifest")
    assert sorted(os.listdir(tmp_path)) == before


# ---------------------------------------------------------------- the configuration


def _composed(command: str, *overrides: str) -> DictConfig:
    with initialize_config_module("wnv.conf.ingest", version_base="1.3"):
        return compose(command, list(overrides))


def _targets(config: DictConfig, name: str) -> Iterator[tuple[str, DictConfig]]:
    """Every part of a configuration that is an object."""
    if "_target_" in config:
        yield name, config
    for key in config:
        if not OmegaConf.is_missing(config, key) and OmegaConf.is_dict(config[key]):
            yield from _targets(config[key], f"{name}.{key}")


OPTIONS = [
    (file.parent.name, file.stem)
    for file in sorted(CONF.glob("*/*.yaml"))
    if "_target_" in file.read_text() and file.parent.name != "sources" and file.stem != "stage"  # half a file
]


def _overrides(group: str, option: str) -> list[str]:
    custom = ["pose.estimator._target_=wnv.ingest.pose.colmap.ColmapEstimator"] if option == "custom" else []
    return [f"{group}={option}", "root=root", *custom]


@pytest.mark.parametrize(
    ("group", "option"),
    [pytest.param(*found, marks=pytest.mark.slow) if found[1] == "ray" else found for found in OPTIONS],
)
def test_every_object_is_built_and_knows_its_settings(group: str, option: str) -> None:
    if option == "ray":
        pytest.importorskip("ray")
    config = _composed("run", *_overrides(group, option))[group]
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


@pytest.mark.parametrize("group", [*STAGES, "gate", "retries"])
def test_the_configuration_shows_every_setting_with_its_default(group: str) -> None:
    config = _composed("run", "root=root")[group]
    module, _, found = config._target_.rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), found)).parameters.values()
    numbers = {found.name: found.default for found in parameters if isinstance(found.default, int | float)}
    assert {name: config[name] for name in numbers} == numbers


def test_every_value_has_a_comment() -> None:
    bare = []
    for file in sorted(CONF.glob("*/*.yaml")):
        assert file.read_text().startswith("# "), file
    for file in ("root", "listing", "manifest", "report", "status"):
        lines = (CONF / f"{file}.yaml").read_text().splitlines()
        bare += [line for line in lines if re.match(r"\w+: (?!.*#)", line)]
    assert not bare
