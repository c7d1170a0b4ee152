"""Adam that clips as it steps, against PyTorch's own: the same numbers, to rounding."""

from __future__ import annotations

import copy

import pytest
import torch

from moe_trader.fast.adam import ClippingAdam


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(3)


def grouped(parameters):
    """Return a stack of two owners in two blocks, 6 and 4 numbers, and a gate of two parameters."""
    stack, *gate = parameters
    groups = [{"params": [stack], "owners": 2, "blocks": [6, 4]}, {"params": gate, "owners": 1}]
    return ClippingAdam(groups, lr=0.01, eps=1e-5, fused=True)


def fresh(dtype=torch.float32):
    return [torch.nn.Parameter(torch.randn(shape).to(dtype)) for shape in [(10,), (2, 3), (3,)]]


def give(parameters, gradients):
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.to(parameter.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["compiled", "PyTorch's"])
@pytest.mark.parametrize("max_norm", [0.5, 1e3], ids=["clipped", "not clipped"])
def test_a_clipped_step_is_clipping_and_adam(dtype, max_norm):
    ours = fresh(dtype)
    theirs = copy.deepcopy(ours)
    optimizer, adam = grouped(ours), torch.optim.Adam(theirs, lr=0.01, eps=1e-5)
    for number in range(5):
        gradients = [torch.randn(p.shape) * (10.0 if number % 2 else 0.01) for p in ours]
        trained = 2 if number == 3 else 3  # what took no part in the loss stays as it is
        for parameters in (ours, theirs):
            parameters[2].grad = None
            give(parameters[:trained], gradients[:trained])
        norms = optimizer.clipped_step(max_norm)
        torch.nn.utils.clip_grad_norm_(theirs, max_norm)
        adam.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
    first, second = gradients[0][[0, 1, 2, 6, 7]].norm(), gradients[0][[3, 4, 5, 8, 9]].norm()
    gate = torch.cat([gradient.flatten() for gradient in gradients[1:]]).norm()
    expected = torch.stack([first, second, gate]).to(norms.dtype)
    torch.testing.assert_close(norms, expected, rtol=1e-5, atol=1e-7)


def test_its_state_is_adams_and_can_be_loaded():
    ours = fresh()
    optimizer = grouped(ours)
    gradients = [torch.randn(p.shape) for p in ours]
    give(ours, gradients)
    optimizer.clipped_step(1.0)
    other = copy.deepcopy(ours)
    resumed = grouped(other)
    give(other, gradients)
    resumed.clipped_step(1.0)  # a step of its own, which loading has to undo
    for mine, theirs in zip(ours, other, strict=True):
        theirs.data.copy_(mine.data)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, parameters in ((optimizer, ours), (resumed, other)):
        give(parameters, gradients)
        one.clipped_step(1.0)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(ours, other, strict=True))
    state = optimizer.state_dict()["state"][0]
    assert state.keys() == {"step", "exp_avg", "exp_avg_sq"}
    assert state["step"] == 2


def test_a_gradient_that_is_no_number_is_seen():
    parameters = fresh()
    optimizer = grouped(parameters)
    give(parameters, [torch.full(p.shape, torch.nan) for p in parameters])
    assert optimizer.clipped_step(1.0).isnan().all()
    assert all(p.isnan().all() for p in parameters)
