"""The page on writing an attack: its code is the example's, and the example does what the page says."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.test_docs_write_a_method import squeezed
from tests.transcription import CONCEPT
from zbench.attacks import Attack, Candidate, Context, context_for
from zbench.config import RunConfig
from zbench.edits import DeltaEdit, Edit, NoEdit
from zbench.model import Model
from zbench.prompts.sets import Prompt
from zbench.registry import load_attack

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "write-an-attack.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "docs" / "examples" / "retrace.py"
PROMPTS = (Prompt(id="a", text="a red car"), Prompt(id="b", text="an apple and a tree in the rain"))


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.M | re.S)


@pytest.fixture
def retrace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Attack]:
    """The example as an installed package offers it, under the entry point that the page shows."""
    (entry,) = blocks("toml")
    points = tomllib.loads(entry)["project"]["entry-points"]["zbench.attacks"]
    package, metadata = tmp_path / "your_package", tmp_path / "your_package-1.0.dist-info"
    package.mkdir()
    metadata.mkdir()
    (package / "__init__.py").touch()
    (package / "retrace.py").write_bytes(EXAMPLE.read_bytes())
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: your_package\nVersion: 1.0\n")
    lines = "\n".join(f"{name} = {target}" for name, target in points.items())
    (metadata / "entry_points.txt").write_text(f"[zbench.attacks]\n{lines}\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("your_package", "your_package.retrace"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return load_attack("examples/retrace")


def erasure(model: Model) -> Edit:
    """A strong edit of one projection."""
    linear = model.transformer.layers[0].attention.to_v
    drawn = torch.randn(linear.weight.shape, generator=torch.Generator().manual_seed(0))
    return DeltaEdit({"layers.0.attention.to_v": 0.5 * drawn})


def context(
    attack: Attack, model: Model, prompts: tuple[Prompt, ...] = PROMPTS, edit: Edit | None = None
) -> Context:
    return context_for(attack, model, erasure(model) if edit is None else edit, CONCEPT, prompts)


def payloads(offered: Any, prompt_id: str) -> list[Any]:
    return [each.payload for each in offered if each.prompt_id == prompt_id]


def test_every_block_of_code_is_the_examples() -> None:
    source = squeezed(EXAMPLE.read_text(encoding="utf-8"))
    assert len(blocks("python")) >= 6
    for block in blocks("python"):
        assert squeezed(block) in source, block
    assert set(re.findall(r"^```(\w+)$", PAGE, re.M)) == {"python", "console", "toml"}


def test_commands_name_the_example_and_settings_of_a_run() -> None:
    for line in "".join(blocks("console")).splitlines():
        program, command, *words = line.removeprefix("$ ").split()
        options = [word.removeprefix("--") for word in words if word.startswith("--")]
        assert program == "zbench" and command in ("attacks", "run") and "examples/retrace" in words
        assert set(options) <= set(RunConfig.model_fields), line


def test_a_larger_budget_only_appends(retrace: type[Attack], tiny_model: Model) -> None:
    small, large = retrace(budget=1, steps=2), retrace(budget=2, steps=2)
    first = list(small.attack(context(small, tiny_model)))
    second = list(large.attack(context(large, tiny_model)))
    assert [each.prompt_id for each in second] == ["a", "b", "a", "b"]
    assert all(torch.equal(one.payload, two.payload) for one, two in zip(first, second, strict=False))


def test_it_follows_the_original(retrace: type[Attack], tiny_model: Model) -> None:
    """The embeddings bring the erased model nearer to the original's path, and stay in their ball."""
    attack = retrace(budget=1, steps=25, learning_rate=0.02)
    where = context(attack, tiny_model, PROMPTS[:1])
    [candidate] = attack.attack(where)
    [caption] = tiny_model.encode([PROMPTS[0].text])
    path = tiny_model.trajectory([caption], [where.seed("path", "a")])
    count = len(path.timesteps)
    latents, wanted = (
        path.latents[:-1, 0],
        tiny_model.velocity(path.latents[:-1, 0], path.timesteps, [caption] * count),
    )
    with where.erased() as model:
        before, after = (
            (model.velocity(latents, path.timesteps, [each] * count) - wanted).square().mean()
            for each in (caption, candidate.payload)
        )
    assert after < 0.9 * before
    moved = (candidate.payload - caption).norm(dim=-1)
    assert bool((moved > 0).any()) and bool((moved <= 0.5001 * caption.norm(dim=-1)).all())
    assert candidate.spent.forwards >= 25 and candidate.spent.backwards == 25 and candidate.spent.seconds > 0


def test_it_depends_on_the_erasure_and_on_nothing_beside_a_prompt(
    retrace: type[Attack], tiny_model: Model
) -> None:
    attack = retrace(budget=1, steps=2)
    together = payloads(attack.attack(context(attack, tiny_model)), "b")
    alone = payloads(attack.attack(context(attack, tiny_model, PROMPTS[1:])), "b")
    unerased = payloads(attack.attack(context(attack, tiny_model, PROMPTS[1:], NoEdit())), "b")
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(alone[0], unerased[0], atol=1e-3)


def test_the_control_is_as_often_as_far_and_knows_nothing(retrace: type[Attack], tiny_model: Model) -> None:
    attack = retrace(budget=2, steps=1)
    offered = list(attack.control(context(attack, tiny_model)))
    assert [each.prompt_id for each in offered] == ["a", "a", "b", "b"]
    [caption] = tiny_model.encode([PROMPTS[0].text])
    for each in payloads(offered, "a"):
        torch.testing.assert_close((each - caption).norm(dim=-1), 0.5 * caption.norm(dim=-1))
    again = list(attack.control(context(attack, tiny_model, edit=NoEdit())))
    assert all(torch.equal(one.payload, two.payload) for one, two in zip(offered, again, strict=True))


def test_a_loss_that_is_no_number_fails_one_prompt(
    retrace: type[Attack], tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack, where = retrace(budget=2, steps=1), None
    where = context(attack, tiny_model)
    velocity = tiny_model.velocity

    def spoilt(latents: Any, timesteps: Any, embeddings: Any) -> Any:
        found = velocity(latents, timesteps, embeddings)
        spoil = torch.ones(len(found), 1, 1, 1)
        spoil[0] = torch.nan if torch.is_grad_enabled() and len(found) == 2 else 1.0
        return found * spoil

    monkeypatch.setattr(tiny_model, "velocity", spoilt)
    offered: list[Candidate] = list(attack.attack(where))
    assert [(each.prompt_id, each.kind) for each in offered] == [
        ("a", "failed"),
        ("b", "embedding"),
        ("b", "embedding"),
    ]
    assert offered[0].failure == "the loss is not a number"
    assert all(bool(each.payload.isfinite().all()) for each in offered[1:])


def test_edits_without_gradients_are_refused(
    retrace: type[Attack], tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = retrace()
    assert attack.supports(context(attack, tiny_model)) is None
    monkeypatch.setattr(Context, "gives_gradients", lambda self: False)
    assert attack.supports(context(attack, tiny_model)) == "the erased model gives no gradients"
