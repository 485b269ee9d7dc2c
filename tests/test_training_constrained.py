"""One constrained step on losses whose gradients are known by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zbench.model.counter import Counter
from zbench.training import ConstrainedStep, LagrangianModulation, alignment, gradients_of

ALPHA, EPSILON = 0.1, 0.01
HESSIAN = torch.tensor([[3.0, 0.5], [0.5, 1.0]])
PULL = torch.tensor([1.0, -2.0])
START = torch.tensor([-0.6, 0.4])


class Toy:
    """L_er = <PULL, theta>, L_pr = theta' HESSIAN theta / 2; `idle` is a parameter that neither touches."""

    def __init__(self, mode: Any, *, every: int = 0, value: float = 0.0, beta: float = 0.1) -> None:
        self.theta, self.idle = nn.Parameter(START.clone()), nn.Parameter(torch.ones(3))
        self.edit: Any = SimpleNamespace(parameters=lambda: [self.theta, self.idle])
        model: Any = SimpleNamespace(counter=Counter())
        self.modulation = LagrangianModulation(mode, beta, EPSILON, ALPHA, value)
        self.step = ConstrainedStep(model, self.edit, self.modulation, every)
        self.probes = 0

    def erase(self) -> dict[str, float]:
        loss = PULL @ self.theta
        loss.backward()  # type: ignore[no-untyped-call]
        return {"erase": loss.item()}

    def preserve(self) -> Tensor:
        self.probes += 1
        return 0.5 * self.theta @ HESSIAN @ self.theta

    def run(self) -> dict[str, float]:
        """One step of plain gradient descent."""
        row = self.step.gradients(self.erase, self.preserve)
        assert self.theta.grad is not None
        self.taken = self.theta.grad.clone()
        with torch.no_grad():
            self.theta -= ALPHA * self.theta.grad
        self.theta.grad = None
        return {**row, **self.step.after_step()}


def test_lambda_weighs_the_preservation_gradient() -> None:
    for value in (0.0, 1.5):
        toy = Toy("fixed", value=value)
        row = toy.run()
        torch.testing.assert_close(toy.taken, PULL + value * HESSIAN @ START)
        assert row["preserve"] == pytest.approx(float(0.5 * START @ HESSIAN @ START))
        assert row["multiplier"] == value and "violation" not in row and toy.probes == 1


def test_the_exact_direction_meets_the_constraint_with_equality_where_it_binds() -> None:
    toy = Toy("exact")
    row = toy.run()
    assert row["multiplier"] > 0 and toy.probes == 1
    assert row["constraint"] == pytest.approx(0, abs=1e-6) and row["violation"] < 1e-6
    assert float(HESSIAN @ START @ toy.taken) == pytest.approx(-EPSILON, abs=1e-6)


def test_the_proxy_is_off_by_the_curvature_along_the_step() -> None:
    """For a quadratic L_pr the Taylor remainder is exact: |g~ - g| = alpha / 2 d' H d."""
    toy = Toy("implicit", every=1, value=0.7)
    row, d = toy.run(), toy.taken
    assert row["constraint"] == pytest.approx(float(HESSIAN @ START @ d) + EPSILON, abs=1e-5)
    error = row["constraint"] - row["constraint_proxy"]
    assert error == pytest.approx(float(ALPHA / 2 * d @ HESSIAN @ d), rel=1e-3)
    assert row["violation"] == max(0.0, -row["constraint_proxy"]) > 0
    assert toy.modulation.value == pytest.approx(0.7 - 0.1 * row["constraint_proxy"])


@pytest.mark.parametrize("mode", ["implicit", "fixed"])
def test_looking_at_gradients_changes_nothing_and_happens_every_so_often(mode: str) -> None:
    plain, watched = Toy(mode, value=0.3), Toy(mode, value=0.3, every=3)
    rows = [(plain.run(), watched.run()) for _ in range(7)]
    assert torch.equal(plain.theta, watched.theta) and watched.idle.grad is None
    assert plain.modulation.value == watched.modulation.value
    assert [step for step, (_, row) in enumerate(rows) if "gradient_cosine" in row] == [0, 3, 6]
    assert watched.probes == plain.probes + 3
    assert all(a.items() <= b.items() for a, b in rows if mode == "implicit")


def test_figures_of_the_gradients() -> None:
    row = Toy("fixed", every=1, value=0.3).run()
    pull, keep = PULL.double(), (HESSIAN @ START).double()
    assert row["erase_gradient_norm"] == pytest.approx(float(pull.norm()), rel=1e-6)
    assert row["preserve_gradient_norm"] == pytest.approx(float(keep.norm()), rel=1e-6)
    cosine = float(pull @ keep / pull.norm() / keep.norm())
    assert row["gradient_cosine"] == pytest.approx(cosine, rel=1e-6)
    assert row["violation"] == max(0.0, -row["constraint"])


def test_a_gradient_that_is_zero_has_no_direction() -> None:
    zero, one = [torch.zeros(2)], [torch.ones(2)]
    assert alignment(zero, one)["gradient_cosine"] == 0.0
    parameter = nn.Parameter(torch.ones(2))
    assert not gradients_of(torch.tensor(3.0), [parameter])[0].any()
    parameter.grad = torch.full((2,), 5.0)
    torch.testing.assert_close(gradients_of(parameter.square().sum(), [parameter])[0], torch.full((2,), 2.0))
    assert torch.equal(parameter.grad, torch.full((2,), 5.0)), "gradients that are there stay"
