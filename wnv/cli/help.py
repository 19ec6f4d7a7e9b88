"""`--help`: the settings and groups of one command, with the comments of the YAML files."""

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from wnv.cli.composition import composed

_COLUMN = 44
_WIDTH = min(max(shutil.get_terminal_size((110, 40)).columns, 80), 130)
_FLAGS = """Flags:
  -m, --multirun     one run per combination of values: KEY=A,B
  --config-dir DIR   folder of your own configuration files; its groups are listed here too
  --cfg job          print the configuration and exit
  --version          print the version and exit
  --hydra-help       flags of Hydra"""


def help_text(arguments: Sequence[str], *, prog: str, config_path: str, config_name: str) -> str:
    """Return the help of a command, with the overrides among its arguments applied.

    Args:
        arguments: The command line.
        prog: Name of the command.
        config_path: Package of the primary configuration.
        config_name: Primary configuration.
    """
    typed = get_args_parser().parse_known_args([*arguments])[0]
    with composed(
        config_name, typed.overrides, config_path=config_path, config_dir=typed.config_dir, is_run=False
    ) as cfg:
        settings = OmegaConf.to_container(cfg, resolve=False)
        header = HydraConfig.get().help.header
        choices = {key: value for key, value in HydraConfig.get().runtime.choices.items() if "hydra/" not in key}
        comments = read_comments(HydraConfig.get())
        loader: Any = GlobalHydra.instance().config_loader()
        groups = [*_group_lines(choices, loader, _group_comments(_read(loader, config_name)))]
    assert isinstance(settings, dict)
    trainer = settings.get("trainer")
    if isinstance(trainer, dict) and "_target_" not in trainer:  # what device= sets
        del settings["trainer"]
    parts = [header.strip(), f"Usage: {prog} [GROUP=NAME ...] [KEY=VALUE ...] [FLAGS]"]
    heading = "Settings (KEY=VALUE, nested ones as A.B=VALUE; ??? must be set):"
    parts.append("\n".join([heading, *_lines(settings, comments)]))
    if groups:
        parts.append("\n".join(["Groups (GROUP=NAME):", *groups]))
    return "\n\n".join([*parts, _FLAGS])


def read_comments(described: Any) -> dict[str, str]:
    """Return the comment of every setting of a composed configuration.

    Args:
        described: What `HydraConfig` holds.
    """
    loader: Any = GlobalHydra.instance().config_loader()
    words = [word for word in described.overrides.task if not word.startswith("hydra.")]
    comments: dict[str, str] = {}
    for item in loader.compute_defaults_list(described.job.config_name, words, RunMode.RUN).defaults:
        if item.config_path is not None and not item.config_path.startswith("hydra/"):
            text = _read(loader, item.config_path)
            comments |= {key: value for key, value in _comments(text, item.package or "").items() if value}
    return comments


def _read(loader: Any, name: str) -> str:
    """Return the text of a configuration file; empty for what is none."""
    result = loader.repository.load_config(name)
    if result is None:
        return ""
    scheme, _, path = result.path.partition("://")
    root = files(path) if scheme == "pkg" else Path(path)
    file = root / f"{name}.yaml"
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _comments(text: str, package: str) -> dict[str, str]:
    """Return the comment of each setting: the end of its line, and the lines of comment that follow or precede it."""
    lines = text.splitlines()
    found: dict[str, str] = {}

    def visit(node: yaml.Node, path: str) -> None:
        if not isinstance(node, yaml.MappingNode):
            return
        for key, value in node.value:
            name = f"{path}.{key.value}".lstrip(".")
            is_block = isinstance(value, (yaml.MappingNode, yaml.SequenceNode)) and not value.flow_style
            mark = key.end_mark if is_block else value.end_mark
            number = mark.line
            if number < len(lines):
                found[name] = lines[number][mark.column :].partition("#")[2].strip()
            if not found.get(name):
                above = key.start_mark.line
                while above > 0 and lines[above - 1].lstrip().startswith("#"):
                    above -= 1
                found[name] = " ".join(line.strip(" #") for line in lines[above : key.start_mark.line]) if above else ""
            visit(value, name)

    node = yaml.compose(text)
    if node is not None:
        visit(node, package)
    header = [line.lstrip("# ") for line in text.partition("\n\n")[0].splitlines() if line.startswith("#")]
    if package and header and not text.startswith("# @package _global_"):
        found.setdefault(package, " ".join(line for line in header if not line.startswith("@package")))
    return found


def _group_comments(text: str) -> dict[str, str]:
    entries = (line.strip(" -").partition("#") for line in text.splitlines() if line.startswith("  - "))
    return {name.split(":")[0].strip(): comment.strip() for name, _, comment in entries}


def _group_lines(choices: dict[str, Any], loader: Any, comments: dict[str, str]) -> Iterator[str]:
    order = [*comments]
    for key, chosen in sorted(choices.items(), key=lambda item: order.index(item[0]) if item[0] in order else 99):
        options = [str(name) for name in loader.get_group_options(key.partition("@")[0])]
        if not options:
            continue
        yield from _line(f"  {key}={'null' if chosen is None else chosen}", comments.get(key, ""))
        yield from textwrap.wrap(", ".join(options), _WIDTH, initial_indent=6 * " ", subsequent_indent=6 * " ")


def _lines(settings: dict[Any, Any], comments: dict[str, str], path: str = "") -> Iterator[str]:
    indent = "  " * (path.count(".") + 2 if path else 1)
    for name, value in settings.items():
        key = f"{path}.{name}".lstrip(".")
        if name in ("_target_", "defaults") and value != "???":
            continue
        if isinstance(value, dict) and value:
            yield from _line(f"{indent}{name}:", comments.get(key, ""))
            yield from _lines(value, comments, key)
        else:
            yield from _line(f"{indent}{name}: {_flow(value)}", comments.get(key, ""))


def _flow(value: Any) -> str:
    if isinstance(value, str):
        return value or '""'
    return yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False).removesuffix("...\n").strip()


def _line(text: str, comment: str) -> Iterator[str]:
    """Yield a line with its comment behind it, wrapped in a column."""
    if not comment:
        yield text
        return
    pieces = textwrap.wrap(comment, max(_WIDTH - _COLUMN - 2, 30))
    if len(text) >= _COLUMN:
        yield text
        text = ""
    yield f"{text:{_COLUMN}}# {pieces[0]}"
    for piece in pieces[1:]:
        yield f"{'':{_COLUMN}}# {piece}"
