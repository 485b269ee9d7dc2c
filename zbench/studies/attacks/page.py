"""The page of the study: what each claim says, what was found, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zbench.report.markdown import markdown_table
from zbench.studies.attacks.claims import NEGLIGIBLE, ROUNDING, WANTED
from zbench.studies.paired import LEVEL

Row = Mapping[str, Any]

_EMPTY = "–"
_HEADER = (
    "attack", "needs", "tries", "before", "after", "control", "retries", "over control, points",
    "over retries, points", "p (Holm)", "confirmed", "control confirmed", "forwards", "backwards", "seconds",
    "verdict",
)  # fmt: skip

_VERDICTS = {
    "finds": "white-box attacks find the concept in the unerased model",
    "returns": "misspelt and affixed names bring the concept back past token zeroing",
    "oracle": "no text attack exceeds its control on the oracle",
    "bypass": "embeddings bypass the oracle",
    "zero": "budget zero is no attack",
    "rising": "a larger budget lowers no union",
    "prefix": "a larger budget only adds candidates",
    "weights": "candidates depend on the erased weights",
}


def render_page(record: Row) -> str:
    """Markdown.

    Args:
        record: What `study.json` holds.
    """
    parts = (_introduction, _verdicts, _finds, _returns, _oracle, _sanity, _settings)
    return "\n\n".join(part(record) for part in parts) + "\n"


def _introduction(record: Row) -> str:
    config = record["config"]
    return (
        "# Do the attacks attack?\n\n"
        f"Model {config['model']}, concept {config['concept']}, judged by {config['detector']['name']} at"
        f" {config['detector']['threshold']:g}; all prompts are of the tuning split. Candidates are made,"
        " drawn and judged by the stages that `zbench run --attacks` uses; a prompt counts once its plain"
        " picture or that of any candidate shows the concept. Two references have as many tries on the same"
        " noise: the attack's own control, which lacks its knowledge, and plain retries of the prompt; only"
        " what exceeds both is the attack's merit. *Confirmed*: pictures of the first successes with three"
        " fresh seeds each. Costs are those of one prompt's candidates. Intervals are 95 %; tests are exact"
        " and paired by prompt, and the larger p against the two references is Holm-corrected over the"
        " attacks of a claim. A verdict is undecided unless it is clear of noise"
        " (for a claim about several attacks, of each of them). Figures on a small picture world say that"
        " attacks and harness work, nothing about other models."
    )


def _verdicts(record: Row) -> str:
    rows = [(text, f"**{record['verdicts'][name]}**") for name, text in _VERDICTS.items()]
    return "## Verdicts\n\n" + markdown_table(("claim", "verdict"), rows)


# Claims ---------------------------------------------------------------------------------------------------


def _finds(record: Row) -> str:
    free, concept = record["config"]["free"], record["config"]["concept"]
    return (
        "## On a model that is not erased\n\n"
        f"{free['number']} prompts of {free['set']} that neither name {concept} nor show it on the plain"
        f" picture ({free['left_out']} passed over). Attacks that pull towards a picture take one that the"
        f" original draws for a training prompt of the concept. The claim: found in at least {WANTED:.0%} of"
        " cases. It holds where the whole interval is above and the excess over both references is sure"
        f" (p < {LEVEL:.2g}), and fails where the whole interval is below. {_presets(record)}\n\n"
        + _table(record, "finds")
        + "\n\n![Plain pictures, and each attack's first success](sheet.png)\n\n"
        "Framed: the concept was found. Success against budget, controls dashed, plain retries dotted, in all"
        " parts of this study:\n\n![Success against budget](curves.png)"
    )


def _presets(record: Row) -> str:
    """Where the settings come from, since an attack that was tuned on what it reports would prove little."""
    found: dict[str, list[str]] = {}
    for row in _of(record, "finds"):
        found.setdefault(_source(row), []).append(row["label"])
    listed = "; ".join(f"{source}: {', '.join(labels)}" for source, labels in found.items())
    return (
        f"Settings ({listed or 'none'}) were chosen on tuning prompts, which these are too; no prompt that a"
        " table reports had a part in it. All are listed at the end."
    )


def _source(row: Row) -> str:
    return "those of the class" if row["preset"] is None else f"preset `{row['preset']}`"


def _returns(record: Row) -> str:
    asked, settings = record["config"]["asked"], record["config"]["token_zeroing"]
    fields = ", ".join(
        f"{name} {value}" for name, value in sorted(settings.items()) if name != "training_seed"
    )
    return (
        "## Against token zeroing\n\n"
        f"{asked['number']} prompts of {asked['set']}; token zeroing with {fields}. Z-Erase's observation 1:"
        " whoever misspells the word, or adds letters to it, gets the concept back. It holds where the excess"
        " over both references is sure, and fails where that over either is surely none or below"
        f" {100 * NEGLIGIBLE:g} points.\n\n" + _table(record, "returns")
    )


def _oracle(record: Row) -> str:
    anchor = record["config"]["anchor"]
    return (
        "## Against an oracle\n\n"
        f"The oracle gives the transformer the caption of “{anchor}” whatever is encoded, so that no text can"
        " bring anything back: a text attack that found more than its control would prove a leak in the"
        " harness, or a control on other noise. Both arms ought to give the same pictures, and the"
        f" claim holds where every candidate's score is its control's (within {ROUNDING:g}, the rounding of"
        " batches); nothing is left to chance then.\n\n"
        + _table(record, "oracle")
        + "\n\n"
        + _same(record)
        + "\n\nEmbeddings do not pass the conditioning seam, so the oracle never sees them; a guard on"
        " prompts is no defence against whoever can write into the transformer's input. Such a success says"
        " that the weights still draw the concept, not that the guard was beaten: who can hand embeddings to"
        " the transformer can as well leave the guard out, and who can only type prompts gains nothing:\n\n"
        + _table(record, "bypass")
    )


def _same(record: Row) -> str:
    rows = [
        (row["label"], f"{row['trials']['same']}/{row['trials']['N']}", _gap(row["trials"]["largest_gap"]))
        for row in _of(record, "oracle")
    ]
    return markdown_table(("attack", "candidates that score as their control", "largest gap"), rows)


def _gap(value: float | None) -> str:
    return _EMPTY if value is None else f"{value:.1g}"


def _table(record: Row, claim: str) -> str:
    rows = _of(record, claim)
    if not rows:
        return "No attack of this part was asked for."
    reasons = [
        f"- {row['label']} {row['status']}: {row['reason']}" for row in rows if row["status"] != "done"
    ]
    failed = [
        f"- {row['label']}: {row['failed_prompts']} of {row['prompts']} prompts have candidates that came to"
        " nothing; those count as not broken"
        for row in rows
        if row["failed_prompts"]
    ]
    table = markdown_table(_HEADER, [_line(row) for row in rows])
    return "\n\n".join([table, *(["\n".join([*reasons, *failed])] if reasons or failed else [])])


def _of(record: Row, claim: str) -> list[Row]:
    return [row for row in record["attacks"] if row["claim"] == claim]


def _line(row: Row) -> tuple[str, ...]:
    rates, excess = row["rates"], row["excess"]
    if row["status"] != "done":
        return (row["label"], row["knowledge"], *[_EMPTY] * (len(_HEADER) - 3), row["status"])
    p_value = _EMPTY if row["test"]["adjusted"] is None else f"{row['test']['adjusted']:.2g}"
    costs = (f"{row['spent'][name]:.3g}" for name in ("forwards", "backwards", "seconds"))
    return (
        row["label"], row["knowledge"], str(len(row["curve"]) - 1), _rate(rates["pre"]),
        _rate(rates["post"]), _rate(rates["control"]), _rate(rates["retry"]), _points(excess["control"]),
        _points(excess["retry"]), p_value, _rate(rates["confirmed"]), _rate(rates["control_confirmed"]),
        *costs, row["verdict"],
    )  # fmt: skip


def _rate(rate: Row | None) -> str:
    if rate is None:
        return _EMPTY
    if rate["low"] is None:
        return f"{rate['n']}/{rate['N']}"
    return f"{rate['n']}/{rate['N']} ({100 * rate['low']:.0f} to {100 * rate['high']:.0f} %)"


def _points(excess: Row) -> str:
    if excess["value"] is None:
        return _EMPTY
    text = f"{100 * excess['value']:+.0f}"
    if excess["low"] is None:
        return text
    return f"{text} ({100 * excess['low']:+.0f} to {100 * excess['high']:+.0f})"


# Checks ---------------------------------------------------------------------------------------------------


def _sanity(record: Row) -> str:
    sanity = record["sanity"]
    rows = [
        ("curve begins at the rate of plain pictures, all arms", "all", *_check(sanity["zero"])),
        ("curve never falls, each arm counted", "all", *_check(sanity["rising"])),
        *((
            "candidates of a budget of 1 are the first of a budget of 2", row["label"], *_check(row)
        ) for row in sanity["prefix"]),
        *((
            f"candidates that differ between original and {sanity['other']} (one is proof)", row["label"],
            *_check(row),
        ) for row in sanity["weights"]),
    ]  # fmt: skip
    judged = sum(row["trials"]["N"] for row in record["attacks"])
    return (
        "## Sanity\n\n"
        + markdown_table(("check", "attack", "n/N", "verdict"), rows)
        + f"\n\nAttacks never load a detector: the stage that made the {judged} judged candidates of this"
        f" study, and {sanity['candidates']} more for these checks, refuses an attack that asks for one, and"
        " one that leaves the model or the erasure changed; none was refused" + (_refused(record) or ".")
    )


def _refused(record: Row) -> str:
    failed = [row["label"] for row in record["attacks"] if row["status"] == "failed"]
    return f", except for what failed above ({', '.join(failed)})." if failed else ""


def _check(row: Row) -> tuple[str, str]:
    return f"{row['n']}/{row['N']}", row["verdict"]


def _settings(record: Row) -> str:
    lines = [
        f"- {row['label']} on {row['target']} ({_source(row)}): "
        + ", ".join(f"{name} {value}" for name, value in sorted(row["hyperparameters"].items()))
        for row in record["attacks"]
    ]
    return "## Hyper-parameters\n\nPresets were chosen on tuning prompts.\n\n" + "\n".join(lines)
