"""What of a grid is done, what is left, and how long that will take; nothing is loaded, hashed or written.

It goes by completion marks and summaries: a picture that was altered shows when the run looks at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from zbench.errors import StoreError
from zbench.runner.identity import CELLS, Identities, method_of
from zbench.runner.outlook.cell_plans import CellPlan, StagePlan, StageState, Survey
from zbench.runner.outlook.estimates import ATTACK, ERASE, ORIGINAL_PICTURES, OWN, SCORE, Estimates
from zbench.runner.planning import plan
from zbench.runner.summary import Summary, Workload, read_summaries
from zbench.runner.workshop import Workshop
from zbench.stages.erase import erase_folder, refusal
from zbench.store import DONE, MARKER, PARTIAL, WRITING, Store

if TYPE_CHECKING:
    from zbench.method import Method
    from zbench.runner.grid import Grid
    from zbench.runner.identity import CellInputs
    from zbench.runner.launchers.settings import Launch
    from zbench.runner.specs import CellSpec
    from zbench.store import StageFolder


def survey(grid: Grid) -> Survey:
    """Looks at a grid and at its run folder, which need not be there yet.

    Raises:
        ZbenchError: Something that must be mended before the grid can run.
    """
    specs = [spec for run in grid.runs for spec in plan(run)]
    kind = device_kind(grid.launch, specs[0].device)
    return survey_cells(specs, planned_store(grid.out), Identities(Workshop().model), kind)


def planned_store(root: Path) -> Store:
    """The run folder without making one.

    Raises:
        StoreError: It belongs to something else, or to a newer zbench.
    """
    place = root.expanduser().absolute()
    try:
        is_new = all(path.name.startswith(WRITING) for path in place.iterdir())
    except FileNotFoundError:
        is_new = True
    except OSError as error:
        raise StoreError(
            f"Cannot use {place} as output folder: {error.strerror}; choose another --out."
        ) from error
    if not is_new and not (place / MARKER).exists():
        raise StoreError(f"{place} is not empty and was not written by zbench; choose another --out.")
    return Store(place) if is_new else Store.open(place, create=False)


def device_kind(launch: Launch, device: str | None) -> str | None:
    """`cpu` or `cuda` where it is known without asking torch; None otherwise."""
    asked = launch.devices or ((device,) if device else ())
    kinds = {"cpu" if each.startswith("cpu") else "cuda" for each in asked}
    return kinds.pop() if len(kinds) == 1 else None


def survey_cells(
    specs: Sequence[CellSpec], store: Store, identities: Identities, kind: str | None = None
) -> Survey:
    """Looks at some cells.

    Args:
        specs: The cells, in the order in which they will be run.
        store: The run folder.
        identities: Names them.
        kind: `cpu` or `cuda`: only times of such devices are used.

    Raises:
        ZbenchError: Something that must be mended before any cell can run.
    """
    summaries = read_summaries(store.root / CELLS)
    estimates = Estimates.of(summaries.values(), kind)
    surveyor = _Surveyor(store, identities, summaries, estimates)
    return Survey(tuple(surveyor.cell(spec) for spec in specs), estimates.cells)


@dataclass
class _Surveyor:
    """Looks at cells in the order of the plan.

    Attributes:
        store: The run folder.
        identities: Names cells.
        summaries: Of all cells in the run folder, by id.
        estimates: Times of earlier cells.
        claimed: Ids of stages that cells before do.
    """

    store: Store
    identities: Identities
    summaries: dict[str, Summary]
    estimates: Estimates
    claimed: set[str] = field(default_factory=set)
    _originals: dict[tuple[int, str], StageFolder] = field(default_factory=dict)
    _attacked: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        for summary in self.summaries.values():
            done = (attack.label for attack in summary.attacks if attack.status == "done")
            hashes = (summary.workload.attacks.get(label, "") for label in done)
            self._attacked |= {(summary.erasure or summary.concept, each) for each in hashes}

    def cell(self, spec: CellSpec) -> CellPlan:
        name = self.identities.name(spec)
        known = self.summaries.get(name)
        if known is not None and known.status != "failed" and not known.failed_attacks:
            return CellPlan(spec, name, known.status, known.reason)
        if spec.problem is not None:
            return CellPlan(spec, name, "broken", _last_line(spec.problem))
        inputs = self.identities.inputs(spec)
        try:
            method = method_of(spec)
            reason = None if method is None else refusal(method, inputs.concept)
        except (Exception, SystemExit) as error:  # a stranger's code may raise anything
            return CellPlan(spec, name, "broken", _last_line(str(error)) or type(error).__name__)
        if reason is not None:
            return CellPlan(spec, name, "skipped", _last_line(reason))
        return CellPlan(spec, name, "to do", _earlier(known), self._stages(spec, inputs, method))

    def _stages(self, spec: CellSpec, inputs: CellInputs, method: Method | None) -> tuple[StagePlan, ...]:
        prompts = {role: len(of.prompts) for role, of in inputs.prompt_sets.items()}
        work = Workload.of(spec, inputs.model.identity, prompts)
        return tuple(
            StagePlan(name, state, self._seconds(name, state, work))
            for name, state in self._states(spec, inputs, method, work)
        )

    def _seconds(self, stage: str, state: StageState, work: Workload) -> float | None:
        return self.estimates.seconds(stage, work) if state in ("to do", "begun") else 0.0

    def _states(
        self, spec: CellSpec, inputs: CellInputs, method: Method | None, work: Workload
    ) -> list[tuple[str, StageState]]:
        erasure = None if method is None else erase_folder(self.store, method, inputs.concept, inputs.model)
        states: list[tuple[str, StageState]] = [] if erasure is None else [(ERASE, self._state(erasure))]
        originals = [self._original(inputs, role) for role in inputs.prompt_sets]
        own = originals if erasure is None else [self._own(inputs, erasure, r) for r in inputs.prompt_sets]
        places = zip(inputs.prompt_sets, own, strict=True)
        states += [(f"{OWN}{role}", self._state(folder)) for role, folder in places]
        if erasure is not None:
            again = zip(inputs.prompt_sets, originals, strict=True)
            states += [(f"{ORIGINAL_PICTURES}{role}", self._state(folder)) for role, folder in again]
        states.append((SCORE, self._scored(inputs, own, originals)))
        owner = spec.concept if erasure is None else erasure.id
        return states + [
            (f"{ATTACK}{each.label}", self._attack(owner, work.attacks[each.label])) for each in spec.attacks
        ]

    def _original(self, inputs: CellInputs, role: str) -> StageFolder:
        key = (id(inputs), role)
        if key not in self._originals:
            self._originals[key] = inputs.pictures(self.store, None, role)
        return self._originals[key]

    def _own(self, inputs: CellInputs, erasure: StageFolder, role: str) -> StageFolder | None:
        """None where it is not known yet: pictures are named by the weights that draw them."""
        try:
            return inputs.pictures(self.store, erasure, role) if _is_done(erasure) else None
        except (StoreError, KeyError, TypeError):  # a record that was altered; the run does it again
            return None

    def _scored(
        self, inputs: CellInputs, own: Sequence[StageFolder | None], originals: Sequence[StageFolder]
    ) -> StageState:
        drawn = [folder for folder in (*own, *originals) if folder is not None and _is_done(folder)]
        if len(drawn) < len(own) + len(originals):
            return "to do"
        try:
            return self._state(inputs.scores(self.store, drawn[: len(own)], originals))
        except (StoreError, KeyError, TypeError):
            return "to do"

    def _attack(self, owner: str, work: str) -> StageState:
        return "done" if (owner, work) in self._attacked else "to do"

    def _state(self, folder: StageFolder | None) -> StageState:
        if folder is None:
            return "to do"
        if _is_done(folder):
            return "done"
        if folder.id in self.claimed:
            return "shared"
        self.claimed.add(folder.id)
        return "begun" if (folder.path.parent / f"{PARTIAL}{folder.id}").is_dir() else "to do"


def _is_done(folder: StageFolder) -> bool:
    return (folder.path / DONE).is_file()


def _earlier(known: Summary | None) -> str:
    if known is None:
        return ""
    if known.status == "failed":
        return f"failed before: {known.reason}"
    return f"failed before: {', '.join(known.failed_attacks)}"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
