"""Write the operators without a torch_npu kernel to a file; makes tests/fake_npu/no_npu_kernel_ops.txt.

    WNV_TORCH_NPU=torch_npu-....whl python tests/npu_wheel/stub_cann.py python tests/npu_wheel/kernel_table.py \
        tests/fake_npu/no_npu_kernel_ops.txt

They have a CPU kernel, but neither an NPU kernel nor a composite one. An operator is supported if any overload or its
out-of-place form is, because torch derives the others from these.
"""

import platform
import sys
from pathlib import Path

import torch
import torch_npu

COMPOSITES = (
    "CompositeImplicitAutograd",
    "CompositeExplicitAutograd",
    "CompositeExplicitAutogradNonFunctional",
)


def operators_with(key: str) -> set[str]:
    """Names of the operators of aten with a kernel for a dispatch key."""
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    names = torch._C._dispatch_get_all_op_names()
    return {name for name in names if name.startswith("aten::") and has_kernel(name, key)}


def operators_without_kernel() -> list[str]:
    """Sorted operators without an NPU kernel, as defined above."""
    on_npu = {name.split(".")[0] for name in operators_with("PrivateUse1")}
    composed = set().union(*map(operators_with, COMPOSITES))
    left = operators_with("CPU") - operators_with("PrivateUse1") - composed
    return sorted(
        name for name in left if (base := name.split(".")[0]) not in on_npu and base.rstrip("_") not in on_npu
    )


def header() -> str:
    """Comment at the head of the list, with its source and versions."""
    torch_version, npu_version = (module.__version__.split("+")[0] for module in (torch, torch_npu))
    python = ".".join(map(str, sys.version_info[:2]))
    return (
        f"# Operators of torch {torch_version} with a kernel for the CPU, but neither one for the NPU nor a composite "
        "of others, in the dispatch table of\n"
        f"# the torch_npu {npu_version} wheel ({platform.machine()}, Python {python}), imported over stub libraries of "
        "CANN: tests/npu_wheel/kernel_table.py.\n"
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(header() + "\n".join(operators_without_kernel()) + "\n")
