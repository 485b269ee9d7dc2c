"""Ring-A-Bell: the genetic search in the model's own encoder, and the published prompts as they are."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.descent_tools import assert_untouched
from tests.search_tools import (
    PROMPTS,
    assert_asks_no_transformer,
    assert_card,
    assert_contract,
    assert_passed_over,
    candidates,
    context_of,
    payloads,
)
from tests.test_attacks_concept_vector import expected, own_rows
from tests.tiny import save_smallest_pipeline
from zbench.attacks import Candidate, Context
from zbench.attacks.ring_a_bell import RingABell
from zbench.attacks.ring_a_bell_transfer import CASES, RingABellTransfer
from zbench.attacks.toolkit.free_text import FreeText
from zbench.attacks.toolkit.genetic import Search, advance
from zbench.attacks.toolkit.tokens import TemplatedPrompt
from zbench.concepts import load_concept
from zbench.edits import NoEdit
from zbench.errors import ConfigurationError
from zbench.model import Model, load_model
from zbench.prompts.external import fetch_rows
from zbench.prompts.pins import write_pin
from zbench.prompts.sets import Prompt

SMALL: dict[str, Any] = {"lengths": (5,), "generations": 3, "population": 8, "eta": 1.5}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(save_smallest_pipeline(tmp_path_factory.mktemp("smallest") / "pipeline"), "cpu")


def searches(model: Model, **fields: Any) -> list[Search]:
    attack = RingABell(**{**SMALL, **fields})
    return attack.searches(context_of(attack, model), 5)


def test_the_error_is_that_of_the_text(model: Model) -> None:
    """|| E(P) - (E(prompt) + eta c) ||^2, by hand, from the text that is offered."""
    found = searches(model)
    advance(found, 2, 64)
    before, after = own_rows(model, "a")
    length = before + 5 + after
    for prompt, search in zip(PROMPTS, found, strict=True):
        caption, said = model.encode([prompt.text])[0], model.encode([search.text])[0]
        own = len(caption) - before - after
        rows = [*range(before), *(before + row * own // 5 for row in range(5))]
        rows += range(len(caption) - after, len(caption))
        wanted = caption[rows] + 1.5 * expected(model, length, pooled=False)
        assert said.shape == wanted.shape
        assert search.errors[0].item() == pytest.approx((said - wanted).square().mean().item(), rel=1e-3)


def test_the_error_never_rises_and_falls(model: Model) -> None:
    found, best = searches(model, population=16), []
    for _ in range(12):
        advance(found, 1, 7)
        best.append([search.errors[0].item() for search in found])
        assert all(list(search.errors) == sorted(search.errors) for search in found)
    for course in zip(*best, strict=True):
        assert all(later <= earlier for earlier, later in pairwise(course))
        assert course[-1] < 0.97 * course[0]


def test_texts_are_encoded_as_their_tokens(model: Model) -> None:
    attack = RingABell(**SMALL)
    for candidate in [*candidates(attack, model), *attack.control(context_of(attack, model))]:
        ids = TemplatedPrompt.of(model, candidate.payload).ids
        layout = TemplatedPrompt.laid_out(model, ["", ""], [5])
        words = ids[layout.free]
        assert torch.equal(layout.filled(words), ids) and layout.text(words) == candidate.payload


def test_children_and_mutants(model: Model) -> None:
    [search, *_] = searches(model, mutation=0.0, crossover=1.0)
    advance([search], 1, 64)
    parents = search.survivors
    children = search.offspring()
    assert len(children) == 2 * len(parents), "every survivor is crossed, and no copy is asked for again"
    for child in children:
        assert any(
            torch.equal(child, torch.cat([left[:place], right[place:]]))
            for left in parents
            for right in parents
            for place in range(1, 5)
        )
    [search, *_] = searches(model, mutation=1.0, crossover=0.0)
    advance([search], 1, 64)
    distances = (search.offspring()[:, None] != search.survivors[None]).sum(-1).amin(1)
    assert len(distances) == len(search.survivors) and (distances <= 1).all() and distances.any()


def test_what_may_not_be_encoded_dies_unencoded(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    attack = RingABell(**SMALL)
    word = FreeText(context_of(attack, model), 1).allowed[3]
    assert_passed_over(model, monkeypatch, attack, word)


def test_budgets_lengths_and_controls(model: Model) -> None:
    assert_contract(model, lambda budget: RingABell(**SMALL, budget=budget))
    attack = RingABell(**{**SMALL, "lengths": (3, 6)}, budget=4)
    labels = [candidate.label.split(", error")[0] for candidate in candidates(attack, model)]
    assert labels[:: len(PROMPTS)] == [f"K {k}, generation {g}" for g in (3, 6) for k in (3, 6)]
    control = payloads(list(attack.control(context_of(attack, model))))
    assert [len(text.split()) for text in control] == [3, 6, 3, 6] and len(set(control)) == 4


def test_a_prompt_without_finite_error_fails_alone(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = RingABell.searches

    def broken(self: RingABell, context: Context, length: int) -> list[Search]:
        found = begun(self, context, length)
        found[1].target.fill_(torch.nan)
        return found

    good = candidates(RingABell(**SMALL), model)
    monkeypatch.setattr(RingABell, "searches", broken)
    found = candidates(RingABell(**SMALL), model)
    [failed] = [candidate for candidate in found if candidate.kind == "failed"]
    assert failed.prompt_id == PROMPTS[1].id and "finite" in failed.failure
    assert not payloads(found, PROMPTS[1])[1:]
    for prompt in (PROMPTS[0], PROMPTS[2]):
        assert payloads(found, prompt) == payloads(good, prompt)


def test_it_asks_the_text_encoder_only(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_asks_no_transformer(model, RingABell(**SMALL), monkeypatch)


def test_too_long_texts_are_refused_and_nothing_is_left_behind(model: Model) -> None:
    attack = RingABell(**{**SMALL, "lengths": (5, 500)})
    assert "set lengths" in (attack.supports(context_of(attack, model)) or "")
    attack = RingABell(**SMALL)
    assert attack.supports(context_of(attack, model)) is None
    assert_untouched(model, lambda: candidates(attack, model))
    assert_card(RingABell)
    paper = RingABell.with_preset("paper")
    values = (paper.population, paper.generations, paper.mutation, paper.crossover, paper.eta)
    assert values == (200, 3000, 0.25, 0.5, 3.0) and paper.lengths == (16, 38, 77) and paper.budget == 3


# Published prompts ----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of the user's; no cache, no network, no lock file."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "own").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "own"


def write_set(folder: Path, rows: int = 3 * CASES, changed: int = -1, refused: int = -1) -> Path:
    with (folder / "ring-a-bell.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["prompt", "case_number", "evaluation_seed"])
        for row in range(rows):
            text = f"house {row}" + " of mine" * (row == changed) + " with a child" * (row == refused)
            table.writerow([text, row % CASES, row])
    return folder


def transfer_context(
    *ids: str, concept: str = "nudity", domain: str = "photograph", shared: Any = None
) -> Context:
    model: Any = SimpleNamespace(spec=SimpleNamespace(domain=domain))
    prompts = tuple(Prompt(id=each, text="a person") for each in ids)
    return Context(model, NoEdit(), load_concept(concept, domain), prompts, shared=shared)


def transferred(attack: RingABellTransfer, *ids: str) -> list[Candidate]:
    shared = attack.prepare(transfer_context())
    return list(attack.attack(transfer_context(*ids, shared=shared)))


def test_prompts_are_matched_by_case(folder: Path) -> None:
    attack = RingABellTransfer(prompts_dir=write_set(folder), budget=4)
    found = transferred(attack, "i2p-nudity-7", "ring-a-bell-102", "unlearn-diff-attack-nudity-94", "none")
    texts = [
        [c.payload for c in found if c.prompt_id == each]
        for each in dict.fromkeys(c.prompt_id for c in found)
    ]
    assert texts[0] == texts[1] == ["house 7", "house 102", "house 197", "house 8"]
    assert texts[2] == ["house 94", "house 189", "house 284", "house 0"]
    assert texts[3][0] == "house 0"
    alone = transferred(RingABellTransfer(prompts_dir=folder, budget=2), "unlearn-diff-attack-nudity-94")
    assert [c.payload for c in alone] == texts[2][:2]


def test_rows_about_minors_are_left_out_and_the_next_take_their_place(folder: Path) -> None:
    attack = RingABellTransfer(prompts_dir=write_set(folder, refused=102), budget=3)
    assert [c.payload for c in transferred(attack, "i2p-nudity-7")] == ["house 7", "house 197", "house 8"]


def test_it_is_about_nudity_in_photographs(folder: Path) -> None:
    attack = RingABellTransfer(prompts_dir=write_set(folder))
    assert attack.supports(transfer_context("a-0")) is None
    for context in (transfer_context(concept="church"), transfer_context(domain="world")):
        assert "about nudity in photographs" in (attack.supports(context) or "")


def test_a_set_that_cannot_be_used_gives_one_line(folder: Path) -> None:
    def reason() -> str:
        found = RingABellTransfer(prompts_dir=folder).supports(transfer_context("a-0"))
        assert found and "\n" not in found
        return found

    assert "--prompts-dir" in reason(), "absent"
    write_set(folder, rows=79)
    assert "gives 79 prompts" in reason(), "truncated, or the 79 pairs of others"
    write_set(folder)
    write_pin(fetch_rows("ring-a-bell", folder))
    assert RingABellTransfer(prompts_dir=folder).supports(transfer_context("a-0")) is None
    write_set(folder, changed=17)
    assert "not the one pinned" in reason()
    with pytest.raises(ConfigurationError, match="not the one pinned"):
        RingABellTransfer(prompts_dir=folder).prepare(transfer_context())


def test_the_identity_is_the_prompts_and_not_their_folder(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    first, same = (RingABellTransfer(prompts_dir=write_set(place)).identity() for place in (folder, other))
    assert first == same and "prompts_dir" not in first["hyperparameters"]
    assert RingABellTransfer(prompts_dir=write_set(other, changed=3)).identity() != first
    (other / "ring-a-bell.csv").unlink()
    assert RingABellTransfer(prompts_dir=other).identity()["prompts"] is None


def test_a_run_never_fetches_the_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An identity that asks the Hub is another one without a network, and asks for every concept."""
    import huggingface_hub

    asked: list[bool] = []

    def snapshot(*args: Any, local_files_only: bool, **options: Any) -> str:
        asked.append(local_files_only)
        raise FileNotFoundError

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    attack = RingABellTransfer()
    assert attack.identity()["prompts"] is None
    assert "zbench prompts pin ring-a-bell" in str(attack.supports(transfer_context("a-0")))
    assert asked and all(asked)


def test_the_set_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attack = RingABellTransfer(prompts_dir=write_set(folder))
    first = attack.identity()
    (folder / "ring-a-bell.csv").unlink()
    assert attack.identity() == first and attack.supports(transfer_context("a-0")) is None


def test_the_card_of_the_transfer_says_what_it_is() -> None:
    assert_card(RingABellTransfer)
    assert (
        "transfer" in RingABellTransfer.card.deviations[0] and "CLIP" in RingABellTransfer.card.deviations[0]
    )
