import math

import pytest
import torch

from tests.transcription import assert_close, lora_gradients
from zbench.edits import LoraEdit
from zbench.errors import TrainingDivergedError
from zbench.model import Model
from zbench.training import (
    AttentionColumns,
    Meter,
    attention_loss,
    backward,
    joined_traces,
    mean_square,
    take_gradients,
    train,
)


class Towards:
    """Pulls the prediction at one point to a target; `poison` makes that step's loss not a number."""

    def __init__(self, model: Model, poison: int | None = None) -> None:
        self.model, self.poison, self.calls = model, poison, 0
        self.inputs = (
            model.noise([1, 2]),
            torch.tensor([900.0, 300.0]),
            model.encode(["a nude person", "a house"]),
        )
        with torch.no_grad():
            self.target = model.velocity(*self.inputs) + 0.5

    def gradients(self) -> dict[str, float]:
        self.calls += 1
        loss = mean_square(self.model.velocity(*self.inputs), self.target)
        backward(loss)
        return {"loss": math.nan if self.calls - 1 == self.poison else loss.item()}

    def after_step(self) -> dict[str, float]:
        return {"extra": 1.0}


def run(model: Model, edit: LoraEdit, objective: Towards, **settings: object) -> list[dict[str, float]]:
    values = {"steps": 2, "learning_rate": 1e-2, **settings}
    return train(model, edit, objective, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_first_adamw_update_as_written(tiny_model: Model, weight_decay: float) -> None:
    edit, objective = LoraEdit(rank=2, seed=3), Towards(tiny_model)
    with tiny_model.edited(edit):
        start = [parameter.detach().double().clone() for parameter in edit.parameters()]
        objective.gradients()
        gradients = [gradient.double() for gradient in take_gradients(edit.parameters())]
    run(tiny_model, edit, objective, steps=1, weight_decay=weight_decay)
    moved = 0.0
    for parameter, before, gradient in zip(edit.parameters(), start, gradients, strict=True):
        # Bias correction makes the first moments equal to gradient and gradient squared.
        expected = before * (1 - 1e-2 * weight_decay) - 1e-2 * gradient / (gradient.abs() + 1e-8)
        # Where a gradient is at rounding level its sign is noise.
        clear = gradient.abs() > 1e-6
        torch.testing.assert_close(parameter.detach().double()[clear], expected[clear], atol=1e-4, rtol=1e-4)
        moved += float((parameter.detach().double() - before).abs().sum())
    assert moved > 0


def test_training_lowers_the_loss_and_leaves_the_edit_detached(tiny_model: Model) -> None:
    edit, done = LoraEdit(rank=2), []
    trace = run(tiny_model, edit, Towards(tiny_model), steps=6, progress=lambda k, n: done.append((k, n)))
    assert trace[-1]["loss"] < trace[0]["loss"]
    assert [row["step"] for row in trace] == [0, 1, 2, 3, 4, 5]
    assert done == [(k, 6) for k in range(1, 7)]
    assert not edit.attached and trace[0]["extra"] == 1.0 and trace[0]["gradient_norm"] > 0


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_direction_is_what_the_parameters_moved_by(tiny_model: Model, optimiser: str) -> None:
    edit = LoraEdit(rank=2)
    trace = run(tiny_model, edit, Towards(tiny_model), steps=1, optimiser=optimiser, learning_rate=0.5)
    with tiny_model.edited(fresh := LoraEdit(rank=2)):
        pairs = zip(edit.parameters(), fresh.parameters(), strict=True)
        moved = math.sqrt(sum(float((new - old).detach().double().square().sum()) for new, old in pairs))
    assert trace[0]["direction_norm"] == pytest.approx(moved / 0.5, rel=1e-4)
    expected = trace[0]["gradient_norm"] if optimiser == "sgd" else trace[0]["direction_norm"]
    assert trace[0]["direction_norm"] == pytest.approx(expected, rel=1e-4)


def test_a_schedule_scales_the_learning_rate(tiny_model: Model) -> None:
    first, second = LoraEdit(rank=2), LoraEdit(rank=2)
    trace = run(tiny_model, first, Towards(tiny_model), optimiser="sgd", schedule=lambda step: 1 / (step + 1))
    run(tiny_model, second, Towards(tiny_model), optimiser="sgd", steps=1)
    run_half = run(tiny_model, second, Towards(tiny_model), optimiser="sgd", steps=1, learning_rate=5e-3)
    for left, right in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(left, right)
    assert trace[1]["direction_norm"] == pytest.approx(run_half[0]["direction_norm"])


def test_divergence_is_named_and_leaves_the_model_clean(tiny_model: Model) -> None:
    edit = LoraEdit(rank=2)
    with pytest.raises(TrainingDivergedError, match="loss is nan at step 1"):
        run(tiny_model, edit, Towards(tiny_model, poison=1), steps=3)
    assert not edit.attached


def test_evaluations_are_counted_and_preparation_is_spread(tiny_model: Model) -> None:
    meter, edit = Meter(tiny_model), LoraEdit(rank=2)
    trace = run(tiny_model, edit, Towards(tiny_model), steps=4, meter=meter)
    assert [row["evaluations"] for row in trace] == [2.0] * 4
    assert [row["evaluations_amortised"] for row in trace] == [2.25] * 4
    cost = meter.cost(4)
    assert (cost.forwards, cost.backwards, cost.recomputations, cost.steps) == (5, 4, 0, 4)
    assert cost.evaluations_per_step == 2.25 and cost.seconds > 0 and cost.peak_memory_bytes > 1_000_000


def test_trainings_under_one_meter_are_one_trace(tiny_model: Model) -> None:
    """The second training must not take the first for its own preparation."""
    meter, objective = Meter(tiny_model), Towards(tiny_model)
    traces = [run(tiny_model, LoraEdit(rank=2), objective, steps=n, meter=meter) for n in (2, 4)]
    tiny_model.velocity(*objective.inputs)
    joined = joined_traces(traces, meter.evaluations)
    assert [row["step"] for row in joined] == [0, 1, 2, 3, 4, 5]
    # One evaluation for the target before all steps, one after them, two in each step.
    assert [row["evaluations_amortised"] for row in joined] == pytest.approx([2 + 2 / 6] * 6)
    assert meter.cost(6).evaluations_per_step == joined[-1]["evaluations_amortised"]
    assert [row["loss"] for row in joined] == [row["loss"] for trace in traces for row in trace]


def test_checkpointing_recomputes_to_the_same_gradients(tiny_model: Model) -> None:
    edit = LoraEdit(rank=2)
    inputs = tiny_model.noise([1]), torch.tensor([600.0]), tiny_model.encode(["a nude person"])

    def gradients() -> list[torch.Tensor]:
        with AttentionColumns(tiny_model, [[3, 4]]) as attention:
            live = tiny_model.velocity(*inputs)
            backward(live.square().mean() + attention_loss(attention.masses))
        found = [gradient.clone() for gradient in lora_gradients(edit)]
        take_gradients(edit.parameters())
        return found

    with tiny_model.edited(edit):
        plain, meter = gradients(), Meter(tiny_model)
        tiny_model.transformer.enable_gradient_checkpointing()
        try:
            recomputed = gradients()
        finally:
            tiny_model.transformer.disable_gradient_checkpointing()
    assert meter.cost(1).recomputations == 1 and meter.evaluations == 3
    for left, right in zip(plain, recomputed, strict=True):
        torch.testing.assert_close(left, right, atol=1e-7, rtol=1e-4)
    assert_close(recomputed[1], plain[1].double())


def test_weights_that_leave_the_finite_numbers_are_put_back(tiny_model: Model) -> None:
    edit = LoraEdit(rank=2, seed=3)
    with pytest.raises(TrainingDivergedError, match=r"direction_norm is (inf|nan) at step"):
        run(tiny_model, edit, Towards(tiny_model), learning_rate=3e38, optimiser="sgd", steps=4)
    assert all(bool(tensor.isfinite().all()) for tensor in edit.tensors().values())
