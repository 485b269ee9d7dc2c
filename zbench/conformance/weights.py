"""Checks of the model and of the edit: what is changed, what is not, and whether it survives a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zbench.conformance.results import Outcome, failed, judged, skipped
from zbench.erasure import Erasure
from zbench.errors import ConfigurationError, WeightsError
from zbench.model.rows import stream_of
from zbench.stages.integrity import ModelState

if TYPE_CHECKING:
    from zbench.conformance.subject import Subject
    from zbench.model import Model

REPRODUCED = 1e-3
"""How far velocities of a loaded edit may be from those of the one that was saved, relative to its effect."""


def model_kept(subject: Subject) -> Outcome:
    """After `erase` the model is what it was, bit for bit: weights of all networks, modules, hooks, modes."""
    changes = subject.first.changes
    return judged([f"changed: {change}" for change in changes], "nothing changed", **_counts(subject))


def _counts(subject: Subject) -> dict[str, int]:
    networks = subject.model.networks().values()
    return {"tensors": sum(len(network.state_dict()) for network in networks)}


def detaches(subject: Subject) -> Outcome:
    """Attached and detached twice, the edit leaves the model as it was and works the same each time."""
    erasure, model = subject.erasure, subject.model
    before, frozen = ModelState.of(model), subject.velocities(model)
    first, second = subject.effect(erasure, model), subject.effect(erasure, model)
    changes = [f"changed: {change}" for change in before.changes(model)]
    if not torch.equal(frozen, subject.velocities(model)):
        changes.append("the velocities without the edit are other than before")
    if not changes and not torch.equal(first, second):
        changes.append("the velocities with the edit differ between two attachments")
    return judged(changes, "nothing changed", largest_effect=float((first - frozen).abs().max()))


def survives_saving(subject: Subject) -> Outcome:
    """Saved and loaded, the edit reproduces its probe and its velocities, and the record is the same."""
    erasure, model = subject.erasure, subject.model
    frozen, live = subject.velocities(model), subject.effect(erasure, model)
    with TemporaryDirectory() as name:
        try:
            erasure.save(Path(name), model)
            loaded = Erasure.load(Path(name))
            again = subject.effect(loaded, subject.model)
        except WeightsError as error:
            return failed(str(error))
    deviation, effect = _size(again - live), _size(live - frozen)
    problems = [] if deviation <= REPRODUCED * effect else ["the loaded edit does something else"]
    problems += [f"{name} is other than before" for name in _other_records(erasure, loaded)]
    return judged(problems, "probe and velocities agree", deviation=deviation, effect=effect)


def _size(difference: Tensor) -> float:
    return float(difference.double().square().mean().sqrt())


def _other_records(erasure: Erasure, loaded: Erasure) -> Iterator[str]:
    for name in ("method", "concept", "hyperparameters", "cost", "trace"):
        if getattr(erasure, name) != getattr(loaded, name):
            yield name


# Rows -----------------------------------------------------------------------------------------------------


def image_rows(subject: Subject) -> Outcome:
    """Where text rows are claimed, every linear module gives image rows the frozen output, bit for bit."""
    edit, claimed = subject.erasure.edit, subject.method.card.rows
    if edit.rows != "text":
        return (
            failed("the card claims text rows, its edit all rows")
            if claimed == "text"
            else skipped("it claims more than text rows")
        )
    model = subject.model
    inputs = _frozen_inputs(subject, model)
    with model.edited(edit):
        subject.velocities(model)  # the call whose rows the edit sees
        edited = {path: _image_rows(model, path, hidden) for path, hidden in inputs.items()}
    subject.velocities(model)
    wrong = [path for path in inputs if not torch.equal(edited[path], _image_rows(model, path, inputs[path]))]
    return judged(
        [f"{path} changes image rows" for path in wrong], "no image row changes", modules=len(inputs)
    )


def _frozen_inputs(subject: Subject, model: Model) -> dict[str, Tensor]:
    """What every linear module that sees image rows gets from the frozen model."""
    with _kept_inputs(model) as inputs:
        subject.velocities(model)
    return inputs


@contextmanager
def _kept_inputs(model: Model) -> Iterator[dict[str, Tensor]]:
    kept: dict[str, Tensor] = {}

    def keeper(path: str) -> Any:
        def keep(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            kept[path] = arguments[0].detach().clone()

        return keep

    modules = [(path, model.transformer.get_submodule(path)) for path in _paths(model)]
    handles = [module.register_forward_pre_hook(keeper(path)) for path, module in modules]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _paths(model: Model) -> Iterator[str]:
    for path, module in model.transformer.named_modules():
        if isinstance(module, nn.Linear) and _sees_image_rows(path):
            yield path


def _sees_image_rows(path: str) -> bool:
    try:
        return stream_of(path) != "text"
    except ConfigurationError:  # no module on rows of tokens: time, modulation, final layer
        return False


@torch.no_grad()
def _image_rows(model: Model, path: str, hidden: Tensor) -> Tensor:
    """Image rows of a module's output for a given input, on the CPU."""
    output: Tensor = model.transformer.get_submodule(path)(hidden)
    rows = output[:, : model.rows.current.image[0]] if stream_of(path) == "unified" else output
    return rows.cpu()
