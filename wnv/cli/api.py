"""The commands as Python functions: they take the same overrides, run in this process and raise plain exceptions."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

import wnv.cli.commands  # noqa: F401 registers the resolver of run_dir
from wnv.cli.app import CONFIG_PATH, JobFailed, describe_error, import_function
from wnv.cli.composition import composed
from wnv.cli.explain import explain
from wnv.cli.overrides import readable
from wnv.cli.resume import with_own_overrides
from wnv.cli.schema import check_config

if TYPE_CHECKING:  # each function imports only what its command needs
    from wnv.data.datamodule import ExampleDataModule
    from wnv.evaluation.summary import Summary


def train(
    overrides: Sequence[str] = (), *, run_dir: str | Path | None = None, config_dir: str | Path | None = None
) -> dict[str, float]:
    """Train a model as `wnv-train` does.

    One device trains in this process, several in new ones.

    Args:
        overrides: Groups and settings, such as `experiment=konet_tiny` or `optim.lr=1e-3`.
        run_dir: Folder of the run; None takes the command's default.
        config_dir: Folder of your own configuration files, as `--config-dir`.

    Returns:
        The last value of each metric: `val/psnr`, `train/loss`, ...

    Raises:
        ValueError, TypeError, FileExistsError, ...: For an invalid setting or an occupied folder.
        JobFailed: If a training in new processes failed.
        Stopped: If a signal stopped the run; continue it with `resume=last`.

    Example:
        >>> metrics = wnv.train(["experiment=smoke", "device=cpu"], run_dir="runs/smoke")
        >>> metrics["val/psnr"]
    """
    from wnv.cli import train as command

    words = [overrides] if isinstance(overrides, str) else [*overrides]
    if run_dir is not None:
        words.append(readable(f"run_dir={run_dir}"))
    words = with_own_overrides([readable(word) for word in words])
    with _configured("train", words, config_dir=config_dir) as cfg:
        folder = Path(HydraConfig.get().runtime.output_dir)
        cfg.run_dir = str(folder)
        return command.train_or_start_job(cfg, run_dir=folder, overrides=words, config_dir=config_dir)


def evaluate(overrides: Sequence[str] = ()) -> "Summary":
    """Score weights as `wnv-eval` does, and write the evaluation to `out`.

    Args:
        overrides: Groups and settings, such as `weights=runs/mine` or `protocol=zoom`.

    Returns:
        Means over the scenes: `summary.main.model["psnr"].mean` is the PSNR in dB.

    Raises:
        ValueError, TypeError, FileExistsError, ...: For an invalid setting or an occupied folder.

    Example:
        >>> summary = wnv.evaluate(["weights=konet_tiny", "data.num_val_scenes=16", "out=outputs/tiny"])
        >>> summary.main.model["psnr"].mean
    """
    from wnv.cli import eval as command

    with _configured("eval", overrides) as cfg:
        if cfg.make_index is not None:
            raise ValueError(f"make_index={cfg.make_index} makes no evaluation; use the command wnv-eval")
        Path(HydraConfig.get().runtime.output_dir).mkdir(parents=True, exist_ok=True)
        return command.score(cfg)


def render(overrides: Sequence[str] = ()) -> list[Path]:
    """Render a camera path as `wnv-render` does.

    Args:
        overrides: Groups and settings, such as `scene=fox.zip` or `trajectory=orbit`.

    Returns:
        The written files: video, GIF, contact sheet, and the folder of frames with `write_frames=true`.

    Raises:
        ValueError, TypeError, FileExistsError, ...: For an invalid setting or an existing file.

    Example:
        >>> video, *_ = wnv.render(["scene=synthetic:3", "trajectory=wobble", "out=outputs/wobble"])
    """
    from wnv.cli import render as command

    with _configured("render", overrides) as cfg:
        Path(HydraConfig.get().runtime.output_dir).mkdir(parents=True, exist_ok=True)
        return command.run(cfg)


def ingest(stage: str, overrides: Sequence[str] = ()) -> None:
    """Run a stage of `wnv-data`.

    A video that fails does not raise: its reason is in the ledger, which `ingest("status", ...)` prints.

    Args:
        stage: `run`, `status`, `report`, `import`, ...; see `wnv-data --help`.
        overrides: Settings, such as `source=phone_videos` or `root=mine`.

    Raises:
        ValueError, FileNotFoundError, ...: For an invalid setting or a missing source.

    Example:
        >>> wnv.ingest("run", ["source=phone_videos", "root=mine"])
        >>> wnv.ingest("import", ["format=colmap", "source=captures/fox", "out=scenes"])
    """
    from wnv.cli.data import STAGES

    if stage not in STAGES:
        raise ValueError(f"stage must be one of {', '.join(STAGES)}, got {stage!r}")
    chosen = STAGES[stage]
    with _configured(chosen.config_name, overrides, config_path=chosen.config_path) as cfg:
        with suppress(JobFailed):  # no item succeeded; the ledger has the reasons
            import_function(chosen.task)(cfg)


def open_data(overrides: Sequence[str] = ()) -> "ExampleDataModule":
    """Open the data that `wnv-eval` would score.

    Args:
        overrides: Settings, such as `data=scenes` or `data.root=FOLDER`.

    Returns:
        The data module; its `val_dataset` holds the examples.

    Raises:
        ValueError, FileNotFoundError, ...: For an invalid setting or missing data.

    Example:
        >>> data = wnv.open_data(["data=scenes", "data.root=scenes", "data.image_size=[64,96]"])
        >>> example = data.val_dataset[0]
    """
    from wnv.cli.eval_settings import with_roots

    with _configured("eval", overrides) as cfg:
        return instantiate(with_roots(cfg.data), _convert_="all")


@contextmanager
def _configured(
    config_name: str,
    overrides: Sequence[str] | str,
    *,
    config_path: str = CONFIG_PATH,
    config_dir: str | Path | None = None,
) -> Iterator[DictConfig]:
    """Compose and check a configuration as a command does; errors inside come without Hydra's wrapping."""
    words = [readable(word) for word in ([overrides] if isinstance(overrides, str) else overrides)]
    stack = ExitStack()
    try:
        cfg = stack.enter_context(composed(config_name, words, config_path=config_path, config_dir=config_dir))
    except (HydraException, ValueError) as error:
        flags = [] if config_dir is None else ["--config-dir", str(config_dir)]
        message = explain(error, [*flags, *words], config_path=config_path, config_name=config_name)
        raise ValueError(message or describe_error(error)[1]) from None
    with stack:
        try:
            check_config(cfg)
            yield cfg
        except (HydraException, OmegaConfBaseException) as error:
            cause, message = describe_error(error)
            if isinstance(cause, (HydraException, OmegaConfBaseException)):
                raise ValueError(message) from None
            cause.add_note(message)
            raise cause from None
