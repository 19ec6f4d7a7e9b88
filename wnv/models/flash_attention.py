"""PyTorch's flash attention with the logarithm of its softmax sums, which the public function does not return."""

import torch
from jaxtyping import Float
from torch import Tensor

_aten = torch.ops.aten


def has_flash_attention(query: Float[Tensor, "*batch dim"]) -> bool:
    """Whether `flash_attention` supports the device and type of a query."""
    if query.device.type != "cuda":
        return query.device.type == "cpu"
    return (
        query.dtype in (torch.bfloat16, torch.float16)
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= 256
        and torch.backends.cuda.is_flash_attention_available()
        and torch.backends.cuda.flash_sdp_enabled()
        and torch.cuda.get_device_capability(query.device) >= (8, 0)  # Ampere
    )


def flash_attention(
    query: Float[Tensor, "batch head query dim"],
    key: Float[Tensor, "batch head key dim"],
    value: Float[Tensor, "batch head key dim"],
) -> tuple[Float[Tensor, "batch head query dim"], Float[Tensor, "batch head query"]]:
    """Attention and the logarithms of its softmax sums (float32 at least)."""
    if query.device.type == "cpu":
        return _aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)
    return _aten._scaled_dot_product_flash_attention(query, key, value)[:2]


def flash_attention_backward(
    gradient: Float[Tensor, "batch head query dim"],
    query: Float[Tensor, "batch head query dim"],
    key: Float[Tensor, "batch head key dim"],
    value: Float[Tensor, "batch head key dim"],
    attended: Float[Tensor, "batch head query dim"],
    log_sum: Float[Tensor, "batch head query"],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value.

    Args:
        gradient: Gradient of `attended`.
        query: As in the forward pass.
        key: As in the forward pass.
        value: As in the forward pass.
        attended: The output of the whole softmax, of which `key` may be a part.
        log_sum: The logarithms of the sums of the whole softmax.
    """
    tensors = gradient, query, key, value, attended, log_sum
    if query.device.type == "cpu":
        return _aten._scaled_dot_product_flash_attention_for_cpu_backward(*tensors, 0.0, False)
    lengths = None, None, query.shape[-2], key.shape[-2]  # one length per batch, so no offsets
    unused = log_sum.new_zeros(2, dtype=torch.uint64)  # the state of dropout's generator
    return _aten._scaled_dot_product_flash_attention_backward(
        *tensors[:-1], log_sum.contiguous(), *lengths, 0.0, False, unused, unused
    )
