"""Studies: experiments about the instruments and about methods, on tuning prompts; no table comes from them.

Can the collapse signals be trusted, do intervals cover what they promise, do two detectors agree on pictures
that nobody drew? What makes fine-tuning collapse, do a paper's claims hold, which preset is the best? A study
is a function in a module of its own::

    def some_study(out: Path, model: str = "miniature", progress: Progress | None = None, **options) -> ...

It writes `study.json` (figures for machines), `study.md` (the page) and its pictures into `out`, atomically
(see `write_study`). Options are keyword arguments with defaults, plain values of the annotated types; where
their bounds are not the usual ones (see `checked_options`), the annotation says so. Modules are imported when
a study is asked for, so that listing stays light.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zbench.errors import ConfigurationError, StoreError, UnknownNameError
from zbench.store import atomic_write_bytes, atomic_write_json, atomic_write_text
from zbench.studies.options import checked_options, study_options

if TYPE_CHECKING:
    from zbench.stages.inputs import ModelHandle

__all__ = [
    "STUDIES",
    "Progress",
    "load_study",
    "make_folder",
    "run_study",
    "study_names",
    "study_options",
    "write_study",
]

Progress = Callable[[int, int], None]
"""Called as `progress(units done, units in all)`."""

Study = Callable[..., Any]

SCHEMA_VERSION = 1

STUDIES: dict[str, tuple[str, str]] = {
    "agreement": (
        "zbench.studies.agreement:agreement_study",
        "whether two detectors agree on generated pictures, damaged and erased models included",
    ),
    "attacks": (
        "zbench.studies.attacks:attacks_study",
        "whether attacks find what is there, and nothing where no text can bring anything back",
    ),
    "collapse": (
        "zbench.studies.collapse:collapse_study",
        "what makes naive fine-tuning collapse: rows, preservation, conventions of the release, strength",
    ),
    "convergence": (
        "zbench.studies.convergence:convergence_study",
        "whether Z-Erase's claims about its optimisation hold, and what each of its parts is worth",
    ),
    "multi_concept": (
        "zbench.studies.multi_concept:multi_concept_study",
        "erasing several concepts: averaged updates against one joint training",
    ),
    "presets": (
        "zbench.studies.presets:presets_study",
        "which preset of every method one rule chooses, on tuning prompts of other concepts",
    ),
    "signals": (
        "zbench.studies.signals:signals_study",
        "whether the collapse signals notice a broken generator and spare an intact one",
    ),
    "coverage": (
        "zbench.studies.coverage:coverage_study",
        "whether the intervals cover the true rate as often as they promise",
    ),
}
"""Name of a study -> (module:function, one line for the listing)."""


def study_names() -> list[str]:
    """Sorted names of all studies, nothing imported."""
    return sorted(STUDIES)


def load_study(name: str) -> Study:
    """The function of a study.

    Raises:
        UnknownNameError: No study has this name; close matches are named.
        ConfigurationError: Its module cannot be imported.
    """
    if name not in STUDIES:
        raise UnknownNameError.of("study", name, STUDIES)
    module, _, function = STUDIES[name][0].partition(":")
    try:
        found: Study = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"The study {name!r} ({module}) cannot be imported: {error}") from error
    return found


def run_study(
    name: str,
    out: Path,
    model: str,
    progress: Progress | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Runs a study by name.

    Args:
        name: Its name.
        out: Where it writes; made if missing.
        model: Catalogue name or folder of the model; studies without a model ignore it.
        progress: Told about finished units of work.
        options: Options of the study.

    Raises:
        UnknownNameError: No study, or no option of it, has this name.
        ConfigurationError: An option has the wrong type or is out of range; nothing was done then.
    """
    study = load_study(name)
    chosen = checked_options(name, study, options or {})
    known = inspect.signature(study).parameters
    common = {"model": model, "progress": progress}
    study(out, **{key: value for key, value in common.items() if key in known}, **chosen)


def make_folder(out: Path) -> None:
    """Makes the folder of a study.

    Raises:
        StoreError: It cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"Cannot use {out}: {error.strerror or error}; choose another --out.") from error


def write_study(
    out: Path,
    name: str,
    record: Mapping[str, Any],
    page: str,
    files: Mapping[str, bytes] | None = None,
    *,
    model: ModelHandle | None = None,
) -> None:
    """Puts the results of a study in place, each file atomically, `study.json` last.

    Args:
        out: The study's folder; made if missing.
        name: Name of the study.
        record: Settings and figures, plain JSON without NaN.
        page: Markdown for readers.
        files: Further files by name: pictures, tables.
        model: What was studied; its identity and device go into the provenance.

    Raises:
        StoreError: The folder cannot be written.
    """
    import zbench

    make_folder(out)
    for file, data in (files or {}).items():
        atomic_write_bytes(out / file, data)
    atomic_write_text(out / "study.md", page)
    header = {"schema_version": SCHEMA_VERSION, "study": name, "zbench": zbench.__version__}
    atomic_write_json(out / "study.json", {**header, "provenance": _provenance(model), **record})


def _provenance(model: ModelHandle | None) -> dict[str, Any]:
    """Versions and machine, as in every result of a run, and what the model was made of."""
    from zbench.runner.provenance import provenance

    if model is None:
        return provenance("not recorded")
    device = str(model.model.device) if model.is_loaded else (model.device or "not used")
    return {**provenance(device), "model": {"name": model.spec.name, **model.identity}}
