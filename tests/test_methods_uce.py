import numpy as np
import pytest
import torch
from zbench_methods.uce import UCE

from tests.transcription import CONCEPT
from zbench.edits import DeltaEdit
from zbench.model import Model
from zbench.training import padded, seeds_for, spread

COMPOSITE = CONCEPT.model_copy(update={"members": ("no such member", "nor this")})
"""Its members are not in the catalogue, so that it is taken apart into its two phrases."""

SMALL = {"trajectories": 3, "batch_size": 2, "erase_scale": 7.0, "preserve_scale": 0.5, "regularisation": 0.2}


def capture(model: Model, layer: int, x: torch.Tensor, t: torch.Tensor, prompt: str) -> np.ndarray:
    """Text rows entering one layer's projections, by a hook of the test's own, one sample at a time."""
    found: list[torch.Tensor] = []
    module = model.transformer.layers[layer].attention.to_q
    handle = module.register_forward_pre_hook(lambda module, args: found.append(args[0][0]))
    with torch.no_grad():
        model.velocity(x[None], t[None], model.encode([prompt]))
    handle.remove()
    _, height, width = model.latent_shape()
    return found[0][padded(height * width // 4) :].double().numpy()


Members = list[list[int]]
"""Per member the indices of its prompts; each prompt of `CONCEPT` names one phrase."""


def direct_solution(
    model: Model, method: UCE, layer: int, target: str, members: Members
) -> tuple[np.ndarray, np.ndarray]:
    """W and W' by the formula as the paper writes it: sums over members and rows, means over the drawing."""
    weight = getattr(model.transformer.layers[layer].attention, target).weight.detach().double().numpy()
    width = weight.shape[1]
    numerator = method.regularisation * weight
    system = method.regularisation * np.eye(width)
    points = method.trajectories * model.spec.steps
    kept = [*CONCEPT.preserve_prompts, *CONCEPT.anchor_prompts]
    seeds = seeds_for("erase", method.training_seed, method.trajectories)
    drawn = [(entry, own[entry % len(own)]) for own in members for entry in range(method.trajectories)]
    for entry, which in drawn:
        concept, anchor = CONCEPT.training_prompts[which], CONCEPT.anchor_prompts[which]
        seed = seeds[entry]
        path = model.trajectory(model.encode([concept]), [seed])
        span = model.token_span(concept, CONCEPT.phrases[which])[0]
        lengths = len(model.encode([concept])[0]), len(model.encode([anchor])[0])
        rows = range(*span) if method.tokens == "span" else range(span[0], lengths[0])
        for step, t in enumerate(path.timesteps):
            seen = capture(model, layer, path.latents[step, 0], t, concept)
            guide = capture(model, layer, path.latents[step, 0], t, anchor)
            for row in rows:
                c_e = seen[row]
                c_g = guide[max(span[0] - 1, row - lengths[0] + lengths[1])]
                numerator = numerator + method.erase_scale / points * np.outer(weight @ c_g, c_e)
                system = system + method.erase_scale / points * np.outer(c_e, c_e)
    for entry in range(method.trajectories):
        prompt = kept[spread(kept, method.trajectories)[entry]]
        seed = seeds_for("preserve", method.training_seed, method.trajectories)[entry]
        path = model.trajectory(model.encode([prompt]), [seed])
        for step, t in enumerate(path.timesteps):
            seen = capture(model, layer, path.latents[step, 0], t, prompt)
            for c_p in seen[: padded(len(model.encode([prompt])[0]))]:
                numerator = numerator + method.preserve_scale / points * np.outer(weight @ c_p, c_p)
                system = system + method.preserve_scale / points * np.outer(c_p, c_p)
    return weight, numerator @ np.linalg.inv(system)


@pytest.mark.parametrize("tokens", ["span", "onward"])
def test_update_is_the_closed_form_in_the_layers_own_space(tiny_model: Model, tokens: str) -> None:
    method = UCE(**SMALL, tokens=tokens)
    erasure = method.erase(tiny_model, CONCEPT)
    assert isinstance(erasure.edit, DeltaEdit) and erasure.edit.rows == "text"
    for layer, target in ((0, "to_q"), (2, "to_v")):
        weight, edited = direct_solution(tiny_model, method, layer, target, [[0, 1]])
        found = erasure.edit.deltas[f"layers.{layer}.attention.{target}"].double().numpy()
        expected = edited - weight
        assert np.abs(expected).max() > 1e-3
        assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()


def test_sums_run_over_the_members_of_a_composite(tiny_model: Model) -> None:
    """One trajectory each: spread over the prompts of both, it would show the first member alone."""
    method = UCE(**{**SMALL, "trajectories": 1}, layers=(1,), targets=("to_k",))
    found = method.erase(tiny_model, COMPOSITE).edit.deltas["layers.1.attention.to_k"].double().numpy()  # type: ignore[attr-defined]
    weight, edited = direct_solution(tiny_model, method, 1, "to_k", [[0], [1]])
    assert np.abs(found - (edited - weight)).max() < 1e-3 * np.abs(edited - weight).max()
    alone = direct_solution(tiny_model, method, 1, "to_k", [[0]])[1]
    assert np.abs(alone - edited).max() > 0.05 * np.abs(edited - weight).max()


def test_result_does_not_depend_on_the_batch_size(tiny_model: Model) -> None:
    results = [UCE(**{**SMALL, "batch_size": size}).erase(tiny_model, CONCEPT).edit for size in (1, 3)]
    for path, delta in results[0].deltas.items():  # type: ignore[attr-defined]
        other = results[1].deltas[path]  # type: ignore[attr-defined]
        torch.testing.assert_close(delta, other, atol=1e-3 * float(delta.abs().max()), rtol=0)


def test_layers_and_targets_are_chosen(tiny_model: Model) -> None:
    erasure = UCE(**SMALL, layers=(1,), targets=("to_k",)).erase(tiny_model, CONCEPT)
    assert list(erasure.edit.deltas) == ["layers.1.attention.to_k"]  # type: ignore[attr-defined]
    assert erasure.cost.backwards == 0 and erasure.cost.forwards > 0 and erasure.cost.steps == 0


def test_rows_are_paired_from_the_end(tiny_model: Model) -> None:
    (rows, guides), _ = UCE(tokens="onward").row_pairs(tiny_model, CONCEPT)
    concept, anchor = (tiny_model.encode([p])[0] for p in ("a nude person on a beach", "a person on a beach"))
    assert rows[-1] == len(concept) - 1 and guides[-1] == len(anchor) - 1
    person = tiny_model.token_span("a nude person on a beach", "person")[0][0]
    assert guides[rows.index(person)] == tiny_model.token_span("a person on a beach", "person")[0][0]
    assert guides[0] == rows[0] - 1, "the concept's own word goes to the word before it"


def test_a_concept_that_no_prompt_names_is_refused() -> None:
    silent = CONCEPT.model_copy(update={"phrases": ("unclothed",)})
    assert UCE().supports(silent) and UCE().supports(CONCEPT) is None
