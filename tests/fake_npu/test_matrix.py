"""Strategies and precisions with two processes, on the CPU and on the simulated NPU: the same gradients everywhere."""

from pathlib import Path

import pytest
import torch
from together import free_ports, run_together

pytestmark = [pytest.mark.slow, pytest.mark.fake_npu]

CASES = {
    "cpu": [  # which does not train in fp16
        *("ddp-fp32", "fsdp-fp32", "ddp-bf16", "fsdp-bf16", "ddp-bf16_true", "fsdp-bf16_true"),
        *("fsdp_grad-fp32", "fsdp_hybrid-fp32"),
    ],
    "npu": [
        *("ddp-fp32", "ddp-bf16", "ddp-fp16", "ddp-bf16_true"),
        *("fsdp-fp32", "fsdp-bf16", "fsdp-fp16", "fsdp-bf16_true"),
        *("fsdp_grad-bf16", "fsdp_hybrid-bf16", "fsdp_offload-fp32", "fsdp_offload-fp16"),
    ],
}
PRODUCTS = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "bf16_true": torch.bfloat16,
}
# Largest distance from the float32 gradient of data parallel CPUs, as a share of that gradient's length.
SHARES = {"fp32": 1e-6, "bf16": 1e-2, "fp16": 2e-3, "bf16_true": 1e-2}
ALL = [(device, case) for device, cases in CASES.items() for case in cases]


@pytest.fixture(scope="module")
def records(npu_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], list]:
    folder = tmp_path_factory.mktemp("matrix")
    found = {}
    for device, cases in CASES.items():
        (folder / device).mkdir()
        arguments = [
            f"{case.replace('-', ':')}:{port}" for case, port in zip(cases, free_ports(len(cases)), strict=True)
        ]
        program = Path(__file__).with_name("train_matrix.py")
        run_together(program, [device, str(folder / device), *arguments], environment=npu_environment)
        for case in cases:
            found[device, case] = [
                torch.load(folder / device / f"{case}.{rank}.pt", weights_only=True) for rank in (0, 1)
            ]
    return found


def flat(gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([gradient.flatten() for _, gradient in sorted(gradients.items())])


@pytest.mark.parametrize(("device", "case"), ALL)
def test_gradients_are_those_of_data_parallel_cpus(records: dict, device: str, case: str) -> None:
    """Gradients are compared, not losses: with Adam the loss does not reveal a gradient of twice the size."""
    expected = records["cpu", "ddp-fp32"][0]["gradients"]
    for record in records[device, case]:
        assert record["gradients"].keys() == expected.keys()
        difference = (flat(record["gradients"]) - flat(expected)).norm() / flat(expected).norm()
        assert difference < SHARES[case.split("-")[1]]
        assert {"val/psnr", "val/ssim", "train/loss"} <= record["metrics"].keys()


@pytest.mark.parametrize(("device", "case"), ALL)
def test_the_network_computes_in_the_format_that_was_asked_for(records: dict, device: str, case: str) -> None:
    strategy, precision = case.split("-")
    for record in records[device, case]:
        assert record["at"] == device
        assert record["product"] == str(PRODUCTS[precision])
        # Sharded weights are gathered in the dtype of the products; the shards keep theirs.
        own = torch.bfloat16 if precision == "bf16_true" else torch.float32
        assert record["weight"] == str(own if strategy == "ddp" else PRODUCTS[precision])
        assert record["maps"] == {"torch.float32"}, "cameras must not be rounded"
        for tensors in (record["weights"], record["gradients"]):
            assert {tensor.dtype for tensor in tensors.values()} == {own}


@pytest.mark.parametrize("case", [case for case in CASES["npu"] if case.endswith("fp16")])
def test_an_overflow_of_one_number_is_passed_over_by_both_processes(records: dict, case: str) -> None:
    for record in records["npu", case]:
        assert record["scale_before"] == 2.0**16
        assert record["scale"] == 2.0**15
        torch.testing.assert_close(record["weights"], record["weights_before"], rtol=0, atol=0)


@pytest.mark.parametrize("case", CASES["npu"])
def test_processes_met_over_hccl(records: dict, case: str) -> None:
    for record in records["npu", case]:
        assert record["backend"].endswith("hccl")
        assert sum(record["num_calls"].values()) > 1000
