from collections.abc import Callable

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError
from torch._utils import ExceptionWrapper

from wnv.cli.app import USER_ERRORS, describe_error, report_errors
from wnv.cli.overrides import readable
from wnv.scenes.schema import SceneError


def raised(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 the test says below what it must be
        call()
    return caught.value


class Wheel:
    def __init__(self, *, radius: float) -> None:
        if radius <= 0:
            raise ValueError(f"radius must be positive,\n   got {radius}")


def build(**options: object) -> object:
    return instantiate(OmegaConf.create({"car": {"wheel": {"_target_": f"{__name__}.Wheel", **options}}}).car)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import SimpleNamespace

    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(Wheel=Wheel))


def test_the_root_cause_is_told_on_one_line_with_the_config_key() -> None:
    error, message = describe_error(raised(lambda: build(radius=-1)))
    assert isinstance(error, ValueError)
    assert message == "radius must be positive, got -1 (config key car.wheel)"


def test_an_argument_that_there_is_not_is_named() -> None:
    error, message = describe_error(raised(lambda: build(diameter=1)))
    assert isinstance(error, TypeError)
    assert "unexpected keyword argument 'diameter' (config key car.wheel)" in message


def test_a_target_that_there_is_not_is_named() -> None:
    cfg = OmegaConf.create({"_target_": "wnv.nowhere.Thing"})
    error, message = describe_error(raised(lambda: instantiate(cfg)))
    assert isinstance(error, USER_ERRORS)
    assert "wnv.nowhere" in message
    assert "\n" not in message


def test_a_missing_value_is_told_with_what_to_set() -> None:
    cfg = OmegaConf.create({"data": {"root": "???"}})
    error, message = describe_error(raised(lambda: cfg.data.root))
    assert isinstance(error, USER_ERRORS)
    assert message == "data.root has no default; set data.root=..."


def test_the_cause_of_a_composition_error_is_told() -> None:
    cause = ConfigKeyError("Key 'foo' is not in struct")
    error = ConfigCompositionException("Could not override 'foo'.")
    error.__cause__ = cause
    assert describe_error(error)[1] == "Could not override 'foo'. (Key 'foo' is not in struct)"


def test_an_error_of_a_loader_process_is_told_without_its_traceback() -> None:
    def load() -> None:
        try:
            raise SceneError("the first")
        except SceneError as error:
            raise SceneError("scene 'a': two are refused:\n  b: of 3 frames\n  c") from error

    try:
        load()
    except SceneError:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 3")
    error, message = describe_error(raised(wrapped.reraise))
    assert isinstance(error, SceneError)
    assert message == "scene 'a': two are refused: b: of 3 frames c"


def test_an_error_without_words_is_told_by_its_type() -> None:
    assert describe_error(ValueError())[1] == "ValueError"


@pytest.mark.parametrize("kind", [ValueError, TypeError, FileNotFoundError, FileExistsError, ImportError])
def test_a_users_mistake_is_one_line_and_exit_code_2(
    kind: type[Exception], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WNV_DEBUG", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)

    def fail() -> None:
        raise kind("width must be even,\ngot 3")

    with pytest.raises(SystemExit) as caught:
        report_errors(fail, prog="wnv-x")
    assert caught.value.code == 2
    assert capsys.readouterr().err == "wnv-x: error: width must be even, got 3\n"


def test_the_traceback_is_there_for_who_asks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WNV_DEBUG", "1")
    with pytest.raises(SystemExit):
        report_errors(lambda: build(radius=0), prog="wnv-x")
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.splitlines()[-1] == "wnv-x: error: radius must be positive, got 0 (config key car.wheel)"


@pytest.mark.parametrize(
    ("words", "line"), [((), "wnv-x: interrupted"), (("at step 3",), "wnv-x: interrupted at step 3")]
)
def test_an_interrupt_is_one_line_and_exit_code_130(
    words: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt(*words)

    with pytest.raises(SystemExit) as caught:
        report_errors(interrupt, prog="wnv-x")
    assert caught.value.code == 130
    assert capsys.readouterr().err == f"\n{line}\n"


@pytest.mark.parametrize("kind", [RuntimeError, KeyError, AssertionError, ZeroDivisionError])
def test_what_no_user_can_mend_keeps_its_traceback(kind: type[Exception]) -> None:
    def fail() -> None:
        raise kind("a fault of the program")

    with pytest.raises(kind, match="a fault of the program"):
        report_errors(fail, prog="wnv-x")


def test_a_fault_inside_a_constructor_is_no_mistake_of_the_users() -> None:
    error = InstantiationException("Error in call to target 'x'\nfull_key: model")
    error.__cause__ = RuntimeError("CUDA out of memory")
    cause, message = describe_error(error)
    assert not isinstance(cause, USER_ERRORS)
    assert message == "CUDA out of memory (config key model)"


def test_a_process_says_which_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    with pytest.raises(SystemExit):
        report_errors(lambda: build(radius=0), prog="wnv-x")
    assert capsys.readouterr().err.endswith("(config key car.wheel) (rank 3)\n")


@pytest.mark.parametrize(
    "value", ["我的视频", "IMG (1).mp4", "it's", 'a "b" \\"c\\', "a#b&c;d", "http://a/b?c=d", "=", "🏠\\", "it's\\\\"]
)
def test_a_value_that_hydra_cannot_read_is_a_text(value: str) -> None:
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
def test_what_hydra_reads_or_should_complain_about_stays_as_it_is(argument: str) -> None:
    assert readable(argument) == argument
