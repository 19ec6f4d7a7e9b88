"""wnv's assumptions about torch_npu, checked against the real one over stub libraries of CANN.

Nothing is computed, since there is no NPU. The wheel is not installed, because it would break `import torch` in other
tests. Set the variable to a wheel, or to a folder with an unpacked one, to run these tests (else they are skipped):

    pip download --no-deps --dest /tmp torch-npu==2.13.0    # 43 MB; the release that goes with the torch of this folder
    WNV_TORCH_NPU=/tmp/torch_npu-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl make test ARGS=tests/npu_wheel
"""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FAKE = ROOT / "tests" / "fake_npu"

MANNERS = """
import json, sys
import torch, torch_npu
import torch.distributed as dist
from torch_npu._C._distributed_c10d import ProcessGroupHCCL

sys.path.insert(0, HERE)
import kernel_table

group = ProcessGroupHCCL(dist.HashStore(), 0, 1, ProcessGroupHCCL.Options())
print(json.dumps({
    "backends": dist.Backend.default_device_backend_map,
    "names": dir(torch.npu),
    "stream": issubclass(torch.npu.Stream, torch.Stream),
    "splits": group.supports_splitting,
    "table": kernel_table.header().splitlines() + kernel_table.operators_without_kernel(),
    "autocast": sorted(kernel_table.operators_with("AutocastPrivateUse1")),
    "attention": "aten::scaled_dot_product_attention" in kernel_table.operators_with("PrivateUse1"),
}))
"""

DEVICES = """
import json, logging
from wnv.runtime.device import resolve_device

warned = []
handler = logging.Handler()
handler.emit = lambda record: warned.append(record.getMessage())
logging.getLogger("wnv").addHandler(handler)
logging.basicConfig(level=logging.INFO)

def refusal():
    try:
        resolve_device("npu")
    except ValueError as error:
        return str(error)

print(json.dumps({"auto": resolve_device("auto").type, "warned": warned, "npu": refusal()}))
"""


@pytest.fixture(scope="module")
def stub_cann() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stub_cann", HERE / "stub_cann.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if (reason := module.why_not()) is not None:
        (pytest.fail if module.VARIABLE in os.environ else pytest.skip)(reason)
    return module


@pytest.fixture(scope="module")
def run(stub_cann: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess]:
    """Runs Python with torch_npu as if installed: over `stub` libraries, over `half` of CANN, or with `no` library."""
    folder = tmp_path_factory.mktemp("wheel")

    def run(*arguments: str, cann: str = "stub", **variables: str) -> subprocess.CompletedProcess[str]:
        environment = stub_cann.environment(has_libraries=cann != "no") | variables
        if cann == "half":  # the toolkit is found, its operators are not
            environment["ASCEND_HOME_PATH"] = str(folder)
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def seen(run: Callable) -> dict:
    done = run("-c", MANNERS.replace("HERE", repr(str(HERE))))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_its_process_group_is_hccl_which_cannot_split(seen: dict) -> None:
    """The reason why `FullyShardedStrategy` unbinds the group of all processes from its device."""
    assert seen["backends"]["npu"] == "hccl"
    assert seen["splits"] is False


def test_it_has_every_name_that_wnv_asks_for(seen: dict) -> None:
    asked = {name for path in (ROOT / "wnv").rglob("*.py") for name in npu_names(ast.parse(path.read_text()))}
    assert {"is_available", "set_device", "device_count", "empty_cache", "memory_stats", "Stream", "stream"} <= asked
    assert asked <= {*seen["names"]}
    assert seen["stream"], "the simulated one's is one of torch's too"


def test_the_simulated_one_has_no_name_that_it_lacks(seen: dict) -> None:
    tree = ast.parse((FAKE / "torch_npu.py").read_text())
    function = next(node for node in tree.body if getattr(node, "name", "") == "_device_module")
    offered = {
        node.attr
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.value.id == "module"
    }
    assert "memory_stats" in offered
    assert offered - {"num_calls"} <= {*seen["names"]}


def test_the_committed_operators_are_those_it_has_no_kernel_for(seen: dict) -> None:
    committed = (FAKE / "no_npu_kernel_ops.txt").read_text().splitlines()
    # The head of the list names its source; wheels for other machines have the same operators.
    assert committed[2:] == seen["table"][2:], "regenerate it with tests/npu_wheel/kernel_table.py"
    assert [line.split("(")[0] for line in committed[:2]] == [line.split("(")[0] for line in seen["table"][:2]]


def test_the_simulated_one_casts_what_it_casts(seen: dict) -> None:
    left_out = {
        *re.findall(r'"(aten::\w+)"', (FAKE / "device.cpp").read_text().split("kNotListed = {")[1].split("}")[0])
    }
    header = (Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h").read_text()
    header = header.split("#define AT_FORALL_LOWER_PRECISION_FP")[1].replace("ADD_NS(norm)", "norm")
    listed = {f"aten::{name}" for name in re.findall(r"^  _\((\w+)", header, re.MULTILINE)}
    assert {"aten::linear", "aten::layer_norm", "aten::rms_norm"} <= listed
    assert listed - {name.split(".")[0] for name in seen["autocast"]} == left_out & listed
    assert len(left_out) == 15


def test_attention_has_a_kernel_of_its_own_and_autocast_lowers_it(seen: dict) -> None:
    assert seen["attention"]
    assert {"aten::scaled_dot_product_attention", "aten::linear", "aten::matmul"} <= {*seen["autocast"]}
    assert "aten::rms_norm" not in seen["autocast"], "then `HeadNorm` could be torch's own"


@pytest.mark.parametrize(
    ("cann", "reason"),
    [
        pytest.param("stub", "finds no Ascend NPU here (check npu-smi info, and ASCEND_RT_VISIBLE_DEVICES)", id="stub"),
        pytest.param(
            "half",
            "is installed and does not load (ASCEND_OPP_PATH environment variable is not set",
            id="half",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "no",
            "is installed and does not load (libhccl.so: cannot open shared object file",
            id="no",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_why_there_is_no_npu_is_said_and_auto_passes_over_it(run: Callable, cann: str, reason: str) -> None:
    done = run("-c", DEVICES, cann=cann, TORCH_DEVICE_BACKEND_AUTOLOAD="0")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["npu"].startswith(f"device=npu: torch_npu {reason}")
    assert seen["npu"].endswith("; set device=cpu, or device=auto")
    assert seen["auto"] == "cpu"
    assert len(seen["warned"]) == 1
    assert seen["warned"][0].startswith(f"device=auto: cpu, passing over NPUs: torch_npu {reason}")
    assert "get env" not in done.stderr, "torch_npu logs variables that are read, with what may be keys"


@pytest.mark.slow
def test_commands_need_no_cann_where_no_npu_is_asked_for(run: Callable) -> None:
    """By default torch loads torch_npu, and then cannot be imported."""
    assert "Failed to load the backend extension: torch_npu" in run("-c", "import torch", cann="no").stderr
    train = ["-m", "wnv.cli.train", "experiment=smoke", "trainer.max_steps=2", "optim.warmup_steps=1"]
    done = run(*train, "device=cpu", "run_dir=run", cann="no")
    assert done.returncode == 0, done.stderr
    assert "torch_npu" not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("cann", ["stub", "half", "no"])
def test_commands_refuse_an_npu_that_is_not_there_on_one_line(run: Callable, cann: str) -> None:
    quiet = ["hydra/job_logging=none", "hydra/hydra_logging=none"]
    done = run("-m", "wnv.cli.render", "device=npu", "weights=konet_tiny", "scene=synthetic:1", *quiet, cann=cann)
    assert done.returncode == 2
    assert done.stderr.startswith("wnv-render: error: device=npu: torch_npu ")
    assert done.stderr.endswith("; set device=cpu, or device=auto\n")
    assert done.stderr.count("\n") == 1


def npu_names(tree: ast.AST) -> Iterator[str]:
    """Names that a file uses of `torch.npu`, or of the result of `device_module`."""
    assigned = {
        node.targets[0].id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and _is_device_module(node.value)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        is_assigned = isinstance(node.value, ast.Name) and node.value.id in assigned
        if is_assigned or _is_device_module(node.value) or ast.unparse(node.value) == "torch.npu":
            yield node.attr


def _is_device_module(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "device_module"
