"""Errors of commands, and arguments that are rewritten for Hydra."""

import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError
from torch._utils import ExceptionWrapper

from wnv.cli.app import USER_ERRORS, JobFailed, Stopped, describe_error, report_errors
from wnv.cli.overrides import readable
from wnv.scenes.schema import SceneError


class Wheel:
    def __init__(self, *, radius: float) -> None:
        if radius <= 0:
            raise ValueError(f"radius must be positive,\n   got {radius}")


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(Wheel=Wheel))
    for name in ("WNV_DEBUG", "RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)


def build(**options: object) -> object:
    return instantiate(OmegaConf.create({"car": {"wheel": {"_target_": f"{__name__}.Wheel", **options}}}).car)


def raised(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 the test checks the type
        call()
    return caught.value


def fail(error: BaseException) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: build(radius=-1), ValueError, ["radius must be positive, got -1", "car.wheel"]),
        (lambda: build(diameter=1), TypeError, ["diameter", "car.wheel"]),
        (lambda: instantiate(OmegaConf.create({"_target_": "wnv.nowhere.Thing"})), USER_ERRORS, ["wnv.nowhere"]),
        (lambda: OmegaConf.create({"data": {"root": "???"}}).data.root, USER_ERRORS, ["data.root", "data.root="]),
        (lambda: open("/no such file"), FileNotFoundError, ["/no such file"]),
        (fail(ValueError()), ValueError, ["ValueError"]),
    ],
)
def test_the_root_cause_is_one_line(call: Callable, kind: type[Exception], words: list[str]) -> None:
    error, message = describe_error(raised(call))
    assert isinstance(error, kind)
    assert "\n" not in message
    assert all(word in message for word in words)


def test_causes_of_hydras_errors() -> None:
    error = ConfigCompositionException("Could not override 'foo'.")
    error.__cause__ = ConfigKeyError("Key 'foo' is not in struct")
    assert "not in struct" in describe_error(error)[1]
    error = InstantiationException("Error in call to target 'x'\nfull_key: model")
    error.__cause__ = RuntimeError("CUDA out of memory")
    cause, message = describe_error(error)
    assert not isinstance(cause, USER_ERRORS)
    assert message == "CUDA out of memory (config key model)"


def test_an_error_of_a_loader_process_has_no_traceback() -> None:
    try:
        try:
            raise SceneError("the first")
        except SceneError as error:
            raise SceneError("scene 'a': two are invalid:\n  b: of 3 frames\n  c") from error
    except SceneError:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 3")
    error, message = describe_error(raised(wrapped.reraise))
    assert isinstance(error, SceneError)
    assert message == "scene 'a': two are invalid: b: of 3 frames c"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        *(
            (kind("width must be even,\ngot 3"), 2, "wnv-x: error: width must be even, got 3\n")
            for kind in (ValueError, TypeError, FileNotFoundError, FileExistsError, ImportError)
        ),
        (JobFailed("job 3", code=7), 7, "wnv-x: error: job 3\n"),
        (KeyboardInterrupt(), 130, "\nwnv-x: interrupted\n"),
        (KeyboardInterrupt("at step 3"), 130, "\nwnv-x: interrupted at step 3\n"),
        (Stopped("by SIGTERM"), 75, "wnv-x: stopped by SIGTERM\n"),
        (Stopped("by SIGTERM", is_silent=True), 0, ""),
    ],
)
def test_exit_codes(error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        report_errors(fail(error), prog="wnv-x")
    assert caught.value.code == code
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("kind", [RuntimeError, KeyError, AssertionError, ZeroDivisionError])
def test_a_bug_keeps_its_traceback(kind: type[Exception]) -> None:
    with pytest.raises(kind, match="a bug"):
        report_errors(fail(kind("a bug")), prog="wnv-x")


def test_traceback_and_rank(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WNV_DEBUG", "1")
    monkeypatch.setenv("LOCAL_RANK", "3")
    with pytest.raises(SystemExit):
        report_errors(lambda: build(radius=0), prog="wnv-x")
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("(rank 3)\n")


@pytest.mark.parametrize(
    "value", ["我的视频", "IMG (1).mp4", "it's", 'a "b" \\"c\\', "a#b&c;d", "http://a/b?c=d", "=", "🏠\\", "it's\\\\"]
)
def test_a_value_outside_hydras_grammar_is_text(value: str) -> None:
    override = OverridesParser.create().parse_override(readable(f"data.root={value}"))
    assert override.key_or_group == "data.root"
    assert override.value() == value


def test_a_list_of_such_values_is_a_list() -> None:
    override = OverridesParser.create().parse_override(readable("keys=[file:泰.mp4, bv:BV1:p1,url:http://a?b=c,3]"))
    assert override.value() == ["file:泰.mp4", "bv:BV1:p1", "url:http://a?b=c", 3]


@pytest.mark.parametrize(
    "argument",
    ["a=1", "a=[1,2]", "~a", "+a={b: c}", "a=x,y", "--help", "a=my videos", "a=[1", 'a="x', "a={我", "我", "a="],
)
def test_other_arguments_stay_unchanged(argument: str) -> None:
    assert readable(argument) == argument


def test_groups_may_be_null_and_debug_nan() -> None:
    assert readable("experiment=null") == "~experiment"
    assert OverridesParser.create().parse_override(readable("debug=nan")).value() == "nan"
