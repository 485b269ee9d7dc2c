"""What every file of `results/` must satisfy: anybody can count its figures again from what it holds."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from itertools import permutations
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from zbench.errors import StoreError
from zbench.results.agreement import disagreements
from zbench.results.each_part import each_part
from zbench.results.groups import attacked_alike, measurement_key, supersedes
from zbench.results.outcomes import ATTACK_FIGURES, require_following
from zbench.results.refusals import COMBINED, refusals
from zbench.results.schema import FigureOutcomes, PublishedResult
from zbench.results.tree import Part, Problem, duplicate_of, folders_of_models, parts
from zbench.store import canonical_json, sha256_file

OF_WHOLE_SETS = frozenset({"precision", "manifold_precision", "recall"}) | COMBINED
"""Rates that are no shares of pictures of which each counts for itself: they have no outcomes."""

CORRECTED = "_corrected"
"""Ends the names of rates that are corrected for a detector's errors."""

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
    root = Path(root)
    found: set[Problem] = set()
    known: set[str] = set()
    stands: dict[str, PurePosixPath] = {}
    of_concepts = parts(root)
    for part, (problems, places) in zip(of_concepts, each_part(_of_part, of_concepts, 1), strict=True):
        found.update(problems)
        known.update(str(each) for file in part.files for each in (file, file.with_suffix(".webp")))
        for cell, place in places.items():
            if stands.setdefault(cell, place) != place:
                found.add(Problem(str(place), duplicate_of(cell, stands[cell])))
    return tuple(sorted({*found, *_strangers(root, known)}, key=str))


def _of_part(part: Part) -> tuple[list[Problem], dict[str, PurePosixPath]]:
    """Everything that is wrong with the files of one concept, and where its cells stand."""
    tree = part.read()
    found = list(tree.problems)
    for result in tree.results:
        found += (Problem(str(result.place), reason) for reason in faults(result))
        found += (Problem(str(result.place), reason) for reason in _faults_of_files(part.root, result))
    return found + _twins(tree.results), {result.id: result.place for result in tree.results}


def faults(result: PublishedResult) -> Iterator[str]:
    """What is wrong with a result by its own content, each in one line."""
    yield from refusals(result.result, shortened=True)
    yield from disagreements(result)
    yield from _of_names(result)
    yield from _of_numbers(result)
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


def _of_names(result: PublishedResult) -> Iterator[str]:
    """A figure has one value, and an attack one record."""
    cell = result.result
    named = [("the figure", figure["name"]) for figure in cell.figures]
    named += [("the attack", record.label) for record in cell.attacks]
    for record in cell.attacks:
        named += [("the figure", f"{record.label}/{figure['name']}") for figure in record.figures]
    for (kind, name), number in Counter(named).items():
        if number > 1:
            yield f"{kind} {name} stands in it {number} times"


def _of_numbers(result: PublishedResult) -> Iterator[str]:
    """What reading did not look into, since nobody computes with it."""
    cell = result.result
    figures = (*cell.figures, *(figure for record in cell.attacks for figure in record.figures))
    plain = [cell.provenance, cell.verdict, [figure["settings"] for figure in figures]]
    attacks = [[each.hyperparameters, each.spent] for each in cell.attacks]
    try:
        canonical_json([*plain, *attacks, [each.hyperparameters for each in cell.spec.attacks]])
    except (ValueError, TypeError) as error:
        yield f"holds what is no number: {error}"


def _of_layout(result: PublishedResult) -> Iterator[str]:
    """Outcomes are as long as there are pictures, and nothing else."""
    repetitions = result.result.spec.repetitions
    measured = {figure["name"] for figure in result.result.figures}
    measured |= {f"{record.label}/{each}" for record in result.result.attacks for each in ATTACK_FIGURES}
    for name, outcomes in result.outcomes.items():
        unknown = [role for role in outcomes.roles if role not in result.prompts]
        if unknown:
            yield f"the outcomes of {name} are of {unknown[0]} prompts, of which there are none"
            continue
        pictures = sum(result.prompts[role].prompts for role in outcomes.roles) * repetitions
        if len(outcomes.numbers) != pictures or bool(outcomes.hits) == bool(outcomes.values):
            yield f"the outcomes of {name} do not fit {pictures} pictures"
        if name not in measured:
            yield f"there are outcomes of {name}, and no such figure"


def _of_figures(result: PublishedResult) -> Iterator[str]:
    """Every figure follows from its outcomes, and every rate's interval from n of N."""
    for figure in result.result.figures:
        yield from _of_figure(figure, figure["name"], result, needs_outcomes(figure))
        yield from _of_bounds(figure)


def needs_outcomes(figure: Mapping[str, Any]) -> bool:
    """Whether a plain figure must be there picture by picture: every rate that is a share of pictures."""
    whole = figure["name"] in OF_WHOLE_SETS or figure["name"].endswith(CORRECTED)
    return figure["unit"] == "rate" and not whole


def _of_attacks(result: PublishedResult) -> Iterator[str]:
    for record in result.result.attacks:
        for figure in record.figures:
            made_up = figure["name"] in ATTACK_FIGURES
            name = f"{record.label}/{figure['name']}"
            reasons = (*_of_figure(figure, name, result, made_up), *_of_bounds(figure))
            yield from (f"{record.label}: {reason}" for reason in reasons)


def _of_figure(figure: Mapping[str, Any], name: str, result: PublishedResult, needed: bool) -> Iterator[str]:
    outcomes = result.outcomes.get(name)
    if figure["value"] is None:
        if outcomes is not None and any(number is not None for number in outcomes.numbers):
            yield f"{name} was not measured, and has outcomes"
    elif outcomes is None:
        if needed:
            yield f"{name} has no outcomes"
    elif bool(outcomes.hits) != (figure["unit"] == "rate"):
        kind = "hits" if outcomes.hits else "values"
        yield f"the outcomes of {name} are {kind}, and its unit is {figure['unit']}"
    else:
        yield from _not_following(figure, outcomes, result.result.spec.repetitions)


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
    if (low is None) != (high is None):
        yield f"{name} has only one end of an interval"
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
    pictures = root / result.pictures_place
    yield from too_large(result, (root / result.place).stat().st_size)
    if pictures.is_file():
        yield from too_large(result, pictures.stat().st_size, pictures.name)
    fault = fault_of_pictures(root, result)
    if fault is not None:
        yield fault


def too_large(result: PublishedResult, size: int, name: str = "") -> Iterator[str]:
    """Whether a file is one that a repository should not keep.

    Args:
        result: Whose it is.
        size: In bytes.
        name: Of the file; empty for the result's own.
    """
    if size > LARGEST:
        yield f"{name or f'{result.id}.json'} is larger than {LARGEST >> 10} KiB"


def fault_of_pictures(root: Path, result: PublishedResult) -> str | None:
    """What is wrong with a result's small pictures; None where they are those that it names."""
    pictures, expected = root / result.pictures_place, result.gallery.sha256
    if pictures.is_file() != (expected is not None):
        return f"{pictures.name} is {'missing' if expected else 'not of it'}"
    if expected is not None and sha256_file(pictures) != expected:
        return f"{pictures.name} is not the file that was published with it"
    return None


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


def _strangers(root: Path, known: Collection[str]) -> Iterator[Problem]:
    """Files that belong to no result, and links, which git keeps as the place that they lead to."""
    for model in folders_of_models(root):
        for folder, folders, files in os.walk(root / model):
            place = PurePosixPath(Path(folder).relative_to(root))
            for name in (*folders, *files):
                if os.path.islink(os.path.join(folder, name)):
                    yield Problem(str(place / name), "a link: put the file itself here")
            own = (f"{place}/{name}" for name in files)
            yield from (Problem(each, "belongs to no result") for each in own if each not in known)
