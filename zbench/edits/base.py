"""`Edit`: attaches to a model, detaches exactly, saves to safetensors and proves itself when it is loaded."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from torch import Tensor, nn

from zbench.edits import files
from zbench.edits.probe import Probe
from zbench.errors import ConfigurationError, WeightsError

if TYPE_CHECKING:
    from zbench.model.model import Model

Seam = Literal["none", "conditioning", "weights", "attention", "velocity", "composed"]
RowChoice = Literal["text", "all"]

_KINDS: dict[str, type[Edit]] = {}


def _register(edit: type[Edit]) -> None:
    """Makes an edit's class the one that reads saved edits of its kind.

    Raises:
        ConfigurationError: Another class that is in use has this kind.
    """
    known = _KINDS.get(edit.kind)
    if known is not None and _stays(known, edit):
        own = "zbench's " if known.__module__.startswith("zbench.") else ""
        raise ConfigurationError(
            f"The edit {edit.__name__} of {_home(edit)} has the kind {edit.kind!r} of {own}{known.__name__}"
            f" ({_home(known)}): give one of them another `kind`."
        )
    _KINDS[edit.kind] = edit


def _stays(known: type[Edit], edit: type[Edit]) -> bool:
    """Whether a class is still in use, and not what a newer one was before its file was edited or moved."""
    module = sys.modules.get(known.__module__)
    if known.__module__ == edit.__module__:
        # A module that is executed again starts empty; in a notebook the same name is defined again.
        return known.__name__ != edit.__name__ and getattr(module, known.__name__, None) is known
    if module is None:  # its import failed
        return False
    if known.__module__.startswith("zbench.") or getattr(module, "__file__", None) is None:
        return True
    content = _content(known)
    return content is not None and content != _content(edit)


def _home(edit: type[Edit]) -> str:
    """File of a class, or its module where there is none."""
    return str(getattr(sys.modules.get(edit.__module__), "__file__", None) or edit.__module__)


def _content(edit: type[Edit]) -> bytes | None:
    try:
        return Path(_home(edit)).read_bytes()
    except OSError:  # removed or renamed since
        return None


class Edit(ABC):
    """A change of a model that can be taken back.

    A subclass names its `kind` and `seam` and implements `_install` and `_remove` (exact inverses), and, to
    be saved, `settings`, `tensors` and `_restore`.

    Attributes:
        kind: Name under which saved edits find their class again.
        seam: Where the model is changed.
        rows: Which rows of the stream it changes.
    """

    kind: ClassVar[str]
    seam: ClassVar[Seam]
    weights_file: ClassVar[str] = "edit.safetensors"
    rows: RowChoice = "all"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "kind" in cls.__dict__:
            _register(cls)

    def __init__(self) -> None:
        self._model: Model | None = None
        self._probe: Probe | None = None

    @property
    def attached(self) -> bool:
        """Whether a model is changed by this edit at the moment."""
        return self._model is not None

    def attach(self, model: Model) -> None:
        """Changes a model until `detach`; `model.edited(edit)` does both.

        The first time after loading, the stored probe is evaluated and must reproduce.

        Raises:
            RuntimeError: Already attached.
            WeightsError: The edit does not fit this model, or its probe does not reproduce.
        """
        if self.attached:
            raise RuntimeError("this edit is already attached")
        self._verify(model)
        self._join(model)
        model.edits.append(self)

    def detach(self) -> None:
        """Restores the model bit for bit.

        Raises:
            RuntimeError: Not attached.
        """
        if self._model is None:
            raise RuntimeError("this edit is not attached")
        self._model.edits.remove(self)
        self._leave()

    def parameters(self) -> list[nn.Parameter]:
        """What may be trained; the same objects through detach and attach. Empty where nothing can be."""
        return []

    def describe(self) -> dict[str, Any]:
        """Kind, seam, rows and settings, as JSON values."""
        return {"kind": self.kind, "seam": self.seam, "rows": self.rows, **self.settings()}

    def settings(self) -> dict[str, Any]:
        """What, beside the tensors, rebuilds this edit: JSON values."""
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """What is stored as safetensors, by name in the file."""
        return {}

    def scaled(self, factor: float) -> Edit:
        """The same edit at another strength, detached; this one stays as it is.

        Args:
            factor: 1 gives what this edit gives, bit for bit; 0 the unedited model, but for the parts of a
                composed edit that have no strength: these act as ever.

        Raises:
            ConfigurationError: Nothing in this edit can be turned down.
        """
        raise ConfigurationError(f"an edit of kind {self.kind!r} acts or does not: it has no strength")

    def save(self, folder: Path | str, model: Model) -> None:
        """Writes the edit, a probe of what it does to this model, and last the description of both.

        Args:
            folder: Made if it does not exist.
            model: The model it belongs to; attached edits step aside while the probe is taken.

        Raises:
            StoreError: The folder cannot be written.
        """
        probe = self._measure(model)
        files.write_edit(
            Path(folder),
            {"kind": self.kind, "seam": self.seam, "rows": self.rows, "settings": self.settings()},
            chain(self._contents(), [(Probe.FILE, (probe, {}))] if probe else []),
        )

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Reads an edit back; `Edit.load` finds the class by itself.

        Raises:
            WeightsError: Files are missing, altered or incomplete, or of a kind that this class is not.
        """
        path = Path(folder)
        description = files.read_description(path)
        kind = _KINDS.get(description["kind"])
        if kind is None or not issubclass(kind, cls):
            raise WeightsError(
                f"{path} holds an edit of kind {description['kind']!r}, not one that {cls.__name__} reads."
            )
        edit = kind._restore(path, description["settings"])
        edit._probe = Probe.read(path)
        return edit

    # What subclasses fill in ------------------------------------------------------------------------------

    @abstractmethod
    def _install(self, model: Model) -> None:
        """Changes the model."""

    @abstractmethod
    def _remove(self, model: Model) -> None:
        """Takes every change back, exactly."""

    @classmethod
    @abstractmethod
    def _restore(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        """Rebuilds an edit from its settings and the tensors in `folder`, checking both."""

    def _metadata(self) -> dict[str, str]:
        """Metadata for the header of the safetensors file."""
        return {}

    def _contents(self) -> Iterator[tuple[str, files.Content]]:
        """The weights as files: one, unless there is too much for that."""
        yield self.weights_file, (self.tensors(), self._metadata())

    # How it fits together ---------------------------------------------------------------------------------

    def _join(self, model: Model) -> None:
        self._install(model)
        self._model = model

    def _leave(self) -> None:
        assert self._model is not None
        model, self._model = self._model, None
        self._remove(model)

    def _measure(self, model: Model) -> dict[str, Tensor] | None:
        """The probe's tensors, with this edit alone on the model."""
        with alone(model), model.counter.paused():
            probe = Probe.begin(model)
            self._join(model)
            try:
                return probe.finish(model)
            finally:
                self._leave()

    def _verify(self, model: Model) -> None:
        """Checks the stored probe once, with this edit alone on the model."""
        if self._probe is None:
            return
        with alone(model), model.counter.paused():
            frozen = self._probe.evaluate(model)
            self._join(model)
            try:
                self._probe.check(frozen, self._probe.evaluate(model), model)
            finally:
                self._leave()
        self._probe = None


class NoEdit(Edit):
    """The empty edit: the original model."""

    kind = "none"
    seam = "none"

    def scaled(self, factor: float) -> Edit:
        """Refused: see `Edit.scaled`."""
        raise ConfigurationError("nothing was edited, so there is no strength to change")

    def _install(self, model: Model) -> None:
        pass

    def _remove(self, model: Model) -> None:
        pass

    @classmethod
    def _restore(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        return cls()


class ComposedEdit(Edit):
    """Several edits as one, attached in order and detached in reverse.

    Args:
        edits: The parts; none of them attached.
    """

    kind = "composed"
    seam = "composed"

    def __init__(self, edits: Sequence[Edit]) -> None:
        super().__init__()
        self.edits = tuple(edits)
        self.rows = "text" if edits and all(edit.rows == "text" for edit in edits) else "all"

    def parameters(self) -> list[nn.Parameter]:
        """Trainable parameters of all parts."""
        return [parameter for edit in self.edits for parameter in edit.parameters()]

    def settings(self) -> dict[str, Any]:
        """Descriptions of the parts."""
        return {"parts": [edit.describe() for edit in self.edits]}

    def scaled(self, factor: float) -> ComposedEdit:
        """Its parts at another strength; parts that have none stay as they are.

        Raises:
            ConfigurationError: No part has a strength.
        """
        parts = [_scaled_if_possible(edit, factor) for edit in self.edits]
        if all(part is edit for part, edit in zip(parts, self.edits, strict=True)):
            raise ConfigurationError("no part of this composed edit has a strength")
        return ComposedEdit(parts)

    def save(self, folder: Path | str, model: Model) -> None:
        """Saves each part in a folder of its own, with its own probe."""
        for index, edit in enumerate(self.edits):
            edit.save(Path(folder) / str(index), model)
        super().save(folder, model)

    def _install(self, model: Model) -> None:
        for edit in self.edits:
            edit._join(model)

    def _remove(self, model: Model) -> None:
        for edit in reversed(self.edits):
            edit._leave()

    def _verify(self, model: Model) -> None:
        for edit in self.edits:
            edit._verify(model)
        super()._verify(model)

    @classmethod
    def _restore(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        return cls([load_edit(folder / str(index)) for index in range(len(settings["parts"]))])


def _scaled_if_possible(edit: Edit, factor: float) -> Edit:
    try:
        return edit.scaled(factor)
    except ConfigurationError:
        return edit


def load_edit(folder: Path | str) -> Edit:
    """Reads any saved edit.

    Raises:
        WeightsError: Files are missing, altered or incomplete, or of an unknown kind.
    """
    return Edit.load(folder)


@contextmanager
def alone(model: Model) -> Iterator[None]:
    """Lets all attached edits step aside for the length of a `with` block."""
    others = list(model.edits)
    for edit in reversed(others):
        edit.detach()
    try:
        yield
    finally:
        for edit in others:
            edit.attach(model)
