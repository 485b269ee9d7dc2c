"""The study itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from zbench.studies import Progress, make_folder, write_study
from zbench.studies.attacks.bench import Bench, Finding
from zbench.studies.attacks.claims import claim_verdict, overall, rows_of
from zbench.studies.attacks.page import render_page
from zbench.studies.attacks.pictures import before_and_after, budget_curves
from zbench.studies.attacks.plan import Case, attack_of_case, chosen_cases
from zbench.studies.attacks.sanity import candidate_checks, curve_checks

FEW = 3
"""Prompts whose candidates are made with two budgets and against two models."""


def attacks_study(
    out: Path,
    model: str = "miniature",
    progress: Progress | None = None,
    *,
    concept: str = "violence",
    protocol: str = "zbench",
    prompts: int = 20,
    starts: int = 40,
    start_from: Literal["neighbours", "unrelated"] = "neighbours",
    attacks: Sequence[str] | str | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    drawn_at_once: int = 16,
    work: str | None = None,
) -> dict[str, Any]:
    """Measures whether attacks find what is there, and nothing where nothing is.

    What was made before is found again.

    Args:
        out: Folder of the results: `study.json`, `study.md`, `curves.png`, `sheet.png`.
        model: Catalogue name or folder.
        progress: Told about finished attacks.
        concept: What is attacked for, and what the attacked erasures erase.
        protocol: Whose first detector judges; prompts are always those of the tuning split.
        prompts: Prompts that name the concept.
        starts: Prompts without the concept. With 36 or fewer, not even all of them could show that at least
            90 % are found: the interval would begin below.
        start_from: Tuning set of those: the concept's ``neighbours``, or ``unrelated`` ones.
        attacks: Names of attacks, or one text with commas; all of the study's when None.
        settings: Attack -> fields over its preset.
        drawn_at_once: Pictures per batch.
        work: Run folder for candidates and pictures; `work` under `out` when None.

    Returns:
        What `study.json` holds.

    Raises:
        UnknownNameError: A name is unknown.
        ConfigurationError: A field is out of range, or the detector knows nothing of the concept.
        StoreError: A folder cannot be used.
    """
    cases = chosen_cases(attacks)
    make_folder(out)
    folder = Path(work) if work else out / "work"
    bench = Bench(folder, model, concept, protocol, settings or {}, drawn_at_once)
    for case in cases:
        attack_of_case(case, bench.domain, bench.settings)  # what is wrong is said before any work
    with bench.store.lock():
        study = _Study(bench, cases, progress)
        record, files = study.measure(prompts, starts, start_from)
    write_study(out, "attacks", record, render_page(record), files, model=bench.handle)
    return record


class _Study:
    """Everything that is measured, each part once."""

    def __init__(self, bench: Bench, cases: Sequence[Case], progress: Progress | None) -> None:
        self.bench, self.cases = bench, cases
        self._advance: Callable[[int], None] = lambda done: None
        if progress is not None:
            self._advance = lambda done: progress(done, len(cases) + 1)

    def measure(self, prompts: int, starts: int, start_from: str) -> tuple[dict[str, Any], dict[str, bytes]]:
        """The record, and the pictures by file name."""
        concept = self.bench.concept.name
        name = f"{concept}-neighbours" if start_from == "neighbours" else start_from
        free, left_out = self.bench.without_concept(self.bench.prompts(name), starts)
        asked = self.bench.prompts(f"{concept}-explicit").head(prompts)
        findings = []
        for done, case in enumerate(self.cases, start=1):
            findings.append(self.bench.find(case, free if case.claim == "finds" else asked))
            self._advance(done)
        rows = rows_of(findings)
        finders = [case for case in self.cases if case.claim == "finds"]
        sanity = {**curve_checks(rows), **candidate_checks(self.bench, finders, asked.head(FEW))}
        self._advance(len(self.cases) + 1)
        sets = {"free": {**_described(free), "left_out": left_out}, "asked": _described(asked)}
        record = {"config": {**self._config(), **sets}, "attacks": rows, "sanity": sanity}
        return {**record, "verdicts": verdicts(record)}, self._pictures(rows, findings, free)

    def _pictures(
        self, rows: Sequence[Mapping[str, Any]], findings: Sequence[Finding], free: Any
    ) -> dict[str, bytes]:
        found = [finding for finding in findings if finding.case.claim == "finds"]
        files = {"curves.png": budget_curves(rows), "sheet.png": before_and_after(found, free, self.bench)}
        return {name: data for name, data in files.items() if data is not None}

    def _config(self) -> dict[str, Any]:
        bench = self.bench
        zeroing = bench.method("token_zeroing")
        assert zeroing is not None
        return {
            "model": bench.handle.spec.label,
            "identity": bench.handle.identity,
            "protocol": bench.spec.protocol,
            "concept": bench.concept.name,
            "anchor": bench.concept.anchor,
            "detector": bench.judge.describe(),
            "steps": bench.spec.steps,
            "token_zeroing": zeroing.model_dump(mode="json"),
        }


def verdicts(record: Mapping[str, Any]) -> dict[str, str]:
    """One word for each claim and check."""
    rows, sanity = record["attacks"], record["sanity"]
    claims = {claim: claim_verdict(rows, claim) for claim in ("finds", "returns", "oracle", "bypass")}
    checks = {name: sanity[name]["verdict"] for name in ("zero", "rising")}
    lists = {name: overall(row["verdict"] for row in sanity[name]) for name in ("prefix", "weights")}
    return {**claims, **checks, **lists}


def _described(prompts: Any) -> dict[str, Any]:
    return {"set": prompts.name, "number": len(prompts.prompts), "sha256": prompts.sha256}
