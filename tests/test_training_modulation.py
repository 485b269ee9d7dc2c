import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from zbench.training import LagrangianModulation, exact_multiplier


def gradients(seed: int) -> tuple[np.ndarray, np.ndarray]:
    source = np.random.default_rng(seed)
    return source.normal(size=6), source.normal(size=6)


def as_parameters(flat: np.ndarray) -> list[torch.Tensor]:
    return [torch.tensor(flat[:2]), torch.tensor(flat[2:]).reshape(2, 2)]


@pytest.mark.parametrize("seed", range(8))
def test_exact_multiplier_solves_the_dual(seed: int) -> None:
    erase, preserve = gradients(seed)
    epsilon = 0.05

    def dual(value: np.ndarray) -> float:
        return 0.5 * float(np.sum((erase + value[0] * preserve) ** 2)) + float(value[0]) * epsilon

    expected = minimize(dual, [1.0], bounds=[(0, None)], tol=1e-12).x[0]
    found = exact_multiplier(as_parameters(erase), as_parameters(preserve), epsilon)
    assert found == pytest.approx(expected, abs=1e-4)


def test_both_branches_of_the_dual_occur() -> None:
    found = [exact_multiplier(*map(as_parameters, gradients(seed)), 0.05) for seed in range(8)]
    assert 0.0 in found and max(found) > 0.1


def test_exact_direction_meets_the_constraint_where_it_binds() -> None:
    for seed in range(20):
        erase, preserve = gradients(seed)
        weight = exact_multiplier(as_parameters(erase), as_parameters(preserve), 0.05)
        slack = float((erase + weight * preserve) @ preserve) + 0.05
        assert slack == pytest.approx(0, abs=1e-9) if weight > 0 else slack >= 0


def test_no_preservation_gradient_gives_no_weight() -> None:
    assert exact_multiplier([torch.ones(3)], [torch.zeros(3)], 1e-3) == 0.0


def test_implicit_update_as_written() -> None:
    modulation = LagrangianModulation("implicit", beta=0.1, epsilon=1e-3, learning_rate=1e-2, value=2.0)
    expected = 2.0 - 0.1 * ((0.30 - 0.35) / 1e-2 + 1e-3)
    assert modulation.update_implicit(before=0.30, after=0.35) == pytest.approx(expected)
    assert modulation.value > 2.0, "a rising preservation loss must weigh more"


def test_implicit_multiplier_never_falls_below_zero() -> None:
    modulation = LagrangianModulation("implicit", beta=0.1, epsilon=1e-3, learning_rate=1e-3)
    for _ in range(1000):
        modulation.update_implicit(before=0.1, after=0.1)
    assert modulation.value == 0.0, "unclamped it would be -0.1 here"


def test_upper_clamp() -> None:
    modulation = LagrangianModulation("implicit", 0.1, 1e-3, 1e-3, maximum=5.0)
    assert modulation.update_implicit(before=0.0, after=1.0) == 5.0


def test_fixed_stays_where_it_is() -> None:
    modulation = LagrangianModulation("fixed", 0.1, 1e-3, 1e-3, value=0.7)
    modulation.update_implicit(0.1, 0.5)
    modulation.update_exact([torch.ones(2)], [-torch.ones(2)])
    assert modulation.value == 0.7
