"""The LightningModule: training, validation, test and prediction steps."""

import logging
import math
import os
from collections.abc import Callable
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from typing_extensions import override

from wnv.checkpoints.read import CONFIG_KEY, MODEL_PREFIX, read_checkpoint
from wnv.checkpoints.sharded import AVERAGE, MODEL
from wnv.losses.image_loss import ImageLoss
from wnv.metrics.baseline import copy_nearest
from wnv.metrics.image import LEAST_MSE, LPIPS, psnr, ssim
from wnv.models.compile import COMPILE_MODES, compile_network
from wnv.models.konet import KoNet
from wnv.runtime.errors import RunFailed
from wnv.training.lightning_callbacks import check_callbacks
from wnv.training.optim import OPTIMIZERS, make_optimizer, make_schedule
from wnv.training.parts import build_part, check_model, describe_part, loss_terms
from wnv.training.strategies import FullyShardedStrategy, reshard_model
from wnv.types import Batch

log = logging.getLogger(__name__)

_HYPERPARAMETERS = (
    *("optimizer", "lr", "betas", "weight_decay", "warmup_steps", "schedule", "decay_share"),
    *("clip_norm", "skip_norm_factor", "max_skipped_in_a_row", "lpips_backbone", "compile"),
)


class TrainingDiverged(RunFailed):
    """A training has diverged: too many steps were skipped, or rendered images are not finite in two validations."""


class ViewSynthesisModule(L.LightningModule):
    """Train a KoNet to render the target views of a batch from its context views.

    Logs `train/{psnr,lr,grad_norm,skipped_steps}` and the terms of the loss (rank 0's), and
    `val/{loss,psnr,ssim,psnr_copy}` (and `val/lpips` if requested) as means over all scenes. `psnr_copy` is the score
    of copying the context view nearest to each target: a model below it has learned little. `Trainer.test` logs the
    same as `test/*`; `Trainer.predict` returns the rendered images of each batch.

    If on any rank the loss or gradient is not finite, or after the warm-up the gradient norm exceeds
    `skip_norm_factor * clip_norm`, all ranks skip the step (weights and optimiser state stay), count it, and log the
    scenes involved.

    Args:
        model: The network: called as `model(context, target_cameras, target_times)`, with its constructor's arguments
            as `.config`.
        loss: Maps (rendered, truth) to a scalar tensor, or to a dictionary with the scalar to minimise as `loss`, whose
            other entries are logged.
        optimizer: `adamw`, `muon`, or a callable of parameter groups, see `wnv.training.optim.make_optimizer`.
        lr: Peak learning rate; like `betas` and `weight_decay` not passed to the optimiser if None.
        betas: Decay rates of the running means of the gradient and of its square.
        weight_decay: Decoupled weight decay of parameters with two or more axes.
        warmup_steps: Steps of linear warm-up.
        schedule: Of the learning rate after it, `cosine` or `wsd`, see `wnv.training.optim.make_schedule`.
        decay_share: Share of the run over which `wsd` falls to 0.
        clip_norm: Norm to which longer gradients are scaled down.
        skip_norm_factor: Skip steps whose gradient norm exceeds this times `clip_norm` after the warm-up; None for no
            limit.
        max_skipped_in_a_row: Stop the run with an error after this many consecutive skipped steps.
        lpips_backbone: Network for LPIPS in validation, `vgg` or `alex`; None leaves it out.
        compile: What `torch.compile` compiles: `blocks` of the transformer, the whole `model`, or nothing (`off`).
            `auto` is `blocks` on CUDA where Triton is installed, else `off`.

    Raises:
        TypeError: If the model has no `.config`, or the optimiser is neither a name nor a callable.
        ValueError: If a number is out of range, or there is no optimiser of that name.
        ImportError: If LPIPS is requested and torchvision is not installed.
    """

    def __init__(
        self,
        *,
        model: KoNet | nn.Module,
        loss: nn.Module,
        optimizer: str | Callable[..., Optimizer] = "adamw",
        lr: float | None = 4e-4,
        betas: tuple[float, float] | list[float] | None = (0.9, 0.95),
        weight_decay: float | int | None = 0.05,
        warmup_steps: int = 3000,
        schedule: str = "cosine",
        decay_share: float | int = 0.2,
        clip_norm: float | int = 1.0,
        skip_norm_factor: float | int | None = 10.0,
        max_skipped_in_a_row: int = 100,
        lpips_backbone: str | None = None,
        compile: bool | str = "auto",
    ) -> None:
        super().__init__()
        check_model(model)
        for name, value in (("lr", lr), ("clip_norm", clip_norm), ("max_skipped_in_a_row", max_skipped_in_a_row)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if skip_norm_factor is not None and skip_norm_factor < 1:
            raise ValueError(f"skip_norm_factor must be at least 1, or null for no limit, got {skip_norm_factor}")
        if isinstance(compile, bool):  # as in configurations of earlier versions
            compile = "model" if compile else "off"
        if compile not in COMPILE_MODES:
            raise ValueError(f"compile must be one of {', '.join(COMPILE_MODES)}, got {compile!r}")
        if isinstance(optimizer, str) and optimizer not in OPTIMIZERS:
            raise ValueError(
                f"optimizer must be one of {', '.join(OPTIMIZERS)}, or a _target_ with _partial_, got {optimizer!r}"
            )
        if not isinstance(optimizer, str) and not callable(optimizer):
            raise TypeError(
                f"optimizer must be a callable of parameter groups (_target_ with _partial_: true), got {optimizer!r}"
            )
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.lr = lr
        self.betas = betas
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.schedule = schedule
        self.decay_share = decay_share
        self.clip_norm = clip_norm
        self.skip_norm_factor = skip_norm_factor
        self.max_skipped_in_a_row = max_skipped_in_a_row
        self.lpips_backbone = lpips_backbone
        self.compile_model = compile
        self.skipped_steps = 0
        self.validated_at_step = -1
        self._lpips = None if lpips_backbone is None else LPIPS(backbone=lpips_backbone)
        self._skipped_in_a_row = 0
        self._batches: list[tuple[tuple[str, ...], Tensor]] = []  # scenes and loss since the last step
        self._grad_norm = torch.zeros(())
        self._lr = 0.0
        self._is_configured = False
        self._group_settings: list[dict[str, Any]] = []
        self._diverged_scenes: list[str] = []  # of this validation, on this rank
        self._num_diverged_validations = 0  # consecutive

    @classmethod
    def load_from_checkpoint(  # pyright: ignore[reportIncompatibleMethodOverride]  its decorator hides the signature
        cls, checkpoint_path: str | os.PathLike, map_location: str | torch.device = "cpu", **parts: Any
    ) -> "ViewSynthesisModule":
        """Rebuild the module of a run, with averaged weights if the run kept an average.

        Model and loss are rebuilt from their classes and their `.config`.

        Args:
            checkpoint_path: A `.ckpt` file, the folder of a sharded checkpoint, or the folder of a run.
            map_location: Device of the weights.
            parts: Arguments of the constructor that replace the saved ones, such as `loss`.

        Raises:
            FileNotFoundError: If there is no checkpoint.
            ValueError: If the checkpoint is damaged, or a part cannot be rebuilt.
        """
        checkpoint = read_checkpoint(checkpoint_path)
        saved = dict(checkpoint.get("hyper_parameters", {}))
        if saved.get("optimizer") not in OPTIMIZERS:
            saved.pop("optimizer", None)  # a custom one: only a training needs it
        # Older checkpoints hold the configuration of a KoNet alone.
        described = {"model": describe_part(KoNet) | checkpoint[CONFIG_KEY]} | {
            name: saved.pop(name) for name in ("model", "loss") if name in saved
        }
        rebuilt = {name: build_part(part, name=name) for name, part in described.items() if name not in parts}
        arguments: dict[str, Any] = {"loss": ImageLoss(), **saved, **rebuilt, **parts}
        module = cls(**arguments)
        average = {f"{MODEL_PREFIX}{name}": value for name, value in checkpoint.get(AVERAGE, {}).items()}
        module.load_state_dict({**checkpoint[MODEL], **average}, strict=True)
        module.on_load_checkpoint(checkpoint)
        return module.to(map_location)

    @override
    def configure_callbacks(self) -> list[L.Callback]:
        """Check settings of the trainer that would have no effect; no earlier hook knows the trainer.

        Raises:
            ValueError: If the trainer clips gradients itself, or has a callback that changes optimizer or weights.
        """
        check_callbacks(self.trainer.callbacks)  # pyright: ignore[reportAttributeAccessIssue] set by a connector
        if self.trainer.gradient_clip_val is not None:
            raise ValueError(
                f"trainer.gradient_clip_val must not be set, got {self.trainer.gradient_clip_val}; set optim.clip_norm"
            )
        return []

    @override
    def on_fit_start(self) -> None:
        """Check that no checkpoint is saved between the batches of a step, because checkpoints hold no gradients.

        Raises:
            ValueError: If `val_check_interval` is no multiple of `accumulate_grad_batches`, or one is not positive.
        """
        interval, num_batches = self.trainer.val_check_interval, self.trainer.accumulate_grad_batches
        for name, value in (("val_check_interval", interval), ("accumulate_grad_batches", num_batches)):
            if isinstance(value, int) and value < 1:
                raise ValueError(f"trainer.{name} must be at least 1, got {value}")
        if isinstance(interval, int) and self.trainer.limit_val_batches and interval % num_batches:
            raise ValueError(
                "trainer.val_check_interval counts batches and must be a multiple of trainer.accumulate_grad_batches="
                f"{num_batches}, got {interval}; use {-(-interval // num_batches) * num_batches}"
            )

    @override
    def configure_model(self) -> None:
        """Compile and shard the network if requested; Lightning may call this more than once."""
        if self._is_configured:
            return
        self._is_configured = True
        strategy = getattr(self._trainer, "strategy", None)
        if strategy is not None:
            compile_network(self.model, self.compile_model, device_type=strategy.root_device.type)
        if isinstance(strategy, FullyShardedStrategy):
            strategy.precision_plugin.convert_module(self)  # before sharding; Lightning would do so after it
            strategy.shard(cast(KoNet, self.model))

    @override
    def configure_optimizers(self) -> dict[str, Any]:
        """Build the optimiser and its schedule over `trainer.max_steps`.

        Raises:
            ValueError: If the trainer has no `max_steps`.
        """
        max_steps = self.trainer.max_steps
        if max_steps < 1:
            raise ValueError(
                f"trainer.max_steps must be positive, as the learning rate schedule depends on it, got {max_steps}; "
                "set it even if trainer.max_time may end the run earlier"
            )
        optimizer = make_optimizer(
            self.optimizer,
            self.model,
            lr=self.lr,
            betas=self.betas,
            weight_decay=self.weight_decay,
            # A fused optimizer would divide gradients by the loss scale itself, after they are clipped.
            fused=self.device.type == "cuda" and _loss_scale(self.trainer.precision_plugin) == 1,
        )
        scheduler = make_schedule(
            optimizer,
            warmup_steps=self.warmup_steps,
            max_steps=max_steps,
            schedule=self.schedule,
            decay_share=self.decay_share,
        )
        self._group_settings = [
            {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
        ]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    @override
    def on_train_start(self) -> None:
        """Apply this run's optimizer settings and schedule: restoring a checkpoint has set its own."""
        if self.trainer.global_step == 0:
            return
        (optimizer,), (config,) = self.trainer.optimizers, self.trainer.lr_scheduler_configs
        schedule = cast(LambdaLR, config.scheduler)
        schedule.base_lrs = [settings["initial_lr"] for settings in self._group_settings]
        for group, settings, base, factor in zip(
            optimizer.param_groups, self._group_settings, schedule.base_lrs, schedule.lr_lambdas, strict=True
        ):
            group.update(settings)
            group["lr"] = base * factor(schedule.last_epoch)
        schedule._last_lr = [group["lr"] for group in optimizer.param_groups]

    def render(self, batch: Any) -> Tensor:
        """Render the target views of a batch, in float32 unless the weights are float64.

        Raises:
            TypeError: If it is no `Batch`.
            ValueError: If the model returns images of another shape than the targets.
        """
        if not isinstance(batch, Batch):
            raise TypeError(f"the data must yield wnv.types.Batch, got {type(batch).__name__}")
        rendered = self.model(batch.context, batch.target.cameras, batch.target.times)
        if rendered.shape != batch.target.images.shape:
            raise ValueError(
                f"model {type(self.model).__name__} must return images of the targets' shape "
                f"{tuple(batch.target.images.shape)} (scene, view, 3, height, width), got {tuple(rendered.shape)}"
            )
        return rendered

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        rendered, truth = self.render(batch), batch.target.images
        terms = loss_terms(self.loss, rendered, truth)
        for name, value in terms.items():
            value = value.detach() if isinstance(value, Tensor) else value
            self.log(f"train/{name}", value, batch_size=len(batch), prog_bar=name == "loss")
        self.log("train/psnr", _mean_psnr(rendered.detach(), truth), batch_size=len(batch), prog_bar=True)
        data = getattr(self.trainer, "datamodule", None)
        if (share := getattr(data, "skipped_share", None)) is not None:
            self.log("data/skipped_share", share, batch_size=len(batch))
        # Counted here and not after the step, because callbacks may save before this module's later hooks.
        advance = getattr(data, "advance", None)
        if advance is not None:
            advance(len(batch) * self.trainer.world_size)
        loss = terms["loss"]
        self._batches.append((batch.scenes, loss.detach()))
        # A non-finite loss makes the gradient NaN, so that its sum over processes informs all of them.
        return loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan)

    @override
    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient to `clip_norm`, or skip the step.

        Raises:
            TrainingDiverged: If too many consecutive steps were skipped.
        """
        self._lr = optimizer.param_groups[0]["lr"]  # before the schedule advances
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        self._grad_norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        value = float(self._grad_norm)  # waits for the device: whether to skip is decided here
        is_warm = self.trainer.global_step >= self.warmup_steps
        limit = math.inf if self.skip_norm_factor is None or not is_warm else self.skip_norm_factor * self.clip_norm
        if not math.isfinite(value) or value > limit:
            self._skip(parameters, norm=value, limit=limit)
            return
        self._batches.clear()
        self._skipped_in_a_row = 0
        if value > self.clip_norm:
            torch._foreach_mul_(gradients, self.clip_norm / value)

    def _skip(self, parameters: list[nn.Parameter], *, norm: float, limit: float) -> None:
        # All ranks see the same reduced gradient and so decide alike.
        for parameter in parameters:
            parameter.grad = None  # the optimizer skips it: no decay, no moments
        scenes = "; ".join(f"loss {float(loss):g} of {', '.join(names)}" for names, loss in self._batches)
        self._batches.clear()
        scale = _loss_scale(self.trainer.precision_plugin)
        if not math.isfinite(norm) and scale > 1:  # the scaler halves it, until gradients fit into float16
            log.debug("step %d: gradient overflow at loss scale %g", self.trainer.global_step, scale)
            return
        self.skipped_steps += 1
        self._skipped_in_a_row += 1
        log.warning(
            "step %d skipped: gradient norm %g (limit %g), %d skipped so far; rank %d had %s",
            self.trainer.global_step,
            norm,
            limit,
            self.skipped_steps,
            self.trainer.global_rank,
            scenes,
        )
        if self._skipped_in_a_row >= self.max_skipped_in_a_row:
            raise self._diverged(
                f"{self._skipped_in_a_row} consecutive steps had a gradient norm above {limit:g} or not finite, the "
                f"last {norm:g}, with {scenes}",
            )

    def _diverged(self, what: str) -> TrainingDiverged:
        step = self.trainer.global_step
        return TrainingDiverged(
            f"training has diverged at step {step}: {what}; lower optim.lr or increase optim.warmup_steps"
        )

    @override
    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        # Tensors filled on the device: Lightning would copy numbers there, and wait.
        values = {"train/lr": self._lr, "train/skipped_steps": float(self.skipped_steps)}
        filled = {name: torch.full((), value, device=self.device) for name, value in values.items()}
        self.log_dict(filled | {"train/grad_norm": self._grad_norm}, batch_size=len(batch))
        if (batch_idx + 1) % self.trainer.accumulate_grad_batches:
            self.trainer.should_stop = False  # finish the step; trainer.max_time stops the run after it

    @override
    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return {"rendered": self._measure(batch, "val")}

    @override
    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return {"rendered": self._measure(batch, "test")}

    @override
    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.render(batch)

    def _measure(self, batch: Batch, stage: str) -> Tensor:
        """Render a batch and log its metrics: NaN if images are not finite, which does not end the run at once."""
        rendered, truth = self.render(batch), batch.target.images.float()
        names = ["loss", "psnr", "ssim", *([] if self._lpips is None else ["lpips"]), "psnr_copy"]
        if self._is_finite(batch, rendered):
            metrics = {"loss": loss_terms(self.loss, rendered, truth)["loss"], "psnr": psnr(rendered, truth).mean()}
            metrics["ssim"] = ssim(rendered, truth).mean()
            if self._lpips is not None:
                metrics["lpips"] = self._lpips(rendered, truth).mean()
            metrics["psnr_copy"] = psnr(copy_nearest(batch).float(), truth).mean()
        else:
            metrics = {name: torch.full((), math.nan, device=self.device) for name in names}
        for name, value in metrics.items():
            # Weighting batches by their scenes gives the mean over scenes. The weight is a float, because Lightning
            # averages the sums of weights over processes and rounds integers down.
            weight: Any = float(len(batch))
            self.log(f"{stage}/{name}", value, batch_size=weight, on_epoch=True, sync_dist=True)
        return rendered

    def _is_finite(self, batch: Batch, rendered: Tensor) -> bool:
        given = torch.stack([views.images.isfinite().all() for views in (batch.context, batch.target)])
        if bool(given.all() & rendered.isfinite().all()):
            return True
        if bool(given.all()):
            self._diverged_scenes += batch.scenes
        what = "rendered images" if bool(given.all()) else "images of the data"
        log.warning(
            "step %d: %s are not finite, metrics are NaN: %s", self.trainer.global_step, what, ", ".join(batch.scenes)
        )
        return False

    @override
    def on_validation_epoch_end(self) -> None:
        """Note the validation.

        Raises:
            TrainingDiverged: If rendered images were not finite in two consecutive validations of a training.
        """
        self.validated_at_step = self.trainer.global_step
        reshard_model(self.model)
        is_bad = torch.tensor(float(bool(self._diverged_scenes)), device=self.device)
        is_bad = bool(self.trainer.strategy.reduce(is_bad, reduce_op="max"))  # all ranks end together
        scenes, self._diverged_scenes = ", ".join(self._diverged_scenes) or "those of other ranks", []
        if self.trainer.state.fn != TrainerFn.FITTING or self.trainer.sanity_checking:
            return
        self._num_diverged_validations = self._num_diverged_validations + 1 if is_bad else 0
        if self._num_diverged_validations > 1:
            raise self._diverged(
                f"rendered images are not finite in {self._num_diverged_validations} consecutive validations, "
                f"{self.skipped_steps} steps were skipped; scenes {scenes}",
            )

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add plain values from which the module can be rebuilt without its configuration files."""
        checkpoint[CONFIG_KEY] = dict(cast(KoNet, self.model).config)
        checkpoint["skipped_steps"] = self.skipped_steps
        saved = {name: getattr(self, "compile_model" if name == "compile" else name) for name in _HYPERPARAMETERS}
        saved["optimizer"] = self._optimizer_name
        checkpoint["hyper_parameters"] = {
            **saved,
            "model": describe_part(self.model),
            "loss": describe_part(self.loss),
        }

    @property
    def _optimizer_name(self) -> str:
        if isinstance(self.optimizer, str):
            return self.optimizer
        kind = getattr(self.optimizer, "func", self.optimizer)
        names = {kind: name for name, kind in OPTIMIZERS.items()}
        return names.get(kind, f"{kind.__module__}.{kind.__qualname__}")

    def check_optimizer(self, checkpoint: dict[str, Any]) -> None:
        """Check that a checkpoint to resume from holds the state of this optimizer.

        Raises:
            ValueError: If it is that of another one.
        """
        saved = checkpoint.get("hyper_parameters", {}).get("optimizer", self._optimizer_name)
        if saved != self._optimizer_name:
            raise ValueError(
                f"optim.optimizer must stay the same in a resumed run, got {self._optimizer_name} instead of {saved}; "
                "set optim=... back, or start a new run from the weights with init_from="
            )

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._trainer is not None and self.trainer.state.fn == TrainerFn.FITTING:
            self.check_optimizer(checkpoint)
        self.skipped_steps = checkpoint.get("skipped_steps", 0)


def _mean_psnr(rendered: Tensor, truth: Tensor) -> Tensor:
    """Mean of the images' PSNRs, as in validation, but without waiting for the device."""
    dtype = torch.promote_types(rendered.dtype, torch.float32)
    mse = (rendered.to(dtype) - truth.to(dtype)).square().flatten(-3).mean(-1)
    return (-10.0 * mse.clamp_min(LEAST_MSE).log10()).mean()


def _loss_scale(precision: Precision) -> float:
    scaler = getattr(precision, "scaler", None)
    return 1.0 if scaler is None else scaler.get_scale()
