"""What a GPU does with the full-size model: Z-Erase's steps, pictures per second, matrix products.

    python -m tests.bench_gpu [--limit-gb 16] [--sizes 512 1024] [--out results/performance/NAME.json]

The model has the full size and random weights, made on the device itself: 6,154,908,736 parameters in the
transformer, 4 billion in the text encoder. `--limit-gb` lets torch have no more of the device's memory than a
smaller one has. Whatever does not fit is written down as such.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import re
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from methods.zerase import ZErase
from tests.full_size import build_model
from zbench.concepts import load_concept
from zbench.model import Model, load_model
from zbench.runner.failing import free_memory
from zbench.stages.memory import is_out_of_memory
from zbench.store import atomic_write_json

SIZES, BATCHES, PICTURE_STEPS = (512, 1024), (1, 2, 4, 8, 16), 8
TRAINING = {"steps": 24, "trajectories": 2, "preserve_trajectories": 2}
"""Of Z-Erase, the rest as in the paper's preset."""

PROMPT = "a photograph of a person who reads a book under an old tree on a hill above the sea"
FOLDER = Path("results/performance")


def report(
    model: Model,
    sizes: Sequence[int] = SIZES,
    batches: Sequence[int] = BATCHES,
    training: dict[str, int] | None = None,
) -> dict[str, Any]:
    """Measures everything.

    Args:
        model: No edit attached.
        sizes: Pixels of a side.
        batches: Pictures drawn at once.
        training: Steps and trajectories of Z-Erase.
    """
    rows = {"training": [], "drawing": []}
    for size in sizes:
        model.spec = model.spec.model_copy(update={"height": size, "width": size})
        for checkpointing in (True, False):
            measured = attempt(model, lambda kind=checkpointing: train(model, kind, training or TRAINING))
            rows["training"].append({"size": size, "checkpointing": checkpointing, **measured})
        for batch in batches:
            measured = attempt(model, lambda count=batch: draw(model, count))
            rows["drawing"].append({"size": size, "batch": batch, **measured})
    return {**machine(model), **rows}


def machine(model: Model) -> dict[str, Any]:
    """What the figures belong to."""
    cuda = model.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(model.device) if cuda else platform.processor() or "cpu",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "memory_limit_bytes": memory_limit(model.device) if cuda else None,
        "transformer_parameters": sum(p.numel() for p in model.transformer.parameters()),
        "dtype": str(model.transformer.dtype).removeprefix("torch."),
        "text_encoder_stays_on_device": not model.spares_memory,
    }


def memory_limit(device: torch.device) -> int:
    """Bytes that torch may have of a CUDA device."""
    fraction = torch.cuda.get_per_process_memory_fraction(device)
    return int(fraction * torch.cuda.get_device_properties(device).total_memory)


def attempt(model: Model, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the work measured and its peak of memory, or that memory ran out."""
    free_memory()
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.device)
    try:
        measured = work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return {"fits": False}
    return {"fits": True, **measured, **peaks(model.device)}


def peaks(device: torch.device) -> dict[str, int]:
    """Bytes of tensors, and bytes taken from the device for them; nothing where torch does not count."""
    if device.type != "cuda":
        return {}
    return {
        "peak_allocated_bytes": torch.cuda.max_memory_allocated(device),
        "peak_reserved_bytes": torch.cuda.max_memory_reserved(device),
    }


# Z-Erase --------------------------------------------------------------------------------------------------


def train(model: Model, checkpointing: bool, settings: dict[str, int]) -> dict[str, float]:
    """Seconds of a step (median, the first left out), of the preparation, and of the paper's 1,000 steps."""
    method = ZErase.with_preset("paper", **settings, gradient_checkpointing=checkpointing)
    kept, model.spares_memory = model.spares_memory, False  # which of the two is measured is said above
    ends: list[float] = []
    start = time.perf_counter()
    try:
        method.erase(
            model,
            load_concept("nudity", model.spec.domain),
            progress=lambda done, total: ends.append(time.perf_counter()),
        )
    finally:
        model.spares_memory = kept
    steps = [after - before for before, after in itertools.pairwise(ends)]
    step = statistics.median(steps)
    preparation = ends[0] - start - step
    paper = ZErase.presets["paper"]
    drawn = settings["trajectories"] + settings["preserve_trajectories"]
    wanted = paper["trajectories"] + paper["preserve_trajectories"]
    return {
        "seconds_per_step": step,
        "seconds_of_preparation": preparation,
        "seconds_of_paper_preset": preparation * wanted / drawn + paper["steps"] * statistics.mean(steps),
    }


# Pictures -------------------------------------------------------------------------------------------------


def draw(model: Model, batch: int) -> dict[str, float]:
    """Pictures per second, and what share of the time the transformer's matrix products need at best."""
    captions = model.encode([PROMPT]) * batch
    seeds = list(range(batch))
    model.generate_from(captions, seeds, steps=2, batch_size=batch)
    repeats = []
    for _ in range(3):
        start = time.perf_counter()
        model.generate_from(captions, seeds, steps=PICTURE_STEPS, batch_size=batch)
        repeats.append(time.perf_counter() - start)
    seconds = statistics.median(repeats)
    products, rate = matrix_products(model, captions), matrix_rate(model, batch)
    return {
        "seconds": seconds,
        "pictures_per_second": batch / seconds,
        "matrix_flops": PICTURE_STEPS * products,
        "matrix_flops_per_second": rate,
        "matrix_share": PICTURE_STEPS * products / rate / seconds,
    }


@torch.no_grad()
def matrix_products(model: Model, captions: Sequence[torch.Tensor]) -> int:
    """Operations of the transformer's matrix products in one call, those of attention included."""
    timesteps = torch.full((len(captions),), 500.0)
    with FlopCounterMode(display=False) as counter:
        model.velocity(model.noise(range(len(captions))), timesteps, captions)
    return int(counter.get_total_flops())


@torch.no_grad()
def matrix_rate(model: Model, batch: int, seconds: float = 0.5) -> float:
    """Operations per second of the transformer's largest matrix product, alone and over and over."""
    weight = model.transformer.layers[0].feed_forward.w1.weight
    _, height, width = model.latent_shape()
    rows = torch.randn(batch * (height // 2) * (width // 2), weight.shape[1]).to(weight)
    rates, begin = [], time.perf_counter()
    while len(rates) < 4 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        for _ in range(8):
            rows @ weight.T
        wait(model.device)
        rates.append(8 * 2 * len(rows) * weight.numel() / (time.perf_counter() - start))
    return statistics.median(rates[1:])


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# The command ----------------------------------------------------------------------------------------------


def loaded(arguments: argparse.Namespace) -> Model:
    """The model that was asked for, under the limit of memory that was asked for."""
    device = torch.device(arguments.device)
    if arguments.limit_gb and device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, arguments.limit_gb * 1e9 / total), device)
    return load_model(arguments.model, device) if arguments.model else build_model(device)


def main(words: Sequence[str] | None = None) -> Path:
    """Measures, writes the JSON and says where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", help="name or folder instead of random weights of the full size")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--limit-gb", type=float, help="of the device's memory (GB are 10^9 bytes)")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--steps", type=int, default=TRAINING["steps"], help="of Z-Erase, at least 2")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(words)
    model = loaded(arguments)
    found = report(model, arguments.sizes, arguments.batches, {**TRAINING, "steps": arguments.steps})
    name = re.sub(r"[^a-z0-9]+", "-", found["device"].lower()).strip("-")
    limit = f"-{arguments.limit_gb:g}gb" if arguments.limit_gb else ""
    path = arguments.out or FOLDER / f"{name}{limit}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_json(path, found)
    print(json.dumps(found, indent=2))
    print(path)
    return path


if __name__ == "__main__":
    main()
