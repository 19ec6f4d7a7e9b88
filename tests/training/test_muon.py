import pytest
import torch
from torch import nn

from wnv.models.konet import KoNet
from wnv.training.muon import Muon, orthogonalize
from wnv.training.optim import make_optimizer


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (3, 5, 8)])
def test_orthogonalize_keeps_singular_vectors_and_evens_singular_values(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, vt = torch.linalg.svd(matrices, full_matrices=False)
    core = u.mT @ orthogonalize(matrices) @ vt.mT
    values = core.diagonal(dim1=-2, dim2=-1)
    assert values.min() > 0.6
    assert values.max() < 1.3
    torch.testing.assert_close(core, torch.diag_embed(values), rtol=0, atol=1e-4)


def test_a_step_equals_the_written_out_update():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(4, 6, dtype=torch.float64))
    before = weight.detach().clone()
    optimizer = Muon([{"params": [weight], "orthogonal": True}], lr=0.1, betas=(0.9, 0.95), weight_decay=0.5)
    mean = torch.zeros_like(before)
    expected = before
    for _ in range(3):
        gradient = torch.randn(4, 6, dtype=torch.float64)
        weight.grad = gradient.clone()
        optimizer.step()
        mean = 0.9 * mean + 0.1 * gradient
        direction = orthogonalize(0.1 * gradient + 0.9 * mean)
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * 0.2 * 6**0.5 * direction
    torch.testing.assert_close(weight.detach(), expected, rtol=0, atol=1e-6)


def test_other_groups_are_updated_by_adamw():
    def groups(parameters):
        return [{"params": parameters[:1]}, {"params": parameters[1:], "weight_decay": 0.0}]

    torch.manual_seed(0)
    values = [torch.randn(3, 4), torch.randn(5)]
    ours, theirs = ([nn.Parameter(value.clone()) for value in values] for _ in range(2))
    optimizer = Muon(groups(ours), lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    reference = torch.optim.AdamW(groups(theirs), lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    for _ in range(4):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        optimizer.step()
        reference.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_every_parameter_is_in_one_group():
    model = KoNet(dim=32, num_layers=2, num_heads=2, mlp_dim=48, adaln_zero=True)
    optimizer = make_optimizer("muon", model, lr=1e-3, betas=(0.95, 0.95), weight_decay=0.05)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [{names[id(parameter)] for parameter in group["params"]} for group in optimizer.param_groups]
    assert sum(map(len, groups)) == len(names)
    orthogonal, decayed, undecayed = groups
    assert all(name.startswith("transformer.blocks") for name in orthogonal)
    assert {"tokenizer.context.weight", "tokenizer.target.weight", "head.weight"} <= decayed
    assert all("norm" in name or name.endswith("bias") for name in undecayed)


def test_a_restored_optimizer_continues():
    gradients = torch.randn(4, 3, 4, generator=torch.Generator().manual_seed(0))

    def step(optimizer, steps):
        for gradient in gradients[steps]:
            for group, value in zip(optimizer.param_groups, (gradient, gradient[0]), strict=True):
                group["params"][0].grad = value.clone()
            optimizer.step()
        return [group["params"][0] for group in optimizer.param_groups]

    def make(values):
        matrix, vector = (nn.Parameter(value.detach().clone()) for value in values)
        return Muon([{"params": [matrix], "orthogonal": True}, {"params": [vector]}], lr=1e-2)

    initial = [torch.ones(3, 4), torch.ones(4)]
    straight = step(make(initial), slice(0, 4))
    first = make(initial)
    second = make(step(first, slice(0, 2)))
    second.load_state_dict(first.state_dict())
    for found, expected in zip(step(second, slice(2, 4)), straight, strict=True):
        assert torch.equal(found, expected)


def test_parameters_without_a_gradient_stay():
    weight, other = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3))
    Muon([{"params": [weight], "orthogonal": True}, {"params": [other]}], lr=0.1).step()
    assert torch.equal(weight, torch.ones(3, 3))
    assert torch.equal(other, torch.ones(3))


def test_a_vector_in_an_orthogonal_group_is_rejected():
    with pytest.raises(ValueError, match=r"two axes.*\(3,\)"):
        Muon([{"params": [nn.Parameter(torch.ones(3))], "orthogonal": True}], lr=0.1)
