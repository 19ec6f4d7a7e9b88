"""Checks of a composed configuration that need neither torch nor data, so that mistakes are answered at once."""

from collections.abc import Iterator
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from wnv.cli.overrides import did_you_mean, nearest
from wnv.cli.settings import check_setting

_GROUPS = ("data", "model", "loss", "optim", "trainer")
_KINDS = {"seed": int, "resume": str | None, "init_from": str | None, "optimized_metric": str}
_MEASURED = ("loss", "psnr", "psnr_copy", "ssim", "lpips")
METRICS = (*(f"val/{name}" for name in _MEASURED), "train/loss", "train/psnr")
"""Metrics that a run can be judged by, if all of its parts are those of wnv."""


def check_early(cfg: DictConfig) -> None:
    """Check that settings without a default are set, and the settings of a training that no signature describes.

    Raises:
        ValueError: With the setting, its value, and what it must be.
    """
    if "optimized_metric" in cfg:
        for name in _GROUPS:
            if cfg.get(name) is None:
                raise ValueError(f"{name} must be set; choose an option of its group with {name}=NAME")
        for name, kind in _KINDS.items():
            check_setting(name, cfg[name], kind)
    if missing := [key for key in sorted(OmegaConf.missing_keys(cfg)) if not _is_replaced(cfg, key)]:
        raise ValueError(_missing(missing))
    if "optimized_metric" in cfg:
        _check_metrics(cfg)
        _check_combinations(cfg)


def _is_replaced(cfg: DictConfig, key: str) -> bool:
    """Whether `wnv-eval` reads another setting instead: one root of data may serve for the other."""
    if "protocol" not in cfg or key not in ("data.root", "data.val_root"):
        return False
    return any(OmegaConf.select(cfg, f"data.{name}", throw_on_missing=False) for name in ("root", "val_root"))


def _missing(keys: list[str]) -> str:
    from wnv.cli.help import read_comments

    comments = read_comments(HydraConfig.get()) if HydraConfig.initialized() else {}
    lines = [f"{key} ({comments[key]})" if comments.get(key) else key for key in keys]
    example = " ".join(f"{key}=..." for key in keys)
    return f"no default for {', '.join(lines)}; set {example}"


def _check_metrics(cfg: DictConfig) -> None:
    parts = [cfg.module, cfg.loss, *(part for part in (cfg.get("callbacks") or {}).values() if part is not None)]
    if any(not str(part.get("_target_", "wnv.")).startswith("wnv.") for part in parts):
        return  # they may log others
    for key, metric in _named_metrics(cfg):
        if metric not in METRICS:
            near = did_you_mean(nearest(metric, METRICS))
            raise ValueError(f"{key} must be one of {', '.join(METRICS)}, got {metric!r}{near}")
        if metric == "val/lpips" and cfg.module.lpips_backbone is None:
            raise ValueError(f"{key}=val/lpips needs module.lpips_backbone=vgg or alex")


def _check_combinations(cfg: DictConfig) -> None:
    if cfg.trainer.accelerator == "cpu" and cfg.trainer.precision == "16-mixed":
        raise ValueError("precision=fp16 is not supported on a CPU; set precision=bf16, precision=fp32 or device=cuda")


def _named_metrics(cfg: DictConfig) -> Iterator[tuple[str, Any]]:
    yield "optimized_metric", cfg.optimized_metric
    for name, part in (cfg.get("callbacks") or {}).items():
        if part is not None and part.get("monitor") is not None:
            yield f"callbacks.{name}.monitor", part.monitor
