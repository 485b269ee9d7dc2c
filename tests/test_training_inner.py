import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from zbench import training


def values(count: int = 3) -> list[nn.Parameter]:
    source = torch.Generator().manual_seed(7)
    return [nn.Parameter(torch.randn(4, 2, generator=source)) for _ in range(count)]


def test_parameters_come_back_bit_for_bit_and_keep_new_gradients() -> None:
    parameters = values()
    before = [parameter.detach().clone() for parameter in parameters]
    with training.restored(parameters):
        training.polyak_step(parameters, sum((p**2).sum() for p in parameters), 0.5)
        assert not torch.equal(parameters[0], before[0])
        (parameters[0] ** 2).sum().backward()
        there = 2 * parameters[0].detach().clone()
    assert all(torch.equal(p, old) for p, old in zip(parameters, before, strict=True))
    assert parameters[0].grad is not None and torch.equal(parameters[0].grad, there)
    assert parameters[1].grad is None


def test_parameters_come_back_after_an_error() -> None:
    parameters = values()
    before = parameters[0].detach().clone()
    with pytest.raises(RuntimeError, match="stop"), training.restored(parameters):
        training.polyak_step(parameters, (parameters[0] ** 4).sum(), 1.0)
        raise RuntimeError("stop")
    assert torch.equal(parameters[0], before)


@given(st.floats(0.1, 10.0), st.floats(0.05, 1.0), st.floats(-3.0, 3.0).filter(lambda x: abs(x) > 1e-2))
def test_polyak_step_on_a_parabola(curvature: float, share: float, start: float) -> None:
    parameter = nn.Parameter(torch.tensor([start], dtype=torch.float64))
    training.polyak_step([parameter], curvature * (parameter**2).sum(), share)
    assert parameter.item() == pytest.approx((1 - share / 2) * start), "for any curvature"


def test_nothing_to_gain_is_no_step() -> None:
    parameter = nn.Parameter(torch.zeros(3))
    training.polyak_step([parameter], (parameter**2).sum(), 1.0)
    assert torch.equal(parameter, torch.zeros(3))


def test_clipping_bounds_the_joint_norm_and_none_leaves_it() -> None:
    parameters = values(2)
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 3.0)
    training.clip_gradients(parameters, None)
    assert float(parameters[0].grad.max()) == 3.0
    training.clip_gradients(parameters, 1.0)
    assert sum(float(p.grad.square().sum()) for p in parameters) == pytest.approx(1.0, rel=1e-4)
