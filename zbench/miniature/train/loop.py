"""The training loop of all of the miniature's models: schedule, averaged weights, checkpoints, log."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

log = logging.getLogger("zbench.miniature")


def prepare_cpu() -> None:
    """Flush denormals: without it the backward pass slows four-fold after some hundred steps."""
    torch.set_flush_denormal(True)


def optimizers(
    modules: Iterable[nn.Module], learning_rate: float, *, muon: bool
) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon for the hidden matrices of transformer blocks where asked for.

    Args:
        modules: Whose parameters to train.
        learning_rate: Peak rate; Muon's updates are scaled to AdamW's size so that one rate serves both.
        muon: Whether matrices inside `layers` and refiners use Muon.
    """
    hidden: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for module in modules:
        for name, parameter in module.named_parameters():
            inside = ("layers." in name or "refiner." in name) and "adaLN" not in name
            (hidden if muon and inside and parameter.ndim == 2 else others).append(parameter)
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    ]
    if hidden:
        found.append(
            torch.optim.Muon(hidden, learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
        )
    return found


@dataclass
class Fit:
    """One resumable optimisation.

    Attributes:
        name: For the log and the checkpoint file.
        folder: Where the checkpoint lies.
        modules: What is trained.
        optimizers: Their optimisers, at peak learning rate.
        loss: Step number -> scalar loss; draws its own batch from the step number.
        steps: How many.
        warm_up: Share of steps with rising rate; the rate then falls along a cosine to 2 %.
        average: Decay of the averaged weights, which are the result.
        save_every: Seconds between checkpoints.
        clip: Largest gradient norm.
    """

    name: str
    folder: Path
    modules: dict[str, nn.Module]
    optimizers: list[torch.optim.Optimizer]
    loss: Callable[[int], Tensor]
    steps: int
    warm_up: float = 0.04
    average: float = 0.998
    save_every: float = 180.0
    clip: float = 1.0
    averages: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def checkpoint(self) -> Path:
        """The checkpoint file (tensors and numbers only, read with ``weights_only``)."""
        return self.folder / f"{self.name}.checkpoint.pt"

    def run(self) -> None:
        """Train to the end, from the checkpoint if there is one; the modules end with averaged weights."""
        peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        self.averages = {
            k: {n: p.detach().clone() for n, p in m.named_parameters()} for k, m in self.modules.items()
        }
        first = self._resume()
        started = saved = time.monotonic()
        smooth = 0.0
        for step in range(first, self.steps):
            self._set_rates(peaks, step)
            value = self._step(step)
            smooth = value if step == first else 0.98 * smooth + 0.02 * value
            now = time.monotonic()
            if step % 50 == 0 or step == self.steps - 1:
                self._tell(step, smooth, now - started, first)
            if now - saved > self.save_every:
                self._save(step + 1, self.seconds + now - started)
                saved = now
        self.seconds += time.monotonic() - started
        self._save(self.steps, self.seconds)
        self._use_averages()

    def _tell(self, step: int, loss: float, running: float, first: int) -> None:
        left = running / (step - first + 1) * (self.steps - step - 1)
        seconds = self.seconds + running
        text = "%s step %d/%d loss %.4f, %.0f s, %.0f s left"
        log.info(text, self.name, step, self.steps, loss, seconds, left)

    def _step(self, step: int) -> float:
        loss = self.loss(step)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"{self.name}: loss is {loss.item()} at step {step}")
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([p for m in self.modules.values() for p in m.parameters()], self.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        decay = min(self.average, (step + 1) / (step + 20))
        with torch.no_grad():
            for key, module in self.modules.items():
                for name, parameter in module.named_parameters():
                    self.averages[key][name].lerp_(parameter.detach(), 1 - decay)
        return loss.item()

    def _set_rates(self, peaks: list[list[float]], step: int) -> None:
        rising = max(1, round(self.warm_up * self.steps))
        if step < rising:
            factor = (step + 1) / rising
        else:
            fallen = (step - rising) / max(1, self.steps - rising)
            factor = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fallen))
        for optimizer, rates in zip(self.optimizers, peaks, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor

    def _save(self, step: int, seconds: float) -> None:
        state = {
            "step": step,
            "seconds": seconds,
            "modules": {k: m.state_dict() for k, m in self.modules.items()},
            "optimizers": [o.state_dict() for o in self.optimizers],
            "averages": self.averages,
        }
        part = self.checkpoint.with_suffix(".part")
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.save(state, part)
        os.replace(part, self.checkpoint)

    def _resume(self) -> int:
        if not self.checkpoint.exists():
            return 0
        state = torch.load(self.checkpoint, weights_only=True)
        for key, module in self.modules.items():
            module.load_state_dict(state["modules"][key])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.averages = state["averages"]
        self.seconds = state["seconds"]
        log.info("%s resumes at step %d", self.name, state["step"])
        return int(state["step"])

    def _use_averages(self) -> None:
        with torch.no_grad():
            for key, module in self.modules.items():
                for name, parameter in module.named_parameters():
                    parameter.copy_(self.averages[key][name])


@torch.no_grad()
def settle_batch_norm(
    module: nn.Module, batches: Iterable[Tensor], forward: Callable[[Tensor], object]
) -> nn.Module:
    """Recompute batch-normalisation statistics for averaged weights, which never saw a batch themselves.

    Args:
        module: The network; left in evaluation mode.
        batches: Its inputs.
        forward: How a batch passes through the layers.
    """
    for layer in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        layer.reset_running_stats()
        layer.momentum = None
    module.train()
    for batch in batches:
        forward(batch)
    return module.eval()


def spent_seconds(checkpoint: Path) -> float | None:
    """Seconds of training behind a checkpoint, all sittings together; None where there is no such file."""
    return float(torch.load(checkpoint, weights_only=True)["seconds"]) if checkpoint.exists() else None
