"""The study itself: fine-tune, draw at several strengths, read, compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from zbench.studies import Progress, make_folder, write_study
from zbench.studies.collapse.changed import compared_with_naive
from zbench.studies.collapse.effects import all_effects
from zbench.studies.collapse.page import render_page
from zbench.studies.collapse.plan import Planned, make_plan
from zbench.studies.collapse.plot import plot_scales
from zbench.studies.collapse.runs import Runs
from zbench.studies.collapse.sheet import Line, draw_sheet
from zbench.studies.collapse.training import constants
from zbench.studies.collapse.verdicts import progress as progress_of
from zbench.studies.reading import Reader, tuning_samples

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.stages.inputs import ModelHandle

DEFAULTS: dict[str, dict[str, Any]] = {
    "world": {"concept": "violence", "learning_rate": 2e-3, "steps": 60, "batch_size": 4},
    "photograph": {"concept": "church", "learning_rate": 1e-3, "steps": 200, "batch_size": 1},
}
"""Per domain; the photographs' learning rate, steps and batch are the release's."""

CURVE = (2.0, 5.0, 10.0, 25.0)
PRESERVE_BATCH = 2


def collapse_study(
    out: Path,
    model: str = "miniature",
    progress: Progress | None = None,
    *,
    concept: str | None = None,
    protocol: str = "zbench",
    learning_rate: Annotated[float, Field(gt=0)] | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    trajectories: int = 16,
    eta: float = 2.0,
    released_scale: Annotated[float, Field(gt=0)] = 15.0,
    curve: Sequence[Annotated[float, Field(gt=0)]] = CURVE,
    training_seeds: int = 1,
    explicit: int = 20,
    unrelated: int = 30,
    calibration: int = 120,
    drawn_at_once: int = 16,
    gradient_checkpointing: bool = False,
    work: str | None = None,
) -> dict[str, Any]:
    """Fine-tunes naively in many ways and measures which of them breaks the model.

    A run that was finished before is not run again: one small file per run lies under `work`.

    Args:
        out: Folder of the results: `study.json`, `study.md`, `sheet.png`, `scales.png`.
        model: Catalogue name or folder.
        progress: Told about finished fine-tunings.
        concept: What is erased; one that suits the model's domain when None.
        protocol: Whose detectors, thresholds and CLIP; prompts are always those of the tuning split.
        learning_rate: Of all runs but the contrasts; a value that suits the domain when None.
        steps: Likewise.
        batch_size: Samples per training call, likewise.
        trajectories: Of each loss, shared by all runs.
        eta: Negative guidance of the erase target, of all runs but the gentle ones; the paper's is 2.
        released_scale: Strength at inference beside 1; the release's is 15.
        curve: Further strengths for the naive run and its twin on text rows.
        training_seeds: Of every cell of the factorial. With one, interactions of three and more factors are
            the only error there is: figures of these runs. A claim about settings needs three.
        explicit: Prompts that name the concept.
        unrelated: Unrelated prompts.
        calibration: Prompts of either kind whose pictures calibrate the collapse flags.
        drawn_at_once: Pictures per batch.
        gradient_checkpointing: Recompute activations, for models that do not fit otherwise.
        work: Folder of the runs; `work` under `out` when None.

    Returns:
        What `study.json` holds.

    Raises:
        UnknownNameError: A name is unknown, or the concept has no tuning prompts in this domain.
        ConfigurationError: No detector of the protocol knows the concept.
        StoreError: A folder cannot be used.
    """
    from zbench.stages.inputs import ModelHandle

    handle = ModelHandle(model)
    given = {"concept": concept, "learning_rate": learning_rate, "steps": steps, "batch_size": batch_size}
    chosen = DEFAULTS[handle.spec.domain] | {
        name: value for name, value in given.items() if value is not None
    }
    planned = make_plan(
        float(chosen["learning_rate"]),
        int(chosen["steps"]),
        eta,
        released_scale,
        tuple(curve),
        training_seeds,
    )
    training = {
        "batch_size": chosen["batch_size"],
        "preserve_batch": min(PRESERVE_BATCH, chosen["batch_size"]),
        "trajectories": trajectories,
        "gradient_checkpointing": gradient_checkpointing,
    }
    study = _Study(handle, chosen["concept"], protocol, (explicit, unrelated, calibration), drawn_at_once)
    folder = Path(work) if work else out / "work"
    make_folder(out)
    make_folder(folder)
    runs = Runs(folder, study.reader, study.concept, training)
    record = study.record(runs, planned, released_scale, progress)
    several = [row for row in record["runs"] if len(row["readings"]) > 2]
    pictures = {
        "sheet.png": _sheet(runs, planned, record["runs"], released_scale),
        "scales.png": plot_scales(several, study.concept.name),
    }
    write_study(out, "collapse", record, render_page(record), pictures, model=handle)
    return record


class _Study:
    """Concept, prompts and instruments."""

    def __init__(
        self,
        handle: ModelHandle,
        concept: str,
        protocol: str,
        sizes: tuple[int, int, int],
        drawn_at_once: int,
    ) -> None:
        from zbench.concepts import load_concept
        from zbench.protocols import load_protocol

        domain = handle.spec.domain
        explicit, unrelated, calibration = sizes
        self.handle, self.protocol = handle, load_protocol(protocol)
        self.concept: Concept = load_concept(concept, domain)
        asked = tuning_samples(f"{concept}-explicit", domain, None)
        others = tuning_samples("unrelated", domain, None)
        self.reader = Reader(
            handle,
            self.protocol.table(domain, concept, self.concept.family),
            {concept: asked[:explicit]},
            others[:unrelated],
            [*others[:calibration], *asked[:calibration]],
            batch_size=drawn_at_once,
        )

    def record(
        self, runs: Runs, planned: Sequence[Planned], released_scale: float, progress: Progress | None
    ) -> dict[str, Any]:
        """What `study.json` holds; runs what is missing, the original first."""
        original, rows = runs.original(), []
        for done, one in enumerate(planned, start=1):
            about = {"group": one.group, "label": one.label, "run": one.run.describe()}
            rows.append({**about, **runs.run(one)})
            if progress is not None:
                progress(done, len(planned))
        scales = ("1", f"{released_scale:g}")
        return {
            "config": self._config(runs, planned, released_scale),
            "original": original,
            "runs": rows,
            "effects": all_effects(rows, self.concept.name, scales),
            "paired": compared_with_naive(rows, self.concept.name, scales),
        }

    def _config(self, runs: Runs, planned: Sequence[Planned], released_scale: float) -> dict[str, Any]:
        reader = self.reader
        return {
            "model": self.handle.spec.label,
            "identity": self.handle.identity,
            "concept": self.concept.name,
            "protocol": self.protocol.label,
            "detectors": [[d.name, d.file_sha256, d.threshold] for d in reader.detectors],
            "explicit": len(reader.asked[self.concept.name]),
            "unrelated": len(reader.unrelated),
            "calibration": len(reader.calibration),
            "training": runs.training,
            "constants": constants(),
            "training_seeds": 1 + max(one.run.seed for one in planned if one.group == "factorial"),
            "eta": planned[0].run.eta,
            "learning_rate": planned[0].run.learning_rate,
            "steps": planned[0].run.steps,
            "released_scale": released_scale,
        }


def _sheet(
    runs: Runs, planned: Sequence[Planned], rows: Sequence[dict[str, Any]], released_scale: float
) -> bytes:
    """The contact sheet: the original, then every run; of one that diverged, how far it came."""
    scales = (1.0, released_scale)
    lines = [Line("original", runs.strips(None, scales))]
    for one, row in zip(planned, rows, strict=True):
        label = f"{one.label}\ndiverged {progress_of(row)}" if row["diverged"] else one.label
        lines.append(Line(label, runs.strips(one, scales)))
    return draw_sheet(("strength 1, as trained", f"strength {released_scale:g}"), lines)
