"""`zbench attacks`: a light list and whole cards; the page on attacks says what is so."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import ClassVar, get_args

import pytest
from pydantic import Field

from tests.test_cli_catalogue import HEAVY
from zbench.attacks import Attack, AttackCard, Knowledge
from zbench.cli.attack_cards import KNOWLEDGE, attacks, card_of, fact_lines, listing, listing_lines
from zbench.cli.cards import render
from zbench.config import DEFAULT_ATTACKS
from zbench.errors import UnknownNameError
from zbench.registry import load_attack, own_attack_names

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "attacks.md").read_text(encoding="utf-8")


class Prefix(Attack):
    """Puts a word in front.

    Attributes:
        word: What is put there.
        reach: How far.
    """

    name: ClassVar[str] = "prefix"
    card: ClassVar[AttackCard] = AttackCard(
        title="Prefix", paper="Doe: Words, 2025", arxiv="2501.00001", knowledge="text",
        control="other words, as many", deviations=("one word only",), notes=("weak",),
    )  # fmt: skip
    presets: ClassVar = {"paper": {"word": "big"}, "miniature": {"budget": 2}}
    model_wide: ClassVar[bool] = True

    word: str = "small"
    reach: float = Field(default=0.5, ge=0, le=1)

    def attack(self, context):  # type: ignore[no-untyped-def]
        yield from ()


def test_the_list_is_light_and_whole() -> None:
    """In a process of its own: cards are listed without torch, whatever attacks do later."""
    code = (
        "import sys, json\nfrom zbench.cli.attack_cards import attacks\nattacks(json=True)\n"
        "print('@' + json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rows, _, modules = done.stdout.rpartition("@")
    assert set(json.loads(modules)).isdisjoint(HEAVY)
    found = {row["name"]: row for row in json.loads(rows)}
    assert set(own_attack_names()) <= set(found)
    broken = {name: row["problem"] for name, row in found.items() if row["problem"]}
    assert not broken
    assert all(found[name]["title"] and found[name]["paper"] for name in own_attack_names())


def test_weaker_attackers_come_first() -> None:
    order = [row["knowledge"] for row in listing() if row["knowledge"]]
    assert order == sorted(order, key=get_args(Knowledge).index) and set(KNOWLEDGE) == set(
        get_args(Knowledge)
    )


def test_lines_show_what_cannot_be_used_and_what_is_a_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zbench.registry.attack_names", lambda: ["gone", "some/body"])
    monkeypatch.setattr("zbench.registry.own_attack_names", lambda: ("gone",))
    gone, strangers = sorted(listing_lines(listing()))
    assert gone.startswith("gone       cannot be used: ") and "'gone'" in gone
    assert strangers == "some/body  from another package: zbench attacks some/body"
    assert listing_lines([]) == ["none"]


def test_a_card_has_fields_presets_deviations_and_control() -> None:
    from rich.console import Console

    card = json.loads(json.dumps(card_of(Prefix)))
    assert card["control"] == "other words, as many" and card["model_wide"] is True
    assert card["fields"]["reach"]["type"] == "float, ≥ 0, ≤ 1"
    assert card["fields"]["budget"]["description"].startswith("Judged candidates")
    assert card["presets"] == {"paper": {"word": "big"}, "miniature": {"budget": 2}}
    console = Console(width=160)
    with console.capture() as capture:
        console.print(render(fact_lines(card), card))
    text = capture.get()
    shown = ("prefix: Prefix", "Words, 2025, arXiv 2501.00001", "attacker: types prompts", "  - weak",
             "changed models", "control: other words", "  - one word only", "What is put there.")  # fmt: skip
    for part in shown:
        assert part in text, part


def test_every_field_of_every_attack_is_described() -> None:
    for name in own_attack_names():
        fields = card_of(load_attack(name))["fields"]
        assert [field for field, of in fields.items() if not of["description"]] == [], name


@pytest.mark.parametrize("name", ["replay", "replay:"])
def test_replays_have_a_card_that_says_how_they_are_named(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    attacks(name)
    shown = " ".join(capsys.readouterr().out.split())
    assert "Replay of stored candidates" in shown and "replay:PATH" in shown


def test_unknown_names_are_told_with_close_ones() -> None:
    with pytest.raises(UnknownNameError, match="typo"):
        attacks("tpyo")


# The page on attacks --------------------------------------------------------------------------------------


def ladder() -> dict[str, list[str]]:
    """Kind of attacker -> attacks that the page names."""
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (`.*`) \|$", PAGE, re.M)
    return {kind: re.findall(r"`(\w+)`", names) for kind, names in rows}


def test_the_page_names_every_attack_under_what_it_needs() -> None:
    assert list(ladder()) == list(get_args(Knowledge))
    named = {name: kind for kind, names in ladder().items() for name in names}
    assert named == {name: load_attack(name).card.knowledge for name in own_attack_names()}
    assert [named[name] for name in DEFAULT_ATTACKS] == list(get_args(Knowledge)), "one of each kind"


def test_the_pages_arithmetic_is_right() -> None:
    sums = re.findall(r"1 - 0\.99\^(\d+) = ([\d.]+) %", PAGE)
    assert len(sums) == 2
    for count, percent in sums:
        assert f"{100 * (1 - 0.99 ** int(count)):.1f}" == percent


def test_the_pages_name_the_figures_and_files_that_there_are() -> None:
    from tests.attack_records import record
    from zbench.report.attack_files import ATTACK_FILES

    measured = {figure["name"].removesuffix("@shown") for figure in record("typo", 5, 20, 9).figures}
    under_attack = (DOCS / "metrics.md").read_text().split("## Under attack")[1].split("##")[0]
    name = r"`((?:attack|control|retry)_(?!prompts|sheet|cost|p_holm)\w+)`"
    for page in (PAGE, under_attack):
        assert set(re.findall(name, page)) == measured
    assert set(re.findall(r"^\| `(attacks\S*)` \|", PAGE, re.M)) == set(ATTACK_FILES)
