"""The model card of an exported erasure: what it is, what was measured, how to load it, its limits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zbench.attacks.base import portable
from zbench.errors import ZbenchError
from zbench.exchange.kinds import Kind
from zbench.exchange.names import is_import
from zbench.model import load_spec
from zbench.report.values import TITLES, WORLD_NOTE, shown_value
from zbench.runner.specs import CellResult

_TEMPLATE = "card.md.j2"

_COSTS = {
    "seconds": "seconds of wall time",
    "peak_memory_bytes": "bytes of peak memory",
    "steps": "optimiser steps",
    "forwards": "forward passes",
    "backwards": "backward passes",
}

_ARROWS = {"lower": " ↓", "higher": " ↑"}


@dataclass(frozen=True)
class CardFacts:
    """What a card is made from.

    Attributes:
        result: The cell's result.
        original: The unerased model's, beside which its figures are read; None where it is not there.
        config: The configuration of the erasure: method, concept, model.
        erasure: `erasure.json`: hyper-parameters, cost, the edit's description.
    """

    result: CellResult
    original: CellResult | None
    config: Mapping[str, Any]
    erasure: Mapping[str, Any]

    @property
    def kind(self) -> Kind:
        """What sort of edit it is."""
        return Kind.of(self.erasure["edit"])

    @property
    def model_name(self) -> str:
        """Name of the base model, without the place where it lay."""
        name = self.result.provenance.get("model", {}).get("name")
        return str(name or Path(self.result.spec.model).name)

    @property
    def source(self) -> tuple[str, str]:
        """Kind and place of the base model's weights, see `ModelSpec.source`; empty where they are gone."""
        try:
            kind, _, place = load_spec(self.result.spec.model).source.partition(":")
        except ZbenchError:
            return "", ""
        return kind, place

    @property
    def base_name(self) -> str:
        """What the base model is called where everybody can find it: a Hub id, else its name."""
        kind, place = self.source
        return place if kind == "hub" else self.model_name

    @property
    def base_place(self) -> str:
        """What `from_pretrained` is given; a place that has to be filled in where it is on no hub."""
        kind, place = self.source
        return place if kind in ("hub", "package") else f"PATH/TO/{self.model_name}"


def card(facts: CardFacts) -> str:
    """The page as Markdown, with the header that model hubs read."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("zbench.exchange", "."),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,  # Markdown; what users named goes through `_plain`
    )
    return environment.get_template(_TEMPLATE).render(_values(facts))


def loading_lines(facts: CardFacts) -> tuple[str, ...]:
    """The best way to load it: without zbench where that is exact, with zbench elsewhere."""
    return tuple(_without_zbench(facts) if facts.kind.standalone else _with_zbench(facts))


def _values(facts: CardFacts) -> dict[str, Any]:
    spec, model = facts.result.spec, facts.config["model"]
    return {
        "kind": facts.kind,
        "base": json.dumps(facts.base_name),
        "title": _plain(f"{spec.concept} erased from {facts.model_name} by {spec.label}"),
        "method": dict(_method_lines(facts)),
        "figures": list(_figures(facts)),
        "attacks": list(_attacks(facts)),
        "cost": list(_cost(facts)),
        "verdict": facts.result.verdict or {},
        "status": facts.result.status,
        "reason": _plain(facts.result.reason) if facts.result.status != "done" else "",
        "sampler": f"{model['width']}x{model['height']} pixels, {spec.steps} steps",
        "protocol": facts.result.provenance.get("protocol", spec.protocol),
        "without_zbench": list(_without_zbench(facts)),
        "with_zbench": list(_with_zbench(facts)),
        "stock": list(_stock(facts)),
        "run": f"zbench run --model {_model_argument(facts)} --concept {spec.concept} --methods import:DIR",
        "limits": list(_limits(facts)),
    }


def _method_lines(facts: CardFacts) -> Iterator[tuple[str, str]]:
    spec, model, card_ = facts.result.spec, facts.config["model"], _method_card(facts.result)
    yield "Method", f"{spec.method}" + (f": {card_['title']}" if card_ else "")
    if card_ and card_["paper"]:
        yield "Paper", card_["paper"] + (f", arXiv {card_['arxiv']}" if card_["arxiv"] else "")
    yield "Concept", spec.concept
    yield "Base model", f"{facts.model_name}, weights `{model['weights']}`"
    yield "Run as", f"{model['dtype']}, guidance scale {model['guidance_scale']:g}"
    yield "Erasure", f"{facts.kind.what}; {facts.kind.rows} rows; kind `{facts.kind.name}`"
    seed = spec.training_seed
    yield "Training seed", "unknown: it was made elsewhere" if seed is None else str(seed)
    values = portable(facts.erasure["hyperparameters"])
    yield "Hyper-parameters", ", ".join(f"{name}={json.dumps(values[name])}" for name in sorted(values))
    yield "Made with", _made_with(facts)
    yield "Cell", f"`{facts.result.id}`"


def _method_card(result: CellResult) -> dict[str, Any] | None:
    """The card of an installed method; one from a file is not run for this."""
    from zbench.registry import load_method

    try:
        return load_method(result.spec.method).card.model_dump()
    except ZbenchError:
        return None


def _made_with(facts: CardFacts) -> str:
    provenance = facts.result.provenance
    checkout, packages = provenance.get("checkout"), provenance.get("packages", {})
    parts = [f"zbench {provenance.get('zbench', '?')}"]
    if checkout:
        parts.append(f"commit {checkout['commit']}{' with changes' if checkout['dirty'] else ''}")
    parts += [f"{name} {packages[name]}" for name in ("torch", "diffusers", "peft") if name in packages]
    return ", ".join(parts)


def _figures(facts: CardFacts) -> Iterator[dict[str, str]]:
    """Figures that were measured, in the order of a table."""
    for name, title in TITLES.items():
        figure = facts.result.figure(name)
        if figure is None or figure["value"] is None:
            continue
        beside = facts.original.figure(name) if facts.original else None
        unit = ", %" if figure["unit"] == "rate" else ""
        yield {
            "title": f"{title}{unit}{_ARROWS.get(figure['direction'], '')}",
            "erased": shown_value(figure),
            "original": shown_value(beside),
            "interval": figure["interval"] or "–",
        }


def _attacks(facts: CardFacts) -> Iterator[dict[str, str]]:
    for record in facts.result.attacks:
        figures = (each for each in record.figures if each["value"] is not None)
        shown = "; ".join(f"{each['name']} {shown_value(each)}" for each in figures)
        yield {"label": _plain(record.label), "status": record.status, "figures": shown or "–"}


def _cost(facts: CardFacts) -> Iterator[str]:
    """What it took; of an import nobody knows."""
    for name, unit in _COSTS.items() if facts.result.cost else ():
        value = (facts.result.cost or {}).get(name)
        if value:
            yield f"{value:,.0f} {unit}" if isinstance(value, int) else f"{value:,.1f} {unit}"


# How to load it -------------------------------------------------------------------------------------------


def _without_zbench(facts: CardFacts) -> Iterator[str]:
    yield from _pipeline_lines(facts, "from load_erasure import apply  # in DIR")
    yield "take_off = apply(pipeline)"
    yield from _picture_lines(facts)
    yield "take_off()  # the unerased model again"


def _stock(facts: CardFacts) -> Iterator[str]:
    yield from _pipeline_lines(facts)
    yield 'pipeline.load_lora_weights("DIR", weight_name="pytorch_lora_weights.safetensors")'
    yield from _picture_lines(facts)


def _pipeline_lines(facts: CardFacts, *imports: str) -> Iterator[str]:
    dtype = facts.config["model"]["dtype"]
    yield from ("import torch", "from diffusers import ZImagePipeline", *imports, "")
    if facts.source[0] == "package":
        yield "# beside the installed package zbench:"
    place = json.dumps(facts.base_place)
    yield f"pipeline = ZImagePipeline.from_pretrained({place}, torch_dtype=torch.{dtype})"


def _picture_lines(facts: CardFacts) -> Iterator[str]:
    model, steps = facts.config["model"], facts.result.spec.steps
    yield "picture = pipeline("
    yield f'    "PROMPT", height={model["height"]}, width={model["width"]}, num_inference_steps={steps},'
    yield f"    guidance_scale={model['guidance_scale']}, max_sequence_length={model['max_sequence_length']},"
    yield "    generator=torch.Generator().manual_seed(0),"
    yield ").images[0]"


def _with_zbench(facts: CardFacts) -> Iterator[str]:
    yield "import zbench"
    yield "from zbench.edits import load_edit"
    yield ""
    yield f"model = zbench.load_model({json.dumps(_model_argument(facts))})"
    yield 'with model.edited(load_edit("DIR")):'
    yield f'    pictures = model.generate(["PROMPT"], seeds=[0], steps={facts.result.spec.steps})'


def _model_argument(facts: CardFacts) -> str:
    """What `--model` is given: a name of the catalogue, or a place to be filled in."""
    name = facts.result.spec.model
    return name if name == facts.model_name else f"PATH/TO/{facts.model_name}"


# What it does not show ------------------------------------------------------------------------------------


def _limits(facts: CardFacts) -> Iterator[str]:
    spec, kind = facts.result.spec, facts.kind
    if _is_world(facts):
        yield WORLD_NOTE
    yield (
        "Rates are of these prompts, seeds, picture size and sampler, with 95 % intervals: of other prompts, "
        "languages, sizes, steps, number formats or fine-tunes of the base they say nothing."
    )
    yield "None found among N is no proof of none: the upper bound stands beside it. Detectors err."
    if is_import(spec.method):
        yield "It was made elsewhere: with which prompts is unknown; they may be those it was measured on."
    else:
        yield (
            f"It is one training (seed {spec.training_seed}): it speaks for itself, and for {spec.method}"
            " only together with others."
        )
    if not facts.result.attacks:
        yield "No attack was tried on it: it is no evidence of robustness."
    else:
        yield "Attacks that are not listed were not tried; a failed or skipped one shows nothing."
    hidden = "leaves it off" if kind.name != "checkpoint" else "uses those"
    yield f"It hides the concept from users of this pipeline: whoever has the base weights {hidden}."


def _is_world(facts: CardFacts) -> bool:
    try:
        return load_spec(facts.result.spec.model).domain == "world"
    except ZbenchError:
        return False


def _plain(text: str) -> str:
    """One line that cannot end a heading, a table cell or a tag."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
