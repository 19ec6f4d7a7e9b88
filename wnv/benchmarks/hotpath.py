"""Bytes, kernels and memory of a training step, counted on any machine by fake tensors and the compiler's graphs.

Nothing is computed. Compiled graphs are lowered for a CPU, whose fusions are close to those of an accelerator; other
operations count as one kernel each.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typing_extensions import override

from wnv.benchmarks.tables import Table
from wnv.models.compile import COMPILER_OPTIONS, compile_blocks
from wnv.models.konet import KoNet
from wnv.types import Cameras, Views

# Operations that move no bytes.
_FREE = {"alias", "detach", "empty", "empty_like", "empty_strided", "lift_fresh", "new_empty", "_unsafe_view"}


@dataclass
class Counts:
    """What a training step costs.

    Attributes:
        bytes: Bytes that kernels read and write.
        kernels: Kernels.
        saved_bytes: Bytes that the forward pass saves for the backward pass, without the weights.
        graphs: Compiled graphs; a forward and its backward pass are one.
    """

    bytes: int = 0
    kernels: int = 0
    saved_bytes: int = 0
    graphs: int = 0


def run(
    *,
    models: Mapping[str, Mapping[str, Any]],
    batch_size: int = 8,
    image_size: Sequence[int] = (256, 256),
    num_context: int = 2,
    num_target: int = 6,
) -> Table:
    """Count a training step (forward and backward pass in bf16, mean squared error), eager and with compiled blocks.

    Args:
        models: Arguments of `KoNet` per name; `_target_` is ignored.
        batch_size: Scenes.
        image_size: Height and width in pixels.
        num_context: Context views per scene.
        num_target: Target views per scene.
    """
    rows, figures = [], {}
    for name, arguments in models.items():
        build = partial(KoNet, **{key: value for key, value in arguments.items() if key != "_target_"})
        for mode, is_compiled in (("off", False), ("blocks", True)):
            counts = count_step(
                build,
                batch_size=batch_size,
                image_size=image_size,
                num_context=num_context,
                num_target=num_target,
                is_compiled=is_compiled,
            )
            figures[f"{name}, compile={mode}"] = vars(counts)
            amounts = f"{counts.bytes / 1e9:.1f}", f"{counts.kernels}", f"{counts.saved_bytes / 1e9:.2f}"
            rows.append([name, mode, *amounts, f"{counts.graphs}"])
    return Table(
        title=f"A training step of {batch_size} scenes, {num_context} context and {num_target} target views of "
        f"{image_size[0]} x {image_size[1]} px, bf16: counted, not run",
        columns=["model", "compile", "moved, GB", "kernels", "saved for backward, GB", "graphs"],
        rows=rows,
        figures=figures,
    )


def count_step(
    build: Callable[[], KoNet],
    *,
    batch_size: int,
    image_size: Sequence[int],
    num_context: int,
    num_target: int,
    is_compiled: bool,
) -> Counts:
    """Count one step; see `run`.

    Args:
        build: Makes the model.
        batch_size: Scenes.
        image_size: Height and width in pixels.
        num_context: Context views per scene.
        num_target: Target views per scene.
        is_compiled: Count the blocks as they are compiled, else every operation.
    """
    counts = Counts()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = build()
        context, target = (_views(batch_size, number, image_size) for number in (num_context, num_target))
        if is_compiled:
            _compile_blocks(model, counts)
            _count_saved(model, context, target, counts)
            model.transformer.blocks = nn.ModuleList([_NoBlock()])  # the rest is counted below
        else:
            _count_saved(model, context, target, counts)
        with _EagerMeter(counts):
            _forward(model, context, target).backward()
    return counts


class _NoBlock(nn.Module):
    @override
    def forward(self, context: Tensor, target: Tensor, cache: None, **_: Any) -> tuple[Tensor, Tensor, None]:
        """Stand for the blocks: the results depend on all tokens."""
        return context, torch.add(target, context[:, :1, :, :1].detach()), cache


def _views(batch_size: int, number: int, image_size: Sequence[int]) -> Views:
    height, width = image_size
    cameras = Cameras(
        K=torch.eye(3).repeat(batch_size, number, 1, 1),
        camtoworld=torch.eye(4).repeat(batch_size, number, 1, 1),
        width=width,
        height=height,
    )
    shape = (batch_size, number)
    return Views(images=torch.rand(*shape, 3, height, width), cameras=cameras, times=torch.zeros(shape))


def _forward(model: KoNet, context: Views, target: Views) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        images = model(context, target.cameras, target.times)
    return (images - target.images).square().mean()


def _count_saved(model: KoNet, context: Views, target: Views, counts: Counts) -> None:
    """Run a step; count the storages that it saves. Compiled graphs count themselves."""
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    saved: dict[int, Any] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            saved[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = _forward(model, context, target)
    counts.saved_bytes += sum(storage.nbytes() for storage in saved.values())
    loss.backward()


def _compile_blocks(model: KoNet, counts: Counts) -> None:
    # Importing the compiler takes seconds, so only a count does.
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch.partitioners import min_cut_rematerialization_partition
    from torch._inductor.decomposition import select_decomp_table

    torch.compiler.reset()
    backend = aot_autograd(
        fw_compiler=partial(_count_graph, counts=counts, is_forward=True),
        bw_compiler=partial(_count_graph, counts=counts, is_forward=False),
        decompositions=select_decomp_table,
        partition_fn=min_cut_rematerialization_partition,
    )
    compile_blocks(model.transformer.blocks, backend=backend)


def _count_graph(
    graph_module: torch.fx.GraphModule, inputs: Sequence[Any], *, counts: Counts, is_forward: bool
) -> Callable[[list[Any]], Any]:
    """Count a graph's kernels; return a function that adds them at each call."""
    num_bytes, num_kernels = _lower(copy.deepcopy(graph_module), inputs)
    counts.graphs += is_forward

    def call(arguments: list[Any]) -> Any:
        counts.bytes += num_bytes
        counts.kernels += num_kernels
        results = graph_module(*arguments)
        arguments.clear()
        return results

    call._boxed_call = True  # pyright: ignore[reportFunctionMemberAccess]  # how AOTAutograd passes a list
    return call


def _lower(graph_module: torch.fx.GraphModule, inputs: Sequence[Any]) -> tuple[int, int]:
    """Bytes and kernels of a graph after Inductor's passes and fusions."""
    from torch._inductor import config as inductor_config
    from torch._inductor.compile_fx import _recursive_post_grad_passes, fake_tensor_prop, view_to_reshape
    from torch._inductor.debug import DebugContext
    from torch._inductor.graph import GraphLowering
    from torch._inductor.scheduler import NopKernelSchedulerNode
    from torch._inductor.virtualized import V

    view_to_reshape(graph_module)
    fake_mode = next(value.fake_mode for value in inputs if hasattr(value, "fake_mode"))
    with V.set_fake_mode(fake_mode), inductor_config.patch(COMPILER_OPTIONS):
        fake_tensor_prop(graph_module, list(inputs))
        _recursive_post_grad_passes(graph_module, is_inference=False)
        graph = GraphLowering(graph_module, example_inputs=inputs)
        with V.set_debug_handler(DebugContext()), V.set_graph_handler(graph):
            graph.run(*inputs)
            graph._update_scheduler()
            kernels = [node for node in graph.scheduler.nodes if not isinstance(node, NopKernelSchedulerNode)]
            return sum(kernel.get_read_write_buffers_sizes() for kernel in kernels), len(kernels)


class _EagerMeter(TorchDispatchMode):
    """Counts every operation that is not a view."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self._counts = counts

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        returns = func._schema.returns
        is_view = bool(returns) and all(each.alias_info and not each.alias_info.is_write for each in returns)
        if func.namespace != "prim" and not is_view and func.overloadpacket.__name__ not in _FREE:
            read = {id(tensor): tensor for tensor in tree_leaves((args, kwargs))}  # a tensor given twice is read once
            self._counts.bytes += sum(map(_traffic, [*read.values(), *tree_leaves(results)]))
            self._counts.kernels += 1
        return results


def _traffic(value: Any) -> int:
    """Bytes of a tensor that memory moves: axes of stride 0 once."""
    if not isinstance(value, Tensor):
        return 0
    sizes = zip(value.shape, value.stride(), strict=True)
    return value.element_size() * math.prod(size for size, stride in sizes if stride or not size)
