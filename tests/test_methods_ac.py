import pytest
import torch
from zbench_methods.ac import AC, ACObjective
from zbench_methods.ac_noise import ACNoise

from tests.transcription import (
    CONCEPT,
    Reference,
    assert_first_update,
    assert_gradients,
    lora_gradients,
    perturb,
)
from zbench.errors import ConfigurationError
from zbench.model import Model

SMALL = {"steps": 1, "batch_size": 3, "trajectories": 4, "rank": 2, "learning_rate": 0.5, "optimiser": "sgd"}


def draw(objective: ACObjective, count: int) -> tuple[list[int], torch.Tensor, torch.Tensor, torch.Tensor]:
    """Entries, x0, noise and t that the objective is about to draw."""
    source = torch.Generator()
    source.set_state(objective.generator.get_state())
    drawn = objective.bank.draw(source, count)
    clean = objective.bank.latents[-1][drawn.entries]
    return drawn.entries.tolist(), clean, torch.randn(clean.shape, generator=source), drawn.timesteps


@pytest.mark.parametrize("away_from_start", [False, True])
@pytest.mark.parametrize("weight", [0.0, 0.3])
@pytest.mark.parametrize("variant", ["model", "noise"])
def test_gradient_follows_the_equations(
    tiny_model: Model, variant: str, weight: float, away_from_start: bool
) -> None:
    method = AC(**SMALL, variant=variant, regularisation_weight=weight)
    edit, objective = method.lora(), ACObjective(method, tiny_model, CONCEPT)
    with tiny_model.edited(edit):
        if away_from_start:
            perturb(edit)
        reference = Reference(tiny_model)
        reference.adopt(edit)
        entries, clean, noise, t = draw(objective, 3)
        sigma = (t.double() / 1000)[:, None, None, None]
        x = (1 - sigma) * clean.double() + sigma * noise.double()
        concept = tiny_model.encode([CONCEPT.training_prompts[entry % 2] for entry in entries])
        anchor = tiny_model.encode([CONCEPT.anchor_prompts[entry % 2] for entry in entries])
        v_anchor = reference.velocity(x, t, anchor, live=True)
        flow = noise.double() - clean.double()
        target = v_anchor.detach() if variant == "model" else flow
        ablation = ((reference.velocity(x, t, concept, live=True) - target) ** 2).mean()
        regulariser = ((v_anchor - flow) ** 2).mean()
        expected = reference.gradients(ablation + weight * regulariser + 0 * v_anchor.sum())

        figures = objective.gradients()
        assert figures["ablation"] == pytest.approx(ablation.item(), rel=1e-3)
        assert ("regulariser" in figures) == (weight > 0)
        assert_gradients(lora_gradients(edit), expected, 2e-3)


def test_first_update_is_a_step_along_that_gradient(tiny_model: Model) -> None:
    method = AC(**SMALL, weight_decay=0.0)
    assert_first_update(tiny_model, method, lambda edit: ACObjective(method, tiny_model, CONCEPT), 1e-3)


def test_anchor_samples_are_pictures_of_the_anchor(tiny_model: Model) -> None:
    objective = ACObjective(AC(**SMALL), tiny_model, CONCEPT)
    assert objective.bank.prompts == CONCEPT.anchor_prompts * 2
    assert len({float(latent.sum()) for latent in objective.bank.clean()}) == 4, (
        "each sample has noise of its own"
    )


@pytest.mark.parametrize(("settings", "expected"), [({}, 4), ({"regularisation_weight": 0.0}, 3)])
def test_evaluations_per_step(tiny_model: Model, settings: dict[str, float], expected: int) -> None:
    erasure = AC(**SMALL, **settings).erase(tiny_model, CONCEPT)
    assert erasure.trace[0]["evaluations"] == expected


def test_the_noise_variant_is_a_method_of_its_own(tiny_model: Model) -> None:
    quick = {**SMALL, "training_seed": 3}
    own = ACNoise(**quick).erase(tiny_model, CONCEPT)
    same = AC(**quick, variant="noise").erase(tiny_model, CONCEPT)
    assert own.method == "ac_noise" and own.hyperparameters == same.hyperparameters
    other = AC(**quick).erase(tiny_model, CONCEPT)
    for name, factor in own.edit.tensors().items():
        assert torch.equal(factor, same.edit.tensors()[name])
    assert any(not torch.equal(own.edit.tensors()[name], t) for name, t in other.edit.tensors().items())


def test_the_noise_variant_cannot_be_turned_into_the_other() -> None:
    with pytest.raises(ConfigurationError, match=r"ac_noise\.variant = 'model'"):
        ACNoise.with_preset("paper", variant="model")
    assert ACNoise.with_preset("miniature").variant == "noise" and AC().variant == "model"
