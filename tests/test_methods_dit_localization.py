import pytest
import torch
from torch import Tensor
from zbench_methods.dit_localization import DiTLocalization

from tests.test_edits_states import attention_inputs
from tests.transcription import CONCEPT, assert_close
from zbench.edits import StateSwapEdit
from zbench.errors import ConfigurationError
from zbench.model import Model
from zbench.training import localisation_scores, seeds_for

SMALL = {"top_layers": 2, "trajectories": 2, "clean_trajectories": 3, "batch_size": 2}


def erased(model: Model, **values: object) -> StateSwapEdit:
    edit = DiTLocalization.of({**SMALL, **values}).erase(model, CONCEPT).edit
    assert isinstance(edit, StateSwapEdit)
    return edit


def recorded(model: Model, layer: int) -> Tensor:
    """Mean states of the anchor, one picture at a time, the template applied by the pipeline, once."""
    with torch.no_grad():
        captions, _ = model.pipeline.encode_prompt(
            [CONCEPT.anchor],
            device="cpu",
            do_classifier_free_guidance=False,
            max_sequence_length=model.spec.max_sequence_length,
        )
    pictures = []
    for seed in seeds_for("states", 0, SMALL["clean_trajectories"]):
        path = model.trajectory(captions, [seed])
        points = zip(path.latents, path.timesteps, strict=False)
        rows = [attention_inputs(model, (x, t[None], captions))[1][layer][0] for x, t in points]
        pictures.append(torch.stack(rows).double())
    return torch.stack(pictures).mean(dim=0)


def test_states_are_the_anchors_at_the_best_scored_layers(tiny_model: Model) -> None:
    scores = localisation_scores(tiny_model, CONCEPT, trajectories=2)
    erasure = DiTLocalization.of(SMALL).erase(tiny_model, CONCEPT)
    edit = erasure.edit
    assert isinstance(edit, StateSwapEdit)
    best = sorted(range(3), key=lambda layer: scores[layer])[1:]
    assert sorted(edit.states) == sorted(best)
    assert edit.describe()["scores"] == pytest.approx(scores, rel=1e-5)
    assert torch.equal(edit.timesteps, tiny_model.timesteps())
    for layer, states in edit.states.items():
        assert_close(states, recorded(tiny_model, layer), 1e-4)


def test_states_of_different_steps_differ(tiny_model: Model) -> None:
    """Defect D14: the port repeated those of the first step."""
    edit = erased(tiny_model)
    for states in edit.states.values():
        for step in range(1, len(states)):
            assert (states[step] - states[0]).abs().max() > 1e-2 * states[0].abs().max()


def test_no_random_state_moves_and_noise_is_that_of_every_method(tiny_model: Model) -> None:
    """Defect D14: a shared generator was advanced by the recording pass."""
    plain = tiny_model.generate(["a house", "a nude person"], [4, 5], steps=2)
    before = torch.get_rng_state()
    with tiny_model.edited(erased(tiny_model, trigger="phrases")):
        edited = tiny_model.generate(["a house", "a nude person"], [4, 5], steps=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(edited[0], plain[0]) and not torch.equal(edited[1], plain[1])


def test_trigger_always_replaces_for_every_prompt(tiny_model: Model) -> None:
    plain = tiny_model.generate(["a house"], [4], steps=2)
    edit = erased(tiny_model)
    assert edit.phrases == () and erased(tiny_model, trigger="phrases").phrases == CONCEPT.phrases
    with tiny_model.edited(edit):
        assert not torch.equal(tiny_model.generate(["a house"], [4], steps=2), plain)


def test_same_seed_same_states_whatever_the_batch(tiny_model: Model) -> None:
    first, again, other, single = (
        erased(tiny_model, top_layers=3, **values)
        for values in ({}, {}, {"training_seed": 1}, {"batch_size": 1})
    )
    for layer, states in first.states.items():
        assert torch.equal(states, again.states[layer])
        # Rows entering the first layer have not met a picture, so no seed changes them.
        assert torch.equal(states, other.states[layer]) is (layer == 0)
        assert_close(single.states[layer], states.double(), 1e-3)


def test_cost_and_progress(tiny_model: Model) -> None:
    told: list[tuple[int, int]] = []
    method = DiTLocalization.of(SMALL)
    cost = method.erase(tiny_model, CONCEPT, progress=lambda *units: told.append(units)).cost
    # Scores: one batch of two pictures; states: a batch of two and one of one.
    assert cost.forwards == (1 + 2) * tiny_model.spec.steps and cost.backwards == 0
    assert told == [(1, 2), (2, 2)]


def test_what_is_refused(tiny_model: Model) -> None:
    silent = CONCEPT.model_copy(update={"phrases": ("unclothed",)})
    assert DiTLocalization().supports(CONCEPT) is None
    with pytest.raises(ConfigurationError, match="dit_localization cannot erase 'nudity'"):
        DiTLocalization().erase(tiny_model, silent)
    with pytest.raises(ConfigurationError, match="top 6 layers of 3"):
        erased(tiny_model, top_layers=6)
