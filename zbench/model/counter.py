"""Counts what a method costs: evaluations of the transformer, forwards and backwards apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn


@dataclass
class Counter:
    """Numbers of transformer evaluations, a batch counting once.

    Attributes:
        forwards: Calls of the transformer, whoever makes them (the pipeline included).
        backwards: Backward passes through a call of the transformer.
        recomputations: Calls repeated inside a backward pass by gradient checkpointing.
        forward_samples: Samples of these forwards: a batch counts as many as it holds.
        backward_samples: Samples of these backward passes.
    """

    forwards: int = 0
    backwards: int = 0
    recomputations: int = 0
    forward_samples: int = 0
    backward_samples: int = 0
    counting: bool = True
    _inside: bool = False
    _call: dict[str, int] = field(default_factory=dict)

    @property
    def evaluations(self) -> int:
        """Forwards, backwards and recomputations, each counting one."""
        return self.forwards + self.backwards + self.recomputations

    def watch(self, transformer: nn.Module) -> None:
        """Installs the hooks; they stay for the life of the transformer."""
        transformer.register_forward_pre_hook(self._enter)
        transformer.register_forward_hook(self._leave, always_call=True)
        first = next(transformer.get_submodule("layers").children())
        first.register_forward_pre_hook(self._enter_first_layer)
        # The transformer returns a list of pictures; the final layer returns the one tensor they all pass. A
        # loss on attention alone never reaches it, so the layers before it are watched too.
        for part in ("layers", "all_final_layer"):
            for module in transformer.get_submodule(part).children():
                module.register_forward_hook(self._watch_backward)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves out what is run inside, for checks that are no part of a method."""
        before, self.counting = self.counting, False
        try:
            yield
        finally:
            self.counting = before

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        samples = len(args[0])
        self.forwards += self.counting
        self.forward_samples += samples * self.counting
        self._inside = True
        self._call = {"backwards": 0, "samples": samples}

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        self._inside = False

    def _enter_first_layer(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.recomputations += self.counting and not self._inside

    def _watch_backward(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if output.requires_grad and self.counting and self._inside:
            output.register_hook(partial(self._count_backward, self._call, {"arrivals": 0}))  # type: ignore[no-untyped-call]

    def _count_backward(self, call: dict[str, int], place: dict[str, int], gradient: Tensor) -> None:
        """Each pass arrives at most once at a place, and at some place first."""
        place["arrivals"] += 1
        if place["arrivals"] > call["backwards"]:
            call["backwards"] += 1
            self.backwards += 1
            self.backward_samples += call["samples"]
