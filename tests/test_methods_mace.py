from typing import Any

import numpy as np
import pytest
import torch
from zbench_methods.mace import MACE, AttentionObjective

from tests.transcription import CONCEPT, Reference, assert_gradients, lora_gradients, perturb
from zbench.edits import DeltaEdit
from zbench.errors import ConfigurationError, TrainingDivergedError
from zbench.model import Model
from zbench.training import Meter, focal_importance, padded, seeds_for, spread

SMALL: dict[str, Any] = {
    "steps": 1,
    "batch_size": 2,
    "trajectories": 2,
    "rank": 2,
    "learning_rate": 0.5,
    "optimiser": "sgd",
    "weight_decay": 0.0,
    "preserve_scale": 0.5,
    "fuse_preserve_scale": 0.7,
    "regularisation": 0.2,
    "region_threshold": 0.4,
}
COMPOSITE = CONCEPT.model_copy(update={"members": ("no such member", "nor this")})
"""Its members are not in the catalogue, so that it is taken apart into its two phrases."""

LAYER, TARGET = 1, "to_k"
PATH = f"layers.{LAYER}.attention.{TARGET}"


def capture(model: Model, x: torch.Tensor, t: torch.Tensor, prompt: str) -> np.ndarray:
    """Text rows entering the projections of `LAYER`, by a hook of the test's own, one sample at a time."""
    found: list[torch.Tensor] = []
    module = model.transformer.layers[LAYER].attention
    handle = module.register_forward_pre_hook(lambda module, args: found.append(args[0][0]))
    with torch.no_grad():
        model.velocity(x[None], t[None], model.encode([prompt]))
    handle.remove()
    _, height, width = model.latent_shape()
    return found[0][padded(height * width // 4) :].double().numpy()


def prior_rows(model: Model, method: MACE) -> np.ndarray:
    """All rows p of the prompts to preserve, [N, D]."""
    kept = [*CONCEPT.preserve_prompts, *CONCEPT.anchor_prompts]
    rows = []
    for entry in range(method.trajectories):
        prompt = kept[spread(kept, method.trajectories)[entry]]
        path = model.trajectory(model.encode([prompt]), [seeds_for("preserve", 0, entry + 1)[entry]])
        for step, t in enumerate(path.timesteps):
            seen = capture(model, path.latents[step, 0], t, prompt)
            rows.append(seen[: padded(len(model.encode([prompt])[0]))])
    return np.concatenate(rows)


def beside_the_concept(model: Model, prompt: str, anchor: str, whole: bool) -> list[tuple[int, int]]:
    """Rows of equal tokens before the concept, and from the prompt's end of padding backwards to it."""
    tokens, others = (
        [*model.pipeline.tokenizer(templated(model, text))["input_ids"]] for text in (prompt, anchor)
    )
    start, end = next(span for phrase in CONCEPT.phrases for span in model.token_span(prompt, phrase))
    assert tokens[:start] == others[:start] and tokens[end:] == others[len(others) - (len(tokens) - end) :]
    shift = len(others) - len(tokens)
    pairs = [(row, row) for row in range(start)]
    pairs += [(row, max(row + shift, start - 1)) for row in range(start, end)] if whole else []
    return pairs + [(row, row + shift) for row in range(end, padded(len(tokens)))]


def templated(model: Model, prompt: str) -> str:
    messages = [{"role": "user", "content": prompt}]
    text: str = model.pipeline.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    return text


@pytest.mark.parametrize("words", ["others", "all"])
def test_refinement_is_the_closed_form_of_the_paper(tiny_model: Model, words: str) -> None:
    method = MACE(**SMALL, words=words)
    forms, _ = method.prepare(tiny_model, CONCEPT)
    found = forms.refined(method.preserve_scale).deltas[PATH].double().numpy()

    weight = getattr(tiny_model.transformer.layers[LAYER].attention, TARGET).weight.detach().double().numpy()
    points = method.trajectories * tiny_model.spec.steps
    numerator = method.regularisation * weight
    system = method.regularisation * np.eye(weight.shape[1])
    for entry in range(method.trajectories):
        prompt, anchor = CONCEPT.training_prompts[entry % 2], CONCEPT.anchor_prompts[entry % 2]
        path = tiny_model.trajectory(tiny_model.encode([prompt]), [seeds_for("erase", 0, 2)[entry]])
        for step, t in enumerate(path.timesteps):
            seen = capture(tiny_model, path.latents[step, 0], t, prompt)
            guide = capture(tiny_model, path.latents[step, 0], t, anchor)
            for row, other in beside_the_concept(tiny_model, prompt, anchor, words == "all"):
                numerator = numerator + np.outer(weight @ guide[other], seen[row]) / points
                system = system + np.outer(seen[row], seen[row]) / points
    for p in prior_rows(tiny_model, method):
        numerator = numerator + method.preserve_scale / points * np.outer(weight @ p, p)
        system = system + method.preserve_scale / points * np.outer(p, p)
    expected = numerator @ np.linalg.inv(system) - weight
    assert np.abs(expected).max() > 1e-4
    assert np.abs(found - expected).max() < 2e-3 * np.abs(expected).max()


def region(reference: Reference, objective: AttentionObjective, entry: int, threshold: float) -> torch.Tensor:
    """M of a trajectory from the explicit maps of the frozen model."""
    bank, maps = objective.bank, []
    for step, t in enumerate(bank.timesteps):
        reference.velocity(bank.latents[step, entry][None], t[None], [bank.embeddings[entry]], live=False)
        maps.append(
            torch.stack([column_sums(reference, layer, [objective.columns[entry]]) for layer in (0, 1, 2)])
        )
    mean = torch.stack(maps).mean((0, 1, 2, 3))
    return (mean - mean.min()) / (mean.max() - mean.min()) >= threshold


def column_sums(reference: Reference, layer: int, columns: list[list[int]]) -> torch.Tensor:
    """sum over S of A[:, S] on image queries, [B, heads, rows], from explicit maps."""
    image = reference.maps[layer][:, :, : reference.image_rows, reference.text_start :]
    return torch.stack([sample[:, :, chosen].sum(-1) for sample, chosen in zip(image, columns, strict=True)])


@pytest.mark.parametrize("away_from_start", [False, True])
def test_gradient_of_the_attention_loss_follows_the_equation(
    tiny_model: Model, away_from_start: bool
) -> None:
    method = MACE(**SMALL)
    forms, (objective,) = method.prepare(tiny_model, CONCEPT)
    frozen = Reference(tiny_model)
    regions = [region(frozen, objective, entry, method.region_threshold) for entry in range(2)]
    refined, lora = forms.refined(method.preserve_scale), method.lora()
    with tiny_model.edited(refined), tiny_model.edited(lora):
        if away_from_start:
            perturb(lora)
        reference = Reference(tiny_model)
        reference.adopt(lora)
        leaves = dict(reference.factors)
        for path, (down, up) in leaves.items():
            # x -> x (A^T B^T + D^T): the refinement D rides along as a factor pair (D, 1).
            delta = refined.deltas[path].double()
            reference.factors[path] = (
                torch.cat([down, delta]),
                torch.cat([up, torch.eye(len(delta)).double()], 1),
            )
        source = torch.Generator()
        source.set_state(objective.generator.get_state())
        draw = objective.bank.draw(source, 2, objective.importance)
        entries = draw.entries.tolist()
        reference.velocity(draw.latents, draw.timesteps, draw.embeddings, live=True)
        loss = torch.zeros((), dtype=torch.float64)
        for layer in (0, 1, 2):
            sums = column_sums(reference, layer, [objective.columns[entry] for entry in entries])
            for sample, entry in zip(sums, entries, strict=True):
                loss = loss + (sample[:, regions[entry]] ** 2).mean() / 6
        reference.factors = leaves
        flat = [leaf for pair in leaves.values() for leaf in pair]
        expected = torch.autograd.grad(loss, flat, allow_unused=True)

        assert objective.gradients()["attention"] == pytest.approx(loss.item(), rel=1e-3)
        wanted = [torch.zeros_like(x) if g is None else g for g, x in zip(expected, flat, strict=True)]
        found = [
            torch.zeros_like(x) if g is None else g for g, x in zip(lora_gradients(lora), flat, strict=True)
        ]
        assert_gradients(found, wanted, 2e-3)


def test_first_update_is_a_step_along_that_gradient(tiny_model: Model) -> None:
    method = MACE(**SMALL)
    forms, (objective,) = method.prepare(tiny_model, CONCEPT)
    lora, trained = method.lora(), method.lora()
    with tiny_model.edited(forms.refined(method.preserve_scale)):
        with tiny_model.edited(lora):
            start = [parameter.detach().clone() for parameter in lora.parameters()]
            objective.gradients()
            gradients = [parameter.grad for parameter in lora.parameters()]
        objective.generator.manual_seed(method.training_seed)
        method.fit(tiny_model, CONCEPT, trained, objective, Meter(tiny_model), None)
    moved = [after.detach() - before for after, before in zip(trained.parameters(), start, strict=True)]
    assert max(float(step.abs().max()) for step in moved) > 1e-5
    for step, gradient in zip(moved, gradients, strict=True):
        expected = torch.zeros_like(step) if gradient is None else -0.5 * gradient
        torch.testing.assert_close(step, expected, atol=1e-7, rtol=1e-3)


def test_fusion_is_the_least_squares_fit_to_every_members_adapter(tiny_model: Model) -> None:
    method = MACE(**SMALL)
    forms, objectives = method.prepare(tiny_model, COMPOSITE)
    assert [objective.bank.prompts[0] for objective in objectives] == list(CONCEPT.training_prompts)
    points = method.trajectories * tiny_model.spec.steps
    inputs, outputs = [], []
    refined = forms.refined(method.preserve_scale)
    with tiny_model.edited(refined):
        for seed, objective in enumerate(objectives):
            lora, bank = method.lora(), objective.bank
            with tiny_model.edited(lora):
                perturb(lora, seed)
                rows = [
                    capture(tiny_model, bank.latents[step, entry], t, prompt)
                    for entry, prompt in enumerate(bank.prompts)
                    for step, t in enumerate(bank.timesteps)
                ]
            forms.add(lora, bank, method.batch_size)
            down, up = (
                lora.tensors()[f"transformer.{PATH}.lora_{half}.weight"].detach().double() for half in "AB"
            )
            member = np.concatenate(rows) / np.sqrt(points)
            inputs.append(member)
            outputs.append(member @ (refined.deltas[PATH].double() + up @ down).numpy().T)
    width = inputs[0].shape[1]
    inputs.append(prior_rows(tiny_model, method) * np.sqrt(method.fuse_preserve_scale / points))
    inputs.append(np.eye(width) * np.sqrt(method.regularisation))
    zeros = [np.zeros_like(kept) for kept in inputs[2:]]
    expected = np.linalg.lstsq(np.concatenate(inputs), np.concatenate([*outputs, *zeros]), rcond=None)[0].T
    found = forms.fused(method.fuse_preserve_scale).deltas[PATH].double().numpy()
    assert np.abs(found - expected).max() < 2e-3 * np.abs(expected).max()


def test_one_concept_without_prior_keeps_its_adapter(tiny_model: Model) -> None:
    method = MACE(**{**SMALL, "regularisation": 1e-7, "fuse_preserve_scale": 0.0})
    forms, (objective,) = method.prepare(tiny_model, CONCEPT)
    lora, draw = method.lora(), next(objective.bank.batches(2))
    with torch.no_grad(), tiny_model.edited(forms.refined(method.preserve_scale)):
        with tiny_model.edited(lora):
            perturb(lora)
            trained = tiny_model.velocity(draw.latents, draw.timesteps, draw.embeddings)
        refined = tiny_model.velocity(draw.latents, draw.timesteps, draw.embeddings)
        forms.add(lora, objective.bank, 2)
    with torch.no_grad(), tiny_model.edited(forms.fused(0.0)):
        fused = tiny_model.velocity(draw.latents, draw.timesteps, draw.embeddings)
    moved = float((trained - refined).abs().max())
    assert moved > 1e-3 and float((fused - trained).abs().max()) < 0.01 * moved


def test_one_edit_comes_out_and_the_same_seed_gives_the_same_weights(tiny_model: Model) -> None:
    runs = [MACE(**{**SMALL, "training_seed": seed}).erase(tiny_model, CONCEPT) for seed in (3, 3, 4)]
    first, second, third = (run.edit for run in runs)
    assert isinstance(first, DeltaEdit) and first.rows == "text" and len(first.deltas) == 6
    assert all(torch.equal(delta, second.deltas[path]) for path, delta in first.deltas.items())  # type: ignore[attr-defined]
    assert not torch.equal(first.deltas[PATH], third.deltas[PATH])  # type: ignore[attr-defined]


def test_a_composite_is_trained_member_by_member(tiny_model: Model) -> None:
    told: list[tuple[int, int]] = []
    erasure = MACE(**{**SMALL, "steps": 2}).erase(
        tiny_model, COMPOSITE, progress=lambda done, units: told.append((done, units))
    )
    assert [row["step"] for row in erasure.trace] == [0, 1, 2, 3] and erasure.cost.steps == 4
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert all(row["evaluations"] == 2 for row in erasure.trace), "a forward and a backward pass"
    # What belongs to no step is spread over the steps of all members, not anew over those of each.
    amortised = [row["evaluations_amortised"] for row in erasure.trace]
    assert amortised == pytest.approx([erasure.cost.evaluations_per_step] * 4)


def test_a_style_has_no_region_of_its_own(tiny_model: Model) -> None:
    method = MACE(**SMALL)
    _, (objective,) = method.prepare(tiny_model, CONCEPT)
    assert not objective.regions.all()
    style = AttentionObjective(
        method, tiny_model, CONCEPT.model_copy(update={"family": "style"}), objective.bank
    )
    assert style.regions.all()


def test_later_steps_are_drawn_more_often(tiny_model: Model) -> None:
    xi = focal_importance(8, (200.0, 400.0), 0.05)
    times = np.array([1000, 875, 750, 625, 500, 375, 250, 125], dtype=float)
    expected = 1 / (1 + np.exp(-0.05 * (times - 200))) - 1 / (1 + np.exp(-0.05 * (times - 400)))
    np.testing.assert_allclose(xi.numpy(), expected, atol=2e-9)
    assert set(xi.argsort(descending=True)[:2].tolist()) == {5, 6}
    _, (objective,) = MACE(**SMALL).prepare(tiny_model, CONCEPT)
    drawn = objective.bank.draw(objective.generator, 200, focal_importance(4, (200.0, 400.0), 0.05))
    assert (drawn.steps == 3).float().mean() > 0.9
    assert MACE(**SMALL, focus=None).prepare(tiny_model, CONCEPT)[1][0].importance is None


def test_what_cannot_be_erased_is_refused(tiny_model: Model) -> None:
    silent = CONCEPT.model_copy(update={"phrases": ("unclothed",)})
    assert MACE().supports(silent) and MACE().supports(CONCEPT) is None
    with pytest.raises(ConfigurationError, match="mace cannot erase 'nudity'"):
        MACE(**SMALL).erase(tiny_model, silent)
    assert MACE().supports(CONCEPT.model_copy(update={"phrases": ("nud",)})), "a part of a word names nothing"
    beyond = ("a red car " * 40 + "and a nude person",) * 2
    with pytest.raises(ConfigurationError, match="in words of its own"):
        MACE(**SMALL).erase(tiny_model, CONCEPT.model_copy(update={"training_prompts": beyond}))


def test_the_model_is_restored_when_training_fails(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise TrainingDivergedError("as asked")

    monkeypatch.setattr(MACE, "fit", fail)
    with pytest.raises(TrainingDivergedError):
        MACE(**SMALL).erase(tiny_model, CONCEPT)
    assert not tiny_model.edits
