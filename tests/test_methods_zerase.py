import pytest
import torch
from torch import Tensor
from zbench_methods.naive import Naive
from zbench_methods.zerase import EPSILON, ZErase, ZEraseObjective

from tests.transcription import CONCEPT, Reference, assert_close, assert_gradients, lora_gradients, perturb
from zbench.model import Model
from zbench.registry import load_method

SMALL = {
    "steps": 1,
    "batch_size": 3,
    "preserve_batch": 2,
    "trajectories": 4,
    "preserve_trajectories": 4,
    "rank": 2,
    "learning_rate": 0.5,
    "optimiser": "sgd",
    "weight_decay": 0.0,
    "shuffle": 0.5,
}


class Equations:
    """L_er and L_pr of the paper in float64, on the points that the objective is about to draw."""

    def __init__(self, method: ZErase, model: Model, objective: ZEraseObjective, edit: object) -> None:
        self.method, self.model = method, model
        self.reference = Reference(model, rows=method.rows)
        self.reference.adopt(edit)
        source = torch.Generator()
        source.set_state(objective.generator.get_state())
        self.kept = objective.preservation.bank.draw(source, method.preserve_batch)
        self.drawn = objective.points.bank.draw(source, method.batch_size)
        self.prompts = [objective.points.bank.prompts[entry] for entry in self.drawn.entries.tolist()]
        self.preserved = [objective.preservation.bank.prompts[entry] for entry in self.kept.entries.tolist()]

    def erase(self) -> tuple[Tensor, Tensor]:
        """L_erase and L_attn."""
        x, t, c = self.drawn.latents, self.drawn.timesteps, self.model.encode(self.prompts)
        empty = self.model.encode([""] * len(self.prompts))
        v0_c = self.reference.velocity(x, t, c, live=False).detach()
        v0_empty = self.reference.velocity(x, t, empty, live=False).detach()
        v = self.reference.velocity(x, t, c, live=True)
        l_erase = ((v - (v0_empty - self.method.eta * (v0_c - v0_empty))) ** 2).mean()
        return l_erase, self.attended()

    def attended(self) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        rows, start = self.reference.image_rows, self.reference.text_start
        for maps in self.reference.maps.values():
            for sample, prompt in enumerate(self.prompts):
                for phrase in CONCEPT.phrases:
                    for begin, end in self.model.token_span(prompt, phrase):
                        mass = maps[sample, :, :rows, start + begin : start + end].sum(-1)
                        total = total + mass.mean() / len(self.prompts) / len(self.reference.maps)
        return total

    def preserve(self) -> Tensor:
        """L_pr."""
        y, t = self.kept.latents, self.kept.timesteps
        total = torch.zeros((), dtype=torch.float64)
        for prompts in ([""] * len(self.preserved), self.preserved):
            c = self.model.encode(prompts)
            frozen = self.reference.velocity(y, t, c, live=False).detach()
            total = total + ((self.reference.velocity(y, t, c, live=True) - frozen) ** 2).mean()
        return total


@pytest.mark.parametrize("method", [ZErase, Naive], ids=["text rows", "all rows"])
def test_first_update_follows_the_equations(tiny_model: Model, method: type[ZErase]) -> None:
    chosen = method(**SMALL, modulation="fixed", multiplier=0.8)
    edit = chosen.lora()
    objective = ZEraseObjective(chosen, tiny_model, CONCEPT, edit)
    with tiny_model.edited(edit):
        start = {name: factor.detach().double().clone() for name, factor in edit.tensors().items()}
        equations = Equations(chosen, tiny_model, objective, edit)
    erase, attention = equations.erase()
    expected = equations.reference.gradients(erase + attention + 0.8 * equations.preserve())

    erasure = chosen.erase(tiny_model, CONCEPT)
    moved = erasure.edit.tensors()
    downs = [name for name in start if ".lora_A." in name]
    names = [half for down in downs for half in (down, down.replace(".lora_A.", ".lora_B."))]
    steps = [moved[name].detach().double() - start[name] for name in names]
    assert_gradients(steps, [-0.5 * gradient for gradient in expected], 1e-3)
    assert not any(step.any() for step in steps[0::2]), "B is zero, so A does not move yet"
    assert erasure.trace[0]["erase"] == pytest.approx(erase.item(), rel=1e-4)
    assert erasure.trace[0]["attention"] == pytest.approx(attention.item(), rel=1e-4)
    assert erasure.trace[0]["preserve"] == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("method", [ZErase, Naive], ids=["text rows", "all rows"])
@pytest.mark.parametrize("modulation", ["fixed", "exact"])
def test_gradient_away_from_the_start(tiny_model: Model, method: type[ZErase], modulation: str) -> None:
    chosen = method(
        **SMALL, modulation=modulation, multiplier=3.0 if modulation == "fixed" else 0.0, epsilon=1e-3
    )
    edit = chosen.lora()
    objective = ZEraseObjective(chosen, tiny_model, CONCEPT, edit)
    with tiny_model.edited(edit):
        perturb(edit)
        equations = Equations(chosen, tiny_model, objective, edit)
        erase, attention = equations.erase()
        g_er = equations.reference.gradients(erase + attention)
        preserve = equations.preserve()
        g_pr = equations.reference.gradients(preserve)
        inner = sum(float((left * right).sum()) for left, right in zip(g_er, g_pr, strict=True))
        norm = sum(float((right**2).sum()) for right in g_pr)
        weight = 3.0 if modulation == "fixed" else max(0.0, (-inner - 1e-3) / norm)
        figures = objective.gradients()
        assert figures["preserve"] == pytest.approx(preserve.item(), rel=1e-3)
        assert figures["multiplier"] == pytest.approx(weight, rel=1e-2, abs=1e-3)
        expected = [left + weight * right for left, right in zip(g_er, g_pr, strict=True)]
        assert_gradients(lora_gradients(edit), expected, 2e-3)


def test_without_the_erase_term_attention_alone_is_lowered(tiny_model: Model) -> None:
    chosen = ZErase(**SMALL, erase_weight=0, modulation="fixed")
    edit = chosen.lora()
    objective = ZEraseObjective(chosen, tiny_model, CONCEPT, edit)
    with tiny_model.edited(edit):
        perturb(edit)
        equations = Equations(chosen, tiny_model, objective, edit)
        erase, attention = equations.erase()
        figures = objective.gradients()
        assert figures["erase"] == pytest.approx(erase.item(), rel=1e-3), "it is traced all the same"
        assert_gradients(lora_gradients(edit), equations.reference.gradients(attention + 0.0 * erase), 2e-3)


@pytest.mark.parametrize("method", [ZErase, Naive], ids=["text rows", "all rows"])
def test_traced_gradients_are_those_of_the_equations(tiny_model: Model, method: type[ZErase]) -> None:
    chosen = method(**SMALL, modulation="fixed", multiplier=3.0, epsilon=1e-3, trace_gradients=1)
    edit = chosen.lora()
    objective = ZEraseObjective(chosen, tiny_model, CONCEPT, edit)
    with tiny_model.edited(edit):
        perturb(edit)
        equations = Equations(chosen, tiny_model, objective, edit)
        erase, attention = equations.erase()
        g_er = equations.reference.gradients(erase + attention)
        g_pr = equations.reference.gradients(equations.preserve())
        figures = objective.gradients()
        with torch.no_grad():
            for parameter in edit.parameters():
                parameter -= 0.5 * parameter.grad
        figures |= objective.after_step()
    left, right = (torch.cat([gradient.flatten() for gradient in found]) for found in (g_er, g_pr))
    assert figures["erase_gradient_norm"] == pytest.approx(left.norm().item(), rel=1e-3)
    assert figures["preserve_gradient_norm"] == pytest.approx(right.norm().item(), rel=1e-3)
    cosine = (left @ right / left.norm() / right.norm()).item()
    assert figures["gradient_cosine"] == pytest.approx(cosine, rel=1e-2, abs=1e-3)
    constraint = (right @ (left + 3.0 * right)).item() + 1e-3
    assert figures["constraint"] == pytest.approx(constraint, rel=1e-2)


@pytest.mark.parametrize("changed", [{}, {"gradient_checkpointing": True}])
def test_tracing_gradients_changes_no_weight_and_is_not_counted(
    tiny_model: Model, changed: dict[str, object]
) -> None:
    settings = {**SMALL, "steps": 3, "optimiser": "adamw", "weight_decay": 1e-2, "multiplier": 0.5, **changed}
    plain = ZErase(**settings).erase(tiny_model, CONCEPT)
    traced = ZErase(**settings, trace_gradients=2).erase(tiny_model, CONCEPT)
    for name, tensor in plain.edit.tensors().items():
        assert torch.equal(tensor, traced.edit.tensors()[name])
    assert [row["step"] for row in traced.trace if "gradient_cosine" in row] == [0, 2]
    counted = ("forwards", "backwards", "recomputations", "evaluations_per_step")
    assert [getattr(traced.cost, name) for name in counted] == [getattr(plain.cost, name) for name in counted]
    assert all("constraint" in row for row in traced.trace[::2])


def test_exact_modulation_traces_gradients_for_nothing(tiny_model: Model) -> None:
    erasure = ZErase(**{**SMALL, "steps": 2, "modulation": "exact"}).erase(tiny_model, CONCEPT)
    assert all({"gradient_cosine", "constraint", "violation"} <= row.keys() for row in erasure.trace)
    assert [row["evaluations"] for row in erasure.trace] == [4, 4]
    assert erasure.trace[1]["violation"] == pytest.approx(0, abs=1e-4)


def test_preservation_is_probed_on_the_same_points_before_and_after(tiny_model: Model) -> None:
    chosen = ZErase(**{**SMALL, "steps": 2, "modulation": "implicit", "epsilon": 1e-3, "beta": 0.1})
    edit = chosen.lora()
    objective = ZEraseObjective(chosen, tiny_model, CONCEPT, edit)
    with tiny_model.edited(edit):
        perturb(edit)
        before = Equations(chosen, tiny_model, objective, edit)
        figures = objective.gradients()
        assert figures["preserve"] == pytest.approx(before.preserve().item(), rel=1e-3)
        perturb(edit, seed=6)
        before.reference.adopt(edit)
        after = before.preserve().item()
        assert objective.after_step()["preserve_after"] == pytest.approx(after, rel=1e-3)
        proxy = (figures["preserve"] - after) / 0.5 + 1e-3
        assert proxy < 0, (
            "the second perturbation must cost more than the first for this test to mean anything"
        )
        assert objective.modulation.value == pytest.approx(-0.1 * proxy, rel=1e-2)


def test_reference_anchor_replaces_the_empty_prompt(tiny_model: Model) -> None:
    chosen = ZErase(**{**SMALL, "reference": "anchor", "eta": 0.0})
    objective = ZEraseObjective(chosen, tiny_model, CONCEPT, chosen.lora())
    draw = objective.points.bank.draw(torch.Generator().manual_seed(0), 4)
    anchors = [CONCEPT.anchor_prompts[entry % 2] for entry in draw.entries.tolist()]
    with torch.no_grad():
        expected = tiny_model.velocity(draw.latents, draw.timesteps, tiny_model.encode(anchors))
    assert_close(objective.points.reference.at(draw), expected.double(), 1e-4)


def test_miniature_preset_stays_within_ten_evaluations_per_step(tiny_model: Model) -> None:
    preset = ZErase.presets["miniature"]
    sampler_steps, measured = 8, 3
    erasure = ZErase.with_preset("miniature", steps=measured).erase(tiny_model, CONCEPT)
    per_step = max(row["evaluations"] for row in erasure.trace)
    preparation = (
        erasure.cost.forwards + erasure.cost.backwards - sum(row["evaluations"] for row in erasure.trace)
    )
    # Preparation grows with the sampler's steps: the tiny model has four, the miniature eight.
    preparation *= sampler_steps / tiny_model.spec.steps
    assert per_step == 5
    assert per_step + preparation / preset["steps"] <= 10
    last = erasure.trace[-1]["evaluations_amortised"]
    assert last == pytest.approx(erasure.cost.evaluations_per_step)


def test_same_seed_same_adapter_and_other_seed_another(tiny_model: Model) -> None:
    def trained(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed + 17)
        return ZErase(**SMALL, training_seed=seed).erase(tiny_model, CONCEPT).edit.tensors()

    first, again, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    # Text rows' queries of the last layer reach no picture, so their B stays zero whatever the seed.
    idle = "transformer.layers.2.attention.to_q.lora_B.weight"
    assert not any(torch.equal(first[name], other[name]) for name in first if name != idle)


def test_epsilon_is_the_papers_for_the_family(tiny_model: Model) -> None:
    chosen = ZErase(**SMALL)
    assert ZEraseObjective(chosen, tiny_model, CONCEPT, chosen.lora()).modulation.epsilon == 1e-3
    assert EPSILON["entity"] == EPSILON["identity"] == EPSILON["abstraction"] == 1e-2


def test_a_concept_without_phrases_in_its_prompts_is_refused() -> None:
    silent = CONCEPT.model_copy(update={"phrases": ("unclothed",)})
    assert "names one of its phrases" in (ZErase().supports(silent) or "")
    assert ZErase(attention_weight=0).supports(silent) is None
    assert "nothing would be erased" in (ZErase(attention_weight=0, erase_weight=0).supports(CONCEPT) or "")
    assert ZErase().supports(CONCEPT) is None


def test_naive_differs_in_rows_only() -> None:
    assert load_method("naive") is Naive
    assert Naive.rows == "all" and ZErase.rows == "text"
    assert ZErase().model_dump().items() <= Naive().model_dump().items()
