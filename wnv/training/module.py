"""What one training step and one validation step are."""

import logging
import math
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from typing_extensions import override

from wnv.metrics.baseline import copy_nearest
from wnv.metrics.image import LPIPS, psnr, ssim
from wnv.models.konet import KoNet
from wnv.training.optim import OPTIMIZERS, make_optimizer, warmup_cosine
from wnv.training.strategies import FullyShardedStrategy, reshard_model
from wnv.types import Batch

log = logging.getLogger(__name__)


class ViewSynthesisModule(L.LightningModule):
    """Trains a KoNet to draw the target views of a batch from its context views.

    Logs `train/{loss,mse,psnr,lr,grad_norm,skipped_steps}` of the first process, and `val/{loss,psnr,ssim,psnr_copy}`
    (`val/lpips` when asked for) as means over all scenes. `psnr_copy` is what copying the context view nearest to each
    target scores; a model below it has learned little.

    A step whose loss or gradient is not finite on any process, or whose gradient is after the warm-up longer than
    `skip_norm_factor * clip_norm`, changes neither weights nor optimiser state on any of them, and is counted; each
    process names its scenes of that step.

    Args:
        model: The network.
        loss: Maps (drawn, truth) to a dictionary with `loss`, which is minimised; its other entries are logged.
        optimizer: `adamw`, or `muon` for the matrices of the blocks with AdamW for the rest.
        lr: Peak learning rate.
        betas: Decay of the running mean of the gradient and of its square.
        weight_decay: Decoupled decay of matrices.
        warmup_steps: Steps in which the learning rate rises to its peak; over the rest it falls to 0 as a cosine.
        clip_norm: Norm that a longer gradient is scaled down to.
        skip_norm_factor: How many times `clip_norm` a gradient may be after the warm-up; None for any finite norm.
        max_skipped_in_a_row: After so many skipped steps one after the other the run stops with an error.
        lpips_backbone: Network of the perceptual distance in validation, `vgg` or `alex`; None leaves it out.
        compile: Compile the network with `torch.compile`.

    Raises:
        ValueError: If a number is out of its range.
        ImportError: If LPIPS is asked for and torchvision is not installed.
    """

    def __init__(
        self,
        *,
        model: KoNet,
        loss: nn.Module,
        optimizer: str = "adamw",
        lr: float = 4e-4,
        betas: tuple[float, float] | list[float] = (0.9, 0.95),
        weight_decay: float | int = 0.05,
        warmup_steps: int = 3000,
        clip_norm: float | int = 1.0,
        skip_norm_factor: float | int | None = 10.0,
        max_skipped_in_a_row: int = 100,
        lpips_backbone: str | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("lr", lr), ("clip_norm", clip_norm), ("max_skipped_in_a_row", max_skipped_in_a_row)):
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if skip_norm_factor is not None and skip_norm_factor < 1:
            raise ValueError(f"skip_norm_factor must be at least 1, or null for no limit, got {skip_norm_factor}")
        if optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {optimizer!r}")
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.lr = lr
        self.betas = tuple(betas)
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.clip_norm = clip_norm
        self.skip_norm_factor = skip_norm_factor
        self.max_skipped_in_a_row = max_skipped_in_a_row
        self.compile_model = compile
        self.skipped_steps = 0
        self.validated_at_step = -1
        self._lpips = None if lpips_backbone is None else LPIPS(backbone=lpips_backbone)
        self._skipped_in_a_row = 0
        self._batches: list[tuple[tuple[str, ...], Tensor]] = []  # scenes and loss, since the last step
        self._grad_norm = 0.0
        self._lr = 0.0
        self._is_configured = False

    @override
    def on_fit_start(self) -> None:
        """See that nothing is saved in the middle of a step, because a checkpoint holds no gradient.

        Raises:
            ValueError: If validation, after which the best is saved, comes between the batches of a step, or a count of
                batches is not positive.
        """
        interval, num_batches = self.trainer.val_check_interval, self.trainer.accumulate_grad_batches
        for name, value in (("val_check_interval", interval), ("accumulate_grad_batches", num_batches)):
            if isinstance(value, int) and value < 1:
                raise ValueError(f"trainer.{name} must be at least 1, got {value}")
        if isinstance(interval, int) and self.trainer.limit_val_batches and interval % num_batches:
            raise ValueError(
                "trainer.val_check_interval counts batches and must be a multiple of trainer.accumulate_grad_batches="
                f"{num_batches}, so that validation comes after a step and not in the middle of one, got {interval}; "
                f"set it to {-(-interval // num_batches) * num_batches}"
            )

    @override
    def configure_model(self) -> None:
        """Shard and compile the network where that is asked for; Lightning may call this more than once."""
        if self._is_configured:
            return
        self._is_configured = True
        strategy = getattr(self._trainer, "strategy", None)
        if isinstance(strategy, FullyShardedStrategy):
            strategy.precision_plugin.convert_module(self)  # before sharding; Lightning would do so after it
            strategy.shard(self.model)
        if self.compile_model:
            self.model.compile()

    @override
    def configure_optimizers(self) -> dict[str, Any]:
        """The optimiser with a warm-up and a cosine over `trainer.max_steps`.

        Raises:
            ValueError: If the trainer has no `max_steps`, or no more than the warm-up.
        """
        max_steps = self.trainer.max_steps
        if max_steps < 1:
            raise ValueError(
                f"trainer.max_steps must be positive, because the learning rate falls to 0 over them, got {max_steps}; "
                "set it, also where trainer.max_time may end the run earlier"
            )
        optimizer = make_optimizer(
            self.optimizer, self.model, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay
        )
        scheduler = warmup_cosine(optimizer, warmup_steps=self.warmup_steps, max_steps=max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def draw(self, batch: Batch) -> Tensor:
        """The target views of a batch as the model draws them, in float32 unless its weights are float64."""
        return self.model(batch.context, batch.target.cameras, batch.target.times)

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        terms = self.loss(self.draw(batch), batch.target.images)
        for name, value in terms.items():
            self.log(f"train/{name}", value.detach(), batch_size=len(batch), prog_bar=name == "loss")
        batch_psnr = -10.0 * terms["mse"].detach().clamp_min(1e-10).log10()
        self.log("train/psnr", batch_psnr, batch_size=len(batch), prog_bar=True)
        # Counted here and not after the step, because Lightning lets callbacks save before this module's later hooks.
        advance = getattr(self.trainer.datamodule, "advance", None)
        if advance is not None:
            advance(len(batch) * self.trainer.world_size)
        loss = terms["loss"]
        self._batches.append((batch.scenes, loss.detach()))
        # A loss that is not finite makes the gradient NaN, whatever the loss function does: the sum of the gradients
        # then tells all processes.
        return loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan)

    @override
    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient to `clip_norm`, or drop it where it is not to be trusted.

        Raises:
            ValueError: If the trainer has a clipping of its own.
            RuntimeError: If too many steps in a row were dropped.
        """
        if gradient_clip_val is not None:
            raise ValueError(
                f"trainer.gradient_clip_val must not be set, got {gradient_clip_val}; set optim.clip_norm instead"
            )
        self._lr = optimizer.param_groups[0]["lr"]  # read here, because the schedule moves on before the batch ends
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        self._grad_norm = float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
        is_warm = self.trainer.global_step >= self.warmup_steps
        limit = math.inf if self.skip_norm_factor is None or not is_warm else self.skip_norm_factor * self.clip_norm
        if not math.isfinite(self._grad_norm) or self._grad_norm > limit:
            self._skip(parameters, limit=limit)
            return
        self._batches.clear()
        self._skipped_in_a_row = 0
        if self._grad_norm > self.clip_norm:
            for gradient in gradients:
                gradient.mul_(self.clip_norm / self._grad_norm)

    def _skip(self, parameters: list[nn.Parameter], *, limit: float) -> None:
        # All processes see the same reduced gradient, so all of them decide alike.
        for parameter in parameters:
            parameter.grad = None  # the optimiser passes over it: no decay, no moments
        self.skipped_steps += 1
        self._skipped_in_a_row += 1
        scenes = "; ".join(f"loss {float(loss):g} of {', '.join(names)}" for names, loss in self._batches)
        self._batches.clear()
        log.warning(
            "step %d skipped: gradient norm %g (limit %g), %d skipped so far; rank %d had %s",
            self.trainer.global_step,
            self._grad_norm,
            limit,
            self.skipped_steps,
            self.trainer.global_rank,
            scenes,
        )
        if self._skipped_in_a_row >= self.max_skipped_in_a_row:
            raise RuntimeError(
                f"training has diverged: {self._skipped_in_a_row} steps in a row had a gradient norm above {limit:g} "
                f"or not finite, the last {self._grad_norm:g}, with {scenes}; lower optim.lr, lengthen "
                "optim.warmup_steps, look at these scenes, or go back to an earlier checkpoint"
            )

    @override
    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        values = {
            "train/lr": self._lr,
            "train/grad_norm": self._grad_norm,
            "train/skipped_steps": float(self.skipped_steps),
        }
        self.log_dict(values, batch_size=len(batch))
        if (batch_idx + 1) % self.trainer.accumulate_grad_batches:
            self.trainer.should_stop = False  # not in the middle of a step; a time that is over is so after it too

    @override
    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Measure one batch; what was drawn is handed to the callbacks."""
        drawn, truth = self.draw(batch), batch.target.images.float()
        metrics = {"loss": self.loss(drawn, truth)["loss"], "psnr": psnr(drawn, truth).mean()}
        metrics["ssim"] = ssim(drawn, truth).mean()
        if self._lpips is not None:
            metrics["lpips"] = self._lpips(drawn, truth).mean()
        metrics["psnr_copy"] = psnr(copy_nearest(batch).float(), truth).mean()
        for name, value in metrics.items():
            # Scenes of a batch have equally many targets: batches weighed by scenes give the mean over scenes. A weight
            # is a float because Lightning averages their sums over processes, and rounds an average of integers down.
            self.log(f"val/{name}", value, batch_size=float(len(batch)), on_epoch=True, sync_dist=True)
        return {"drawn": drawn}

    @override
    def on_validation_epoch_end(self) -> None:
        self.validated_at_step = self.trainer.global_step
        reshard_model(self.model)

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what rebuilds the model from the checkpoint alone."""
        checkpoint["model_config"] = dict(self.model.config)
        checkpoint["skipped_steps"] = self.skipped_steps

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.skipped_steps = checkpoint.get("skipped_steps", 0)
