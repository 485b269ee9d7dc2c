"""An erased model that zbench did not make, as a method: named `import:PATH`, scored like any other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from zbench.errors import ConfigurationError, UnknownNameError, WeightsError
from zbench.exchange.foreign import Foreign
from zbench.exchange.names import ImportName
from zbench.method import Method, MethodCard, Progress
from zbench.validation import validated

if TYPE_CHECKING:
    from zbench.concepts import Concept
    from zbench.edits import Edit
    from zbench.erasure import Erasure
    from zbench.model import Model

_PLACE = frozenset({"source", "training_seed"})
"""Fields that say nothing about the weights."""

SETTINGS = ("rows", "alpha", "partial")
"""What a user may say about an import."""


class Imported(Method):
    """Weights that were made elsewhere; nothing is trained.

    Attributes:
        source: File or folder; see `zbench.exchange.foreign`.
        sha256: Hash of its content, which is what counts, wherever it lies.
        rows: Rows that a LoRA changes; as the file says when None, all where it says nothing.
        alpha: Alpha of a LoRA whose file does not say it; its rank when None.
        partial: The file holds only the tensors that were changed.
    """

    name: ClassVar[str] = "import"
    card: ClassVar[MethodCard] = MethodCard(
        title="An erased model made elsewhere",
        paper="unknown to zbench",
        arxiv="",
        reference_code_licence="unknown to zbench",
        rows="all",
        weights="whatever was changed: a LoRA, or tensors of the transformer",
        needs_training=False,
        needs_pictures=False,
        notes=(
            "Named as `import:PATH` or `import:NAME=PATH`. What it took to make is unknown and not counted.",
            "Nobody here knows which prompts it was made with: they may be those that it is measured on.",
            "It is drawn with the sampler of the model that it is compared with.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    source: Path
    sha256: str
    rows: Literal["text", "all"] | None = None
    alpha: float | None = None
    partial: bool = False

    @classmethod
    def at(cls, place: Path | str, settings: Mapping[str, Any] | None = None) -> Imported:
        """What lies at a path now.

        Args:
            place: File or folder.
            settings: `rows`, `alpha`, `partial`.

        Raises:
            UnknownNameError: Another setting.
            ConfigurationError: There is nothing that can be read, or a setting that does not fit it.
            WeightsError: It is truncated or altered.
        """
        settings = settings or {}
        for name in settings:
            if name not in SETTINGS:
                raise UnknownNameError.of("setting of an import", name, SETTINGS)
        foreign = Foreign.at(place)
        _require_fitting(foreign, settings)
        fields = {"source": foreign.place, "sha256": foreign.sha256, **settings}
        return validated(cls, fields, prefix="import.")

    def identity(self) -> dict[str, Any]:
        """What was imported and how it is read, not where it lies."""
        return {**super().identity(), "hyperparameters": self.fields()}

    def fields(self) -> dict[str, Any]:
        """The hyper-parameters as results hold them."""
        return self.model_dump(mode="json", exclude=set(_PLACE))

    def erase(self, model: Model, concept: Concept, *, progress: Progress | None = None) -> Erasure:
        """Reads the weights and makes sure that they do something.

        Raises:
            ConfigurationError: The files are not those that were planned, or cannot be used on this model.
            WeightsError: They are not whole, were made for another model, or change nothing.
        """
        from zbench.erasure import Erasure

        foreign = Foreign.at(self.source)
        if foreign.sha256 != self.sha256:
            raise ConfigurationError(f"{self.source} was altered since this run was planned: run it again.")
        edit = self._edit(foreign, model)
        if edit.seam == "weights":
            require_effect(edit, model, self.source)
        if progress is not None:
            progress(1, 1)
        return Erasure(edit, self.name, concept.name, self.fields())

    def _edit(self, foreign: Foreign, model: Model) -> Edit:
        from zbench.edits import load_edit
        from zbench.exchange.adapters import read_adapter
        from zbench.exchange.checkpoints import read_checkpoint

        if foreign.form == "edit":
            return load_edit(foreign.root)
        if foreign.form == "adapter":
            return read_adapter(foreign, self.rows, self.alpha)
        return read_checkpoint(foreign, model, self.partial)


def import_fields(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `CellSpec` that an import decides.

    Args:
        name: `import:PATH` or `import:NAME=PATH`.
        settings: What the user says about it.

    Raises:
        UnknownNameError: A setting that an import has not.
        ConfigurationError: There is nothing at the path that can be read.
        WeightsError: It is truncated or altered.
    """
    named = ImportName.parse(name)
    imported = Imported.at(named.place, settings)
    return {"method": named.method, "imported": named.place, "hyperparameters": imported.fields()}


def require_effect(edit: Edit, model: Model, source: Path) -> None:
    """Evaluates the model with and without an edit: one that is silently not there would score as perfect.

    Raises:
        WeightsError: The velocity is the same, bit for bit.
    """
    import torch

    from zbench.edits.probe import Probe

    with model.counter.paused():
        probe = Probe.begin(model)
        with model.edited(edit):
            edited = probe.evaluate(model)
    if torch.equal(edited, probe.frozen):
        raise WeightsError(f"{source} changes nothing: the model predicts the same with it and without it.")


def _require_fitting(foreign: Foreign, settings: Mapping[str, Any]) -> None:
    """Refuses settings that would be ignored."""
    fitting = {"adapter": ("rows", "alpha"), "checkpoint": ("partial",)}.get(foreign.form, ())
    for name in settings:
        if settings[name] not in (None, False) and name not in fitting:
            raise ConfigurationError(f"{foreign.place}: {name!r} says nothing about an import of this kind.")
