"""What every file of `results/` must satisfy: anybody can count its figures again from what it holds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import permutations
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any

from zbench.errors import StoreError
from zbench.results.groups import attacked_alike, measurement_key, supersedes
from zbench.results.outcomes import ATTACK_FIGURES, require_following
from zbench.results.refusals import refusals
from zbench.results.schema import FigureOutcomes, PublishedResult
from zbench.results.tree import Part, Problem, parts
from zbench.store import sha256_file

if TYPE_CHECKING:
    from zbench.metrics.robustness import AttackRecord

LARGEST = 1 << 18
"""Bytes of a file or sprite at most: a repository keeps every version for ever."""

_CLOSE = 1e-6
_HASH_DIGITS = 64


def check_tree(root: Path | str) -> tuple[Problem, ...]:
    """Everything that is wrong with a tree, by path.

    Args:
        root: Such as ``results``.

    Raises:
        StoreError: There is no such folder, or it holds no file that could be a result.
    """
    found = [problem for part in parts(root) for problem in check_part(part)]
    return tuple(sorted(found, key=str))


def check_part(part: Part) -> list[Problem]:
    """Everything that is wrong with the files of one concept."""
    tree = part.read()
    found = list(tree.problems)
    for result in tree.results:
        found += (Problem(str(result.place), reason) for reason in faults(result))
        found += (Problem(str(result.place), reason) for reason in _faults_of_files(part.root, result))
    return found + _twins(tree.results) + _strangers(part, tree.results)


def faults(result: PublishedResult) -> Iterator[str]:
    """What is wrong with a result by its own content, each in one line."""
    yield from refusals(result.result, shortened=True)
    yield from _of_instruments(result)
    yield from _of_layout(result)
    yield from _of_figures(result)
    yield from _of_attacks(result)
    yield from _of_paths(result)


def _of_instruments(result: PublishedResult) -> Iterator[str]:
    detectors = result.result.provenance.get("detectors") or ()
    if not detectors:
        yield "names no detector"
    for each in detectors:
        if len(each.get("file_sha256") or "") != _HASH_DIGITS:
            yield f"the detector {each.get('name')} has no hash of its weights"
    if result.release.commit is None and result.release.wheel_sha256 is None:
        yield "which code made it is unknown: neither a commit nor an installed release"


def _of_layout(result: PublishedResult) -> Iterator[str]:
    """Outcomes are as long as there are pictures, and nothing else."""
    repetitions = result.result.spec.repetitions
    for name, outcomes in result.outcomes.items():
        unknown = [role for role in outcomes.roles if role not in result.prompts]
        if unknown:
            yield f"the outcomes of {name} are of {unknown[0]} prompts, of which there are none"
            continue
        pictures = sum(result.prompts[role].prompts for role in outcomes.roles) * repetitions
        if len(outcomes.numbers) != pictures or bool(outcomes.hits) == bool(outcomes.values):
            yield f"the outcomes of {name} do not fit {pictures} pictures"


def _of_figures(result: PublishedResult) -> Iterator[str]:
    """Every figure follows from its outcomes, and every rate's interval from n of N."""
    for figure in result.result.figures:
        outcomes = result.outcomes.get(figure["name"])
        if outcomes is not None:
            yield from _not_following(figure, outcomes, result.result.spec.repetitions)
        yield from _of_bounds(figure)


def _of_attacks(result: PublishedResult) -> Iterator[str]:
    for record in result.result.attacks:
        for name in ATTACK_FIGURES:
            yield from _of_attack(record, name, result)
        for figure in record.figures:
            yield from (f"{record.label}: {reason}" for reason in _of_bounds(figure))


def _of_attack(record: AttackRecord, name: str, result: PublishedResult) -> Iterator[str]:
    figure, outcomes = record.figure(name), result.outcomes.get(f"{record.label}/{name}")
    if figure is None or figure["value"] is None:
        return
    if outcomes is None:
        yield f"{record.label}/{name} has no outcomes"
    else:
        reasons = _not_following(figure, outcomes, result.result.spec.repetitions)
        yield from (f"{record.label}: {reason}" for reason in reasons)


def _not_following(figure: Mapping[str, Any], outcomes: FigureOutcomes, repetitions: int) -> Iterator[str]:
    try:
        require_following(figure, outcomes)
    except StoreError as error:
        yield str(error)
        return
    if outcomes.hits:
        yield from _of_clusters(figure, outcomes.hits, repetitions)


def _of_clusters(figure: Mapping[str, Any], hits: str, repetitions: int) -> Iterator[str]:
    """The interval of a rate, counted again with its pictures clustered by prompt."""
    low, high, observations = _interval(hits, repetitions)
    said = figure["effective_N"] or figure["N"]
    told = (("low", low), ("high", high), ("effective N", observations))
    for (name, value), stored in zip(told, (figure["low"], figure["high"], said), strict=True):
        if stored is not None and not math.isclose(value, stored, rel_tol=_CLOSE, abs_tol=_CLOSE):
            yield f"{figure['name']}: {name} is {stored:.6g}, and its outcomes give {value:.6g}"


@cache
def _interval(hits: str, repetitions: int) -> tuple[float, float, float]:
    from zbench.statistics import Rate

    looked_at = [(place // repetitions, letter == "1") for place, letter in enumerate(hits) if letter != "-"]
    prompts, found = zip(*looked_at, strict=True)
    rate = Rate.of(found, prompts)
    bounds = rate.interval()
    assert bounds is not None  # a figure with outcomes has pictures
    return bounds.low, bounds.high, rate.observations


def _of_bounds(figure: Mapping[str, Any]) -> Iterator[str]:
    name, value, low, high = (figure[key] for key in ("name", "value", "low", "high"))
    if value is None:
        if not figure["note"]:
            yield f"{name} was not measured, and does not say why"
        return
    if low is not None and high is not None and not low - _CLOSE <= value <= high + _CLOSE:
        yield f"{name} = {value:.6g} lies outside its interval, {low:.6g} to {high:.6g}"
    if figure["n"] is not None and not math.isclose(figure["n"], value * figure["N"], abs_tol=_CLOSE):
        yield f"{name} = {value:.6g} is not {figure['n']} of {figure['N']}"


def _of_paths(result: PublishedResult) -> Iterator[str]:
    """A repository says nothing of anybody's folders."""
    spec = result.result.spec
    texts = [spec.model, *(str(each) for each in (spec.references, spec.prompts_dir, spec.imported) if each)]
    texts += [str(value) for value in spec.hyperparameters.values()]
    yield from (f"names a folder of one machine: {text}" for text in texts if PurePath(text).is_absolute())


# Files ----------------------------------------------------------------------------------------------------


def _faults_of_files(root: Path, result: PublishedResult) -> Iterator[str]:
    pictures, expected = root / result.pictures_place, result.gallery.sha256
    if (root / result.place).stat().st_size > LARGEST:
        yield f"larger than {LARGEST >> 10} KiB"
    if expected is None or not pictures.is_file():
        if pictures.is_file() != (expected is not None):
            yield f"{pictures.name} is {'missing' if expected else 'not of it'}"
        return
    if pictures.stat().st_size > LARGEST:
        yield f"{pictures.name} is larger than {LARGEST >> 10} KiB"
    if sha256_file(pictures) != expected:
        yield f"{pictures.name} is not the file that was published with it"


def _twins(results: Iterable[PublishedResult]) -> list[Problem]:
    """Results that say nothing that another one of the same measurement does not say."""
    found: defaultdict[str, list[PublishedResult]] = defaultdict(list)
    for result in results:
        found[measurement_key(result)].append(result)
    return [
        Problem(str(other.place), f"the same measurement as {first.id}: keep the one with all attacks")
        for same in found.values()
        for first, other in permutations(same, 2)
        if supersedes(first, other) or (attacked_alike(first, other) and first.id < other.id)
    ]


def _strangers(part: Part, results: Iterable[PublishedResult]) -> list[Problem]:
    """Files that belong to no result."""
    known = {*part.files, *(result.pictures_place for result in results)}
    folder = part.root / part.place
    found = (
        PurePosixPath(path.relative_to(part.root)) for path in sorted(folder.rglob("*")) if path.is_file()
    )
    return [Problem(str(path), "belongs to no result") for path in found if path not in known]
