import pytest
import torch
from torch import Tensor
from zbench_methods.eap import EAP, EAPObjective

from tests.transcription import (
    CONCEPT,
    Reference,
    assert_close,
    assert_first_update,
    assert_gradients,
    lora_gradients,
    perturb,
)
from zbench.errors import ConfigurationError
from zbench.model import Model
from zbench.registry import load_method
from zbench.training.candidates import template_rows

SMALL = {
    "steps": 1,
    "batch_size": 3,
    "trajectories": 4,
    "preserve_batch": 3,
    "words": 2,
    "rank": 2,
    "learning_rate": 0.5,
    "optimiser": "sgd",
}


def replayed(objective: EAPObjective) -> torch.Generator:
    source = torch.Generator()
    source.set_state(objective.generator.get_state())
    return source


def drawn_weights(objective: EAPObjective, source: torch.Generator, logits: Tensor) -> tuple[Tensor, Tensor]:
    """w in float64 and the sampler steps that the mixture is about to draw."""
    uniform = torch.rand(3, len(logits), generator=source).double()
    gumbel = -torch.log(-torch.log(uniform))
    steps = torch.randint(len(objective.mixture._bank.timesteps), (3,), generator=source)
    return torch.softmax((logits + gumbel) / objective.method.temperature, dim=-1), steps


@pytest.mark.parametrize(("anchor", "away_from_start"), [("empty", False), ("anchor", True)])
def test_gradient_in_theta_follows_the_equations(
    tiny_model: Model, anchor: str, away_from_start: bool
) -> None:
    method = EAP(**SMALL, reference=anchor, eta=0.7, preserve_weight=0.4)
    edit = method.lora()
    objective = EAPObjective(method, tiny_model, CONCEPT, edit)
    with tiny_model.edited(edit):
        if away_from_start:
            perturb(edit)
        reference = Reference(tiny_model)
        reference.adopt(edit)
        source = replayed(objective)
        bank = objective.erasure.bank
        points = bank.draw(source, 3)
        entries = points.entries.tolist()
        concept = tiny_model.encode([CONCEPT.training_prompts[entry % 2] for entry in entries])
        names = [CONCEPT.anchor_prompts[entry % 2] if anchor == "anchor" else "" for entry in entries]
        live, v_c, v_r = (
            reference.velocity(points.latents, points.timesteps, prompts, live=on)
            for prompts, on in ((concept, True), (concept, False), (tiny_model.encode(names), False))
        )
        erase = ((live - (v_r - 0.7 * (v_c - v_r))) ** 2).mean()
        weights, steps = drawn_weights(objective, source, torch.zeros(len(objective.mixture.logits)))
        kept = objective.mixture._bank
        choice = weights.argmax(dim=-1)
        y, t = kept.latents[steps, choice], kept.timesteps[steps]
        prompts = tiny_model.encode([kept.prompts[index] for index in choice.tolist()])
        moved = reference.velocity(y, t, prompts, live=True) - reference.velocity(y, t, prompts, live=False)
        preserve = (moved**2).mean()
        expected = reference.gradients(erase + 0.4 * preserve)

        figures = objective.gradients()
        assert figures["erase"] == pytest.approx(erase.item(), rel=1e-3)
        assert figures["preserve"] == pytest.approx(preserve.item(), rel=1e-3, abs=1e-9)
        assert_gradients(lora_gradients(edit), expected, 2e-3)


def resampled(caption: Tensor, length: int, before: int, after: int) -> Tensor:
    """P_k: the template's rows as they are, the prompt's rows by index."""
    own, wanted = caption[before : len(caption) - after], length - before - after
    middle = [own[int(row * len(own) / wanted)] for row in range(wanted)]
    return torch.stack([*caption[:before], *middle, *caption[len(caption) - after :]])


@pytest.mark.parametrize("temperature", [2.0, 0.5])
def test_ascent_in_pi_follows_the_equations(tiny_model: Model, temperature: float) -> None:
    """Autograd through the mixture of captions in float64, v and v0 both depending on the caption."""
    method = EAP(**SMALL, temperature=temperature)
    edit = method.lora()
    objective = EAPObjective(method, tiny_model, CONCEPT, edit)
    start = torch.linspace(-0.5, 0.5, len(objective.mixture.logits))
    with torch.no_grad():
        objective.mixture.logits.copy_(start)
    with tiny_model.edited(edit):
        perturb(edit)
        reference = Reference(tiny_model)
        reference.adopt(edit)
        logits = start.double().requires_grad_()
        weights, steps = drawn_weights(objective, replayed(objective), logits)
        bank = objective.mixture._bank
        lengths = {len(embedding) for embedding in bank.embeddings}
        assert len(lengths) > 1, "captions of one length would prove nothing about P"
        choice, captions = weights.argmax(dim=-1), []
        for sample, index in enumerate(choice.tolist()):
            length, template = len(bank.embeddings[index]), template_rows(tiny_model)
            stack = torch.stack([resampled(e, length, *template).double() for e in bank.embeddings])
            change = weights[sample] - weights[sample].detach()
            captions.append(stack[index] + torch.einsum("i,ild->ld", change, stack))
            assert torch.equal(captions[-1].float(), bank.embeddings[index]), (
                "the forward pass sees caption k"
            )
        y, t = bank.latents[steps, choice], bank.timesteps[steps]
        moved = reference.velocity(y, t, captions, live=True) - reference.velocity(y, t, captions, live=False)
        loss = (moved**2).mean()
        (expected,) = torch.autograd.grad(loss, logits)

        figures = objective.after_step()
        assert figures["sensitivity"] == pytest.approx(loss.item(), rel=1e-3)
        found = objective.mixture.logits
        assert found.grad is not None
        assert_close(found.grad, expected, 5e-3)
        clear = expected.abs() > 0.05 * expected.abs().max()
        risen = (found.detach() - start)[clear]
        assert torch.equal(risen.sign(), expected[clear].sign().float()), "it ascends"
        assert all(parameter.grad is None for parameter in edit.parameters())


def test_first_update_is_a_step_along_the_gradient(tiny_model: Model) -> None:
    method = EAP(**SMALL, weight_decay=0.0)
    assert_first_update(tiny_model, method, lambda edit: EAPObjective(method, tiny_model, CONCEPT, edit))


def test_candidates_come_from_the_vocabulary_and_the_prompts_to_preserve(tiny_model: Model) -> None:
    method = EAP(**SMALL)
    found = method.candidates(tiny_model, CONCEPT)
    assert found[-2:] == list(CONCEPT.preserve_prompts) and 2 < len(found) <= 4
    assert all(prompt.startswith("a ") and "nude" not in prompt for prompt in found[:-2])
    few = EAP(**{**SMALL, "words": 0}, prompts=1)
    assert few.candidates(tiny_model, CONCEPT) == [CONCEPT.preserve_prompts[0]]


def test_same_seed_same_weights_recomputed_or_not(tiny_model: Model) -> None:
    """Recomputed activations of the frozen half of the ascent must be frozen ones."""
    settings = {**SMALL, "steps": 2, "words": 0, "batch_size": 2, "preserve_batch": 2, "optimiser": "adamw"}
    first = EAP(**settings).erase(tiny_model, CONCEPT).edit.parameters()
    again = EAP(**settings, gradient_checkpointing=True).erase(tiny_model, CONCEPT)
    for left, right in zip(first, again.edit.parameters(), strict=True):
        assert torch.equal(left, right)


def test_evaluations_per_step_and_figures(tiny_model: Model) -> None:
    row = EAP(**SMALL).erase(tiny_model, CONCEPT).trace[0]
    assert row["evaluations"] == 8, "erasure, preservation, and the caption's gradient in v and in v0"
    assert {"erase", "preserve", "sensitivity", "entropy"} < set(row)


def test_refusals() -> None:
    with pytest.raises(ConfigurationError, match=r"eap\.temperature = 0"):
        load_method("eap").of({"temperature": 0})
    assert EAP().supports(CONCEPT.model_copy(update={"phrases": ("unclothed",)})) is None
