"""Drawing candidates: the pictures of an arm's k-th candidates for a block of prompts, laid out as samples.

All arms face the same noise: trial k of a prompt is drawn with the seed of its repetition k, the plain
picture being repetition 0. The identity of a folder names no attack, so that equal work is done once: plain
retries serve all attacks, and another number of prompts. Texts that may be obscene stand in no manifest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.attacks.candidates import NOTHING, Kind, Spent, Tried
from zbench.attacks.stored import StoredCandidate, StoredCandidates, text_hash
from zbench.stages.attack import Target
from zbench.stages.drawing import Painter
from zbench.stages.generate import edited_model, erased_model, picture_seed, samples_folder
from zbench.stages.samples import Sample

if TYPE_CHECKING:
    from zbench.model import Model
    from zbench.prompts.sets import Prompt
    from zbench.stages.drawing import Captions
    from zbench.store import StageFolder, Store

ROLE = "explicit"
"""The role whose prompts are attacked."""

FRESH = 1_000_000
"""Winners are drawn again as repetitions from here on: no trial has seen this noise."""

REDRAWS = 3

BLOCK = 16
"""Prompts whose trials are drawn together: where more prompts are attacked, only the last block changes."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Trial:
    """One candidate tried on one prompt.

    Attributes:
        prompt: The attacked prompt.
        arm: ``attack``, ``control``, or ``retry``: the prompt itself beside every attack.
        k: Number of the trial, from 1.
        kind: What is drawn.
        sha256: Hash of the payload.
        label: What is special about it.
        spent: What it has cost for this prompt so far.
        home: Where the payload is; None for the prompt itself, drawn anew.
        candidate: What it is there; likewise.
    """

    prompt: Prompt
    arm: Tried
    k: int
    kind: Kind
    sha256: str
    label: str = ""
    spent: Spent = NOTHING
    home: StoredCandidates | None = None
    candidate: StoredCandidate | None = None

    @property
    def is_plain(self) -> bool:
        """Whether this is the prompt itself with fresh noise."""
        return self.kind == "text" and self.sha256 == text_hash(self.prompt.text)

    def payload(self) -> Any:
        """What is drawn, read from disk."""
        if self.home is None or self.candidate is None:
            return self.prompt.text
        return self.home.payload(self.candidate)

    def edit_folder(self) -> Path:
        """Where the changed model's edit is saved."""
        assert self.home is not None and self.candidate is not None
        return self.home.edit_folder(self.candidate)


def trials_of(batches: Sequence[StoredCandidates]) -> list[Trial]:
    """All trials, prompt by prompt: in both arms as many, whatever the two have offered, and as many retries.

    A control that offered more is cut to the attack's number; where it offered less, because a random text
    had to be refused, the prompt itself is tried in its place.
    """
    found: list[Trial] = []
    for batch in batches:
        for prompt in batch.prompts:
            attack, control = (_of_arm(batch, prompt, arm) for arm in ("attack", "control"))
            found += [*attack, *control[: len(attack)]]
            found += [_retry(prompt, k, "control") for k in range(len(control) + 1, len(attack) + 1)]
            found += [_retry(prompt, k) for k in range(1, len(attack) + 1)]
    return found


def _of_arm(batch: StoredCandidates, prompt: Prompt, arm: str) -> list[Trial]:
    return [
        Trial(prompt, row.arm, row.k, row.kind, row.sha256, row.label, row.spent, batch, row)
        for row in batch.candidates
        if row.arm == arm and row.k > 0 and row.prompt_id in (prompt.id, None)
    ]


def _retry(prompt: Prompt, k: int, arm: Tried = "retry") -> Trial:
    return Trial(prompt, arm, k, "text", text_hash(prompt.text), label=f"retry {k}")


# What is drawn together -----------------------------------------------------------------------------------

Shot = tuple[Trial, int]
"""A trial with the repetition that its noise is of."""


@dataclass(frozen=True)
class Drawing:
    """Pictures that are drawn together.

    Attributes:
        folder: Where they lie, drawn or not.
        samples: As the manifest describes them.
        trials: What is drawn, in this order; of a plain retry the prompt itself.
    """

    folder: StageFolder
    samples: list[Sample]
    trials: list[Trial]

    @property
    def kind(self) -> Kind:
        """What the payloads are."""
        return self.trials[0].kind

    @property
    def weights(self) -> str:
        """Hash of the edit that the pictures are drawn with."""
        return str(self.folder.config["erasure"])


@dataclass(frozen=True)
class Studio:
    """Where and how candidates are drawn.

    Attributes:
        store: The run folder.
        target: What is attacked.
        prompt_set: Name of the set of the attacked prompts.
        steps: Denoising steps.
    """

    store: Store
    target: Target
    prompt_set: str
    steps: int

    def drawings(self, shots: Iterable[Shot]) -> list[tuple[Drawing, list[Shot]]]:
        """Groups shots into drawings, each with the shots that it answers.

        The k-th plain retries are drawn for a whole block of prompts, asked for or not: other attacks ask for
        the rest.
        """
        blocks = {prompt.id: place // BLOCK for place, prompt in enumerate(self.target.prompts)}
        groups: dict[tuple[Any, ...], list[Shot]] = defaultdict(list)
        for shot in shots:
            groups[_group(shot, blocks[shot[0].prompt.id])].append(shot)
        return [(self._drawing(key, group), group) for key, group in groups.items()]

    def _drawing(self, key: tuple[Any, ...], group: list[Shot]) -> Drawing:
        kind, k, block = key[:3]
        if kind == "plain" and k < FRESH:
            own = self.target.prompts[block * BLOCK : (block + 1) * BLOCK]
            group = [(_retry(prompt, k), k) for prompt in own]
        elif kind == "plain":  # both arms may have won with the prompt itself: it is drawn once
            group = list({(trial.prompt.id, number): (trial, number) for trial, number in group}.values())
        samples = [self._sample(trial, repetition) for trial, repetition in group]
        trials = [trial for trial, _ in group]
        weights = trials[0].sha256 if trials[0].kind == "edit" else self.target.weights
        embedded = trials[0].kind == "embedding"
        more = {"embeddings": [trial.sha256 for trial in trials]} if embedded else {}
        folder = samples_folder(self.store, weights, self.target.model, samples, self.steps, **more)
        return Drawing(folder, samples, trials)

    def _sample(self, trial: Trial, repetition: int) -> Sample:
        return Sample(
            prompt_id=trial.prompt.id,
            prompt=self._shown_text(trial),
            role=ROLE,
            repetition=repetition,
            seed=picture_seed(trial.prompt.id, repetition),
            prompt_set=self.prompt_set,
        )

    def _shown_text(self, trial: Trial) -> str:
        if trial.kind != "text" or trial.is_plain:
            return trial.prompt.text
        return f"[withheld: text of SHA-256 {trial.sha256}]" if self.target.flagged else str(trial.payload())


def _group(shot: Shot, block: int) -> tuple[Any, ...]:
    """What can be drawn together: one edit at a time, plain retries apart from other texts."""
    trial, repetition = shot
    noise = (FRESH, 0) if repetition >= FRESH else (repetition, block)  # winners are few
    if trial.is_plain:
        return ("plain", *noise)
    return (trial.kind, *noise, trial.arm, trial.sha256 if trial.kind == "edit" else "")


def draw(
    drawing: Drawing, name: str, target: Target, batch_size: int, progress: Progress | None = None
) -> None:
    """Draws the pictures and puts their folder in place.

    Args:
        drawing: From `Studio.drawings`.
        name: Of the attack: whose edits they are.
        target: What is attacked.
        batch_size: Pictures drawn at once, fewer where memory does not suffice; changes none.
        progress: Told (pictures done, pictures in all).

    Raises:
        StoreError: A payload is damaged, or the folder cannot be written.
        OutOfMemoryError: Memory does not suffice for a single picture.
        MethodError: An edit raised what would stop a whole run.
        ModelChangedError: It left the model changed.
    """
    model, edit = target.model, drawing.kind == "edit"
    _ = model.model  # missing weights show here, where they are not the edit's fault
    payloads = _payloads(drawing)
    changed = (
        edited_model(model, name, drawing.trials[0].payload) if edit else erased_model(model, target.erasure)
    )
    steps = drawing.folder.config["model"]["steps"]
    captions = _captions(model.model, drawing.kind, payloads)
    Painter(model, captions, changed, steps, batch_size, progress).fill(drawing.folder, drawing.samples)


def _payloads(drawing: Drawing) -> list[Any]:
    """Texts or embeddings; a changed model draws the prompts themselves."""
    if drawing.kind == "edit":
        return [trial.prompt.text for trial in drawing.trials]
    return [trial.payload() for trial in drawing.trials]


def _captions(model: Model, kind: Kind, payloads: list[Any]) -> Captions:
    """Texts are encoded; embeddings are given to the model as they are, past edits of the conditioning."""
    if kind != "embedding":
        return lambda rows: model.encode([payloads[row] for row in rows])
    return lambda rows: [payloads[row].to(model.device, model.transformer.dtype) for row in rows]
