import pytest
import torch
from zbench_methods.naive import Naive
from zbench_methods.zerase import ZErase

from tests.transcription import CONCEPT, Reference, assert_gradients, lora_gradients, perturb
from zbench.errors import ConfigurationError
from zbench.model import Model
from zbench.registry import load_method
from zbench.training import dominant_layers, localisation_scores

SMALL = {
    "steps": 1,
    "batch_size": 2,
    "preserve_batch": 1,
    "trajectories": 2,
    "preserve_trajectories": 2,
    "rank": 2,
    "learning_rate": 0.1,
}


def test_naive_differs_in_rows_only() -> None:
    assert load_method("naive") is Naive
    assert Naive.rows == "all" and ZErase.rows == "text"
    fields = Naive().model_dump()
    assert fields.pop("top_layers") is None and fields == ZErase().model_dump()
    assert Naive.presets["paper"] == ZErase.presets["paper"]


def test_ranking_and_training_are_measured_as_one(tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second meter would forget the peak of memory that was reached while layers were ranked."""
    begun: list[object] = []
    monkeypatch.setattr("zbench.training.meter._reset_peak_memory", begun.append)
    erasure = Naive.of({**SMALL, "top_layers": 1}).erase(tiny_model, CONCEPT)
    assert len(begun) == 1
    last = erasure.trace[-1]["evaluations_amortised"]
    assert last == pytest.approx(erasure.cost.evaluations_per_step), (
        "the ranking is spread over the steps too"
    )


def test_top_layers_are_those_of_the_scores(tiny_model: Model) -> None:
    count = 2
    scores = localisation_scores(tiny_model, CONCEPT, batch_size=2)
    ranked = dominant_layers(scores, count)
    top = Naive.of({**SMALL, "top_layers": count}).erase(tiny_model, CONCEPT)
    named = Naive.of({**SMALL, "layers": ranked}).erase(tiny_model, CONCEPT)
    assert top.edit.settings()["layers"] == sorted(ranked) and top.edit.rows == "all"
    for name, factor in named.edit.tensors().items():
        assert torch.equal(top.edit.tensors()[name], factor)
    assert top.hyperparameters["top_layers"] == count and top.hyperparameters["layers"] is None
    assert Naive.of(top.hyperparameters) == Naive.of({**SMALL, "top_layers": count})
    # Eight trajectories in batches of two are drawn to rank the layers, and that is part of the cost.
    assert top.cost.forwards == named.cost.forwards + 4 * tiny_model.spec.steps
    assert top.cost.evaluations_per_step > named.cost.evaluations_per_step


@pytest.mark.parametrize(
    "targets", [("to_q",), ("to_k", "to_v"), ("feed_forward.w1", "feed_forward.w2", "feed_forward.w3")]
)
def test_targets_of_the_paper_on_every_row(tiny_model: Model, targets: tuple[str, ...]) -> None:
    """Gradients of the feed-forward's adapters match float64 updates that every row sees."""
    edit = Naive.of({**SMALL, "targets": targets, "layers": (1,)}).lora()
    inputs = tiny_model.noise([1, 2]), torch.tensor([800.0, 300.0])
    captions = tiny_model.encode(["a nude person on a beach", "a red car " * 12])
    with tiny_model.edited(edit):
        perturb(edit)
        tiny_model.velocity(*inputs, captions).square().mean().backward()
        reference = Reference(tiny_model, rows="all")
        reference.adopt(edit)
    for path, (down, up) in reference.factors.items():
        if "feed_forward" in path:
            module = reference.transformer.get_submodule(path)
            module.register_forward_hook(
                lambda module, args, output, down=down, up=up: output + args[0] @ down.T @ up.T
            )
    expected = reference.gradients(reference.velocity(*inputs, captions, live=True).square().mean())
    assert_gradients(lora_gradients(edit), expected, 1e-3)


def test_feed_forward_is_trained_like_the_rest(tiny_model: Model) -> None:
    values = {**SMALL, "targets": ("feed_forward.w1", "feed_forward.w2", "feed_forward.w3")}
    erasure = Naive.of(values).erase(tiny_model, CONCEPT)
    named = erasure.edit.tensors()
    assert len(named) == 3 * 3 * 2 and all("feed_forward" in name for name in named)
    assert all(bool(value.any()) for value in named.values())


def test_what_is_refused(tiny_model: Model) -> None:
    with pytest.raises(ConfigurationError, match="layers and top_layers exclude each other"):
        Naive.of({"layers": (1,), "top_layers": 1})
    with pytest.raises(ConfigurationError, match="top 7 layers of 3"):
        Naive.of({**SMALL, "top_layers": 7}).erase(tiny_model, CONCEPT)
    silent = CONCEPT.model_copy(update={"phrases": ("unclothed",)})
    assert Naive.of({"top_layers": 1, "attention_weight": 0}).supports(silent)
    assert Naive.of({"attention_weight": 0}).supports(silent) is None
    assert Naive.of({"top_layers": 1}).supports(CONCEPT) is None
