"""Protocols: what is shipped is whole, overrides merge, impossible ones are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zbench.concepts import concept_names, load_concept
from zbench.config import RunConfig
from zbench.errors import ConfigurationError, UnknownNameError
from zbench.prompts import external_set_names, prompt_set_names
from zbench.protocols import (
    ROLES,
    DomainProtocol,
    Protocol,
    load_protocol,
    protocol_names,
    require_one_protocol,
)
from zbench.registry import detector_names
from zbench.report.header import header_lines
from zbench.runner.planning import plan
from zbench.runner.roles import describe_set, prompt_sets_of


@pytest.fixture(autouse=True)
def _no_model_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ZBENCH_MODEL", raising=False)
    monkeypatch.chdir(tmp_path)


BASE: dict[str, Any] = {
    "prompt_sets": {"explicit": "{concept}-explicit", "implicit": "{concept}-implicit", "unrelated": "u"},
    "detectors": ["a", "b"],
    "thresholds": {"a": 0.3, "b": 0.4},
    "clip": "tiny/none",
}

NOTHING = {"prompt_sets": dict.fromkeys(BASE["prompt_sets"], "")}


def protocol_with(**overrides: Any) -> Protocol:
    return Protocol(name="p", version=1, summary="", domains={"world": {**BASE, **overrides}})


def test_shipped_protocols_are_whole() -> None:
    assert set(protocol_names()) >= {"paper", "zbench"}
    protocol = load_protocol("zbench")
    assert protocol.label == "zbench v2" and set(protocol.domains) == {"world", "photograph"}
    world = protocol.domain("world")
    assert list(world.sets_for("cat")) == list(ROLES)
    assert world.sets_for("cat")["synonyms"] == "cat-synonyms"
    assert world.detectors == ("world", "world_second") and world.reference == "world:evaluation"
    assert world.held_out_reference != world.reference and world.training_seeds_for_claims == 3
    with pytest.raises(ConfigurationError, match="covers world, photograph, not 'audio'"):
        protocol.domain("audio")
    with pytest.raises(UnknownNameError, match="Did you mean zbench"):
        load_protocol("zbnch")


@pytest.mark.parametrize("name", ["paper", "paper-attacks", "zbench"])
def test_every_table_names_detectors_and_sets_that_exist(name: str) -> None:
    protocol = load_protocol(name)
    for domain in protocol.domains:
        for concept in (load_concept(each, domain) for each in concept_names(domain)):
            table = protocol.table(domain, concept.name, concept.family)
            assert set(table.detectors) <= set(detector_names())
            sets = table.sets_for(concept.name)
            known = {*prompt_set_names(domain), *external_set_names()}
            patterns = {role: table.prompt_sets[role] for role in sets}
            fixed = {sets[role] for role, pattern in patterns.items() if "{" not in pattern}
            assert fixed <= known, concept.name
            concept_roles = {"explicit", "implicit"} & {role for role, name in sets.items() if name in known}
            assert concept_roles, f"{concept.name} has nothing to measure its erasure on"


def test_the_papers_figures_are_measured_as_the_paper_says() -> None:
    paper = load_protocol("paper")
    nudity = paper.table("photograph", "nudity", "nsfw")
    assert (nudity.height, nudity.width, nudity.steps, nudity.guidance_scale) == (512, 512, 8, 0.0)
    assert nudity.detectors[0] == "nudenet" and nudity.thresholds["nudenet"] == 0.6
    assert "i2p" in nudity.sets_for("nudity").values()
    assert nudity.prompt_sets["unrelated"] == "coco-10k"
    violence = paper.table("photograph", "violence", "nsfw")
    assert violence.detectors[0] == "q16" and "clip_violence" not in violence.detectors
    assert paper.table("photograph", "church", "entity").detectors[0] == "clip_zero_shot"


def test_the_papers_figures_have_a_version_in_the_picture_world() -> None:
    """The same roles, and pictures that other protocols draw too: erasures and pictures are shared."""
    paper, zbench = load_protocol("paper"), load_protocol("zbench")
    assert paper.label == "paper v1" and set(paper.domains) == {"world", "photograph"}
    for name, family in (
        ("nudity", "nsfw"),
        ("violence", "nsfw"),
        ("cat", "entity"),
        ("four-people", "identity"),
    ):
        world, large = paper.table("world", name, family), paper.table("photograph", name, family)
        assert set(world.prompt_sets) == set(large.prompt_sets), name
        assert (world.steps, world.height, world.guidance_scale) == (None, None, None)
    own = paper.table("world", "nudity", "nsfw").sets_for("nudity")
    assert own.items() <= zbench.table("world", "nudity", "nsfw").sets_for("nudity").items()
    attacks = load_protocol("paper-attacks")
    assert attacks.table("photograph", "nudity", "nsfw").sets_for("nudity")["explicit"] == "ring-a-bell"
    assert attacks.table("world", "nudity", "nsfw").sets_for("nudity")["explicit"] == "nudity-explicit"


def test_overrides_merge_family_first_then_concept() -> None:
    protocol = protocol_with(
        families={"nsfw": {"detectors": ["b"], "prompt_sets": {"implicit": "shared"}}},
        concepts={"red": {"thresholds": {"b": 0.9}, "prompt_sets": {"explicit": ""}, "repetitions": 4}},
    )
    plain, nsfw = protocol.table("world", "green", "style"), protocol.table("world", "green", "nsfw")
    red = protocol.table("world", "red", "nsfw")
    assert plain == protocol.domain("world") and plain.thresholds == {"a": 0.3, "b": 0.4}
    assert nsfw.detectors == ("b",) and nsfw.thresholds == {"b": 0.4}
    assert nsfw.sets_for("green") == {"explicit": "green-explicit", "implicit": "shared", "unrelated": "u"}
    assert red.thresholds == {"b": 0.9} and red.repetitions == 4 and "explicit" not in red.prompt_sets


@pytest.mark.parametrize(
    "change",
    [
        {"detectors": ()},
        {"prompt_sets": {"explcit": "x"}},
        {"prompt_sets": {}},
        {"thresholds": {"other": 0.5}},
        {"steps": 0},
        {"sweep": (0.5, 0.4)},
        {"sweep": (0.0, 0.4)},
        {"height": 3},
        {"unknown": 1},
    ],
)
def test_impossible_protocols(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        DomainProtocol.model_validate({**BASE, **change})
    with pytest.raises(ValueError, match=r"."):
        protocol_with(concepts={"red": NOTHING if change == {"prompt_sets": {}} else change})
    with pytest.raises(ValueError, match="version"):
        Protocol(name="x", version=0, summary="", domains={"world": BASE})


def test_two_protocols_are_never_mixed() -> None:
    require_one_protocol([])
    require_one_protocol(["zbench v2", "zbench v2"])
    with pytest.raises(
        ConfigurationError, match=r"do not compare: paper v1, zbench v2; make one table"
    ) as caught:
        require_one_protocol(["zbench v2", "paper v1"])
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the form and size of the sets that users fetch; two rows are about minors."""
    folder = tmp_path_factory.mktemp("fetched")
    for name, count in (("i2p", 4703), ("coco-10k", 10000)):
        rows = [f"a photo of thing number {i}" for i in range(count - 2)] + ["a child on a swing"] * 2
        (folder / f"{name}.csv").write_text("prompt\n" + "\n".join(rows) + "\n")
    return folder


def test_the_papers_run_is_planned_from_the_users_files(fetched: Path) -> None:
    asked = {"methods": ("uce",), "concept": "nudity", "model": "z-image-turbo", "protocol": "paper"}
    config = RunConfig.create({**asked, "prompts_dir": fetched})
    cells = plan(config)
    assert {(c.steps, c.height, c.width, c.guidance_scale) for c in cells} == {(8, 512, 512, 0.0)}
    lines = header_lines(config, cells)
    assert "Protocol paper v1, prompts implicit 4701, unrelated 9998, repetitions 1" in lines
    assert not any(line.startswith("Not as the protocol says") for line in lines)
    table = load_protocol("paper").table("photograph", "nudity", "nsfw")
    sets = prompt_sets_of(table, load_concept("nudity", "photograph"), "photograph", prompts_dir=fetched)
    facts = describe_set(sets["implicit"])
    assert (facts["set"], facts["size"], facts["removed"], facts["pin"]) == ("i2p", 4701, 2, "unpinned")


def test_a_run_that_departs_from_its_protocol_says_so() -> None:
    asked = {"methods": ("uce",), "concept": "cat", "prompts": 4, "steps": 3, "height": 64}
    config = RunConfig.create(asked)
    assert "Not as the protocol says: the first 4 prompts of each set, steps 3" in header_lines(
        config, plan(config)
    )
