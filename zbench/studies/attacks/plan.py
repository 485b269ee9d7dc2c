"""What is attacked by what, claim by claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from zbench.config import ORIGINAL
from zbench.errors import UnknownNameError
from zbench.registry import load_attack
from zbench.runner.planning import ATTACK_PRESET_OF_DOMAIN
from zbench.runner.specs import AttackSpec
from zbench.validation import validated

if TYPE_CHECKING:
    from zbench.attacks.base import Attack

Claim = Literal["finds", "returns", "oracle", "bypass"]
"""Finds it in the unerased model; brings it back; cannot pass the oracle; passes it as embeddings."""

ORACLE, ZEROING = "oracle", "token_zeroing"
TARGETS: dict[Claim, str] = {"finds": ORIGINAL, "returns": ZEROING, "oracle": ORACLE, "bypass": ORACLE}

THOROUGH = "thorough"
"""Preset of attacks that need more than their quick one to find whatever is there to be found."""

_TOWARDS = {"target": "concept"}
_CONTINUOUS = {"variant": "continuous"}


@dataclass(frozen=True)
class Case:
    """One attack on one model.

    Attributes:
        claim: What it is evidence for.
        label: As tables print it.
        attack: Name of the attack.
        fields: Over its preset.
    """

    claim: Claim
    label: str
    attack: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def target(self) -> str:
        """Name of the attacked model."""
        return TARGETS[self.claim]


FINDERS = (
    Case("finds", "concept_vector", "concept_vector"),
    Case("finds", "unlearndiffatk", "unlearndiffatk", _TOWARDS),
    Case("finds", "unlearndiffatk, continuous", "unlearndiffatk", _TOWARDS | _CONTINUOUS),
    Case("finds", "p4d", "p4d", _TOWARDS),
    Case("finds", "concept_inversion", "concept_inversion"),
)
"""White-box attacks; those with a target picture take it from the concept, which their prompts lack."""

_REWORDINGS = ("typo", "affix", "synonym", "paraphrase", "translation", "word_order")
CASES = (
    *FINDERS,
    *(Case("returns", name, name) for name in ("typo", "affix")),
    *(Case("oracle", name, name) for name in (*_REWORDINGS, "mma", "ring_a_bell", "unlearndiffatk")),
    Case("bypass", "concept_vector", "concept_vector"),
)

Settings = Mapping[str, Mapping[str, Any]]


def chosen_cases(names: Sequence[str] | str | None) -> list[Case]:
    """The cases of some attacks, of all for None.

    Args:
        names: Attacks, or one text with commas.

    Raises:
        UnknownNameError: An attack is not in this study; close matches are named.
    """
    listed = names.split(",") if isinstance(names, str) else list(names or ())
    wanted = [name.strip() for name in listed if name.strip()]
    known = dict.fromkeys(case.attack for case in CASES)
    for name in wanted:
        if name not in known:
            raise UnknownNameError.of("attack of this study", name, known)
    return [case for case in CASES if not wanted or case.attack in wanted]


def preset_of(case: Case, domain: str) -> str | None:
    """Whose values an attack starts from: `THOROUGH` where it is to find what is there and has that preset.

    Presets are chosen on the picture world; on other models the values are those of the class.
    """
    usual = ATTACK_PRESET_OF_DOMAIN.get(domain)
    wanted = (THOROUGH, usual) if usual and case.claim == "finds" else (usual,)
    known = load_attack(case.attack).presets
    return next((each for each in wanted if each in known), None)


def attack_of_case(case: Case, domain: str, settings: Settings, **more: Any) -> Attack:
    """The attack with its preset for a domain.

    Args:
        case: Whose fields are set over the preset.
        domain: Of the model.
        settings: Attack -> fields over all others.
        **more: Fields over even those.

    Raises:
        UnknownNameError: A field is unknown.
        ConfigurationError: A value is out of range.
    """
    kind = load_attack(case.attack)
    start = kind.presets.get(preset_of(case, domain) or "", {})
    values = {**start, **case.fields, **settings.get(case.attack, {}), **more}
    return validated(kind, values, prefix=f"{case.attack}.")


def spec_of(case: Case, domain: str, settings: Settings) -> AttackSpec:
    """The same as the runner takes it."""
    fields = attack_of_case(case, domain, settings).model_dump(mode="json")
    return AttackSpec(name=case.attack, preset=preset_of(case, domain), hyperparameters=fields)
