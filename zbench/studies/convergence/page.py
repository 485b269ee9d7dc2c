"""The study's page in Markdown: verdicts first, then what they rest on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zbench.report.markdown import markdown_table
from zbench.studies.convergence.comparing import rate
from zbench.studies.convergence.plan import DECAY, FIRST_STEP

Row = Mapping[str, Any]


def render_page(record: Mapping[str, Any]) -> str:
    """The page.

    Args:
        record: What `study.json` holds.
    """
    parts = (
        _introduction, _verdicts, _noise, _proxy, _drift, _stationarity, _trade_offs, _multipliers, _ablation,
    )  # fmt: skip
    return "\n\n".join(part(record) for part in parts) + "\n"


def _introduction(record: Row) -> str:
    config = record["config"]
    margins = config["margins"]
    rates = ", ".join(
        f"{scale['optimiser']} alpha {scale['learning_rate']:g}, beta {scale['beta']:g}"
        for scale in config["scales"]
    )
    return (
        "# Do Z-Erase's claims about its optimisation hold?\n\n"
        f"Method `{config['method']}`, concept {config['concept']}, model {config['model']['name']},"
        f" {config['steps']} steps unless said otherwise ({rates}; epsilon as the tables say). Success is the"
        f" share of {config['asked']} tuning prompts that name the concept whose picture shows it; the CLIP"
        f" score is that of unrelated tuning prompts (original: {record['original_clip']:.1f}). L_pr is the"
        " mean over the last fifth of a training, on the points that each step saw.\n\n"
        "One concept, and one training seed for all but the noise of L_pr: what is said here of success is"
        " said of these trainings. Two success rates differ where the exact paired test over the same prompts"
        " says so, Holm-corrected over all comparisons of a claim; they are alike where the whole 95 %"
        " interval of their difference (Bonett-Price) lies within"
        f" {100 * margins['success']:.0f} points. Two losses differ beyond the noise that is measured below,"
        " by the same correction, and are alike where their ratio with its noise lies within a factor of"
        f" {margins['L_pr']:g}. What is neither stays undecided; so does a claim for which a training is"
        f" missing.{_too_few(config)}"
    )


def _too_few(config: Row) -> str:
    """What cannot be shown with so few prompts; empty where there are enough."""
    margins = config["margins"]
    if margins["narrowest"] <= margins["success"]:
        return ""
    return (
        f" With {config['asked']} prompts the interval is at least {100 * margins['narrowest']:.0f} points to"
        " either side, so that no two success rates can be shown to be alike: more prompts are needed."
    )


def _verdicts(record: Row) -> str:
    rows = [
        (claim["says"], claim["optimiser"], f"**{claim['verdict']}**", _cell(claim["because"]))
        for claim in record["claims"]
    ]
    counts = [f"{sum(c['verdict'] == word for c in record['claims'])} {word}" for word in _WORDS]
    return (
        "## Verdicts\n\n"
        + markdown_table(("claim", "optimiser", "verdict", "because"), rows)
        + f"\n\nOf {len(record['claims'])}: {', '.join(counts)}."
    )


_WORDS = ("holds", "does not hold", "undecided")


def _noise(record: Row) -> str:
    rows = [
        (optimiser, ", ".join(f"{loss:.3g}" for loss in losses), trial)
        for optimiser, noise in record["noise"].items()
        for trial, losses in noise["losses"].items()
    ]
    return (
        "## Noise of L_pr\n\n"
        + markdown_table(("optimiser", "L_pr by training seed", "trial"), rows)
        + "\n\n"
        + "\n\n".join(_noise_text(optimiser, noise) for optimiser, noise in record["noise"].items())
    )


def _noise_text(optimiser: str, noise: Row) -> str:
    level, ratio = noise["level"], noise["ratio"]
    if ratio["factor"] is None:
        return f"{optimiser}: the noise could not be measured, so that nothing is said about L_pr."
    return (
        f"{optimiser}: over training seeds L_pr spreads by {100 * level['deviation']:.0f} % (standard"
        f" deviation of its logarithm, {level['freedom']} degrees of freedom). The ratio of two trainings of"
        f" one seed, which see the same points, spreads by {100 * ratio['deviation']:.0f} %"
        f" ({ratio['freedom']} degrees of freedom): by chance alone two losses are up to a factor of"
        f" {ratio['factor']:.2g} apart in 95 of 100 cases, one loss up to {level['factor']:.2g} from its"
        " mean."
    )


def _proxy(record: Row) -> str:
    rows = []
    for claim in _claims(record, "proxy error"):
        for label, row in claim["figures"].get("by_step_length", {}).items():
            rows.append(
                (
                    claim["optimiser"], label, _number(row["G"]), f"{row['within']} of {row['steps']}",
                    _number(row.get("error")), _number(row.get("implied_G")), _share(row.get("tightness")),
                    _share(row.get("relative")), _share(row.get("same_sign")),
                )
            )  # fmt: skip
    columns = (
        "optimiser", "share of alpha", "G", "within the bound", "error", "G it implies", "error / bound",
        "error / abs(g)", "same sign",
    )  # fmt: skip
    return (
        "## The proxy of the constraint\n\n"
        "g = <grad L_pr, d> + epsilon from the gradient, d the direction that the optimiser really took; g~"
        " from L_pr before and after the step on the same points. G is estimated apart from these steps: at"
        " four moments of each training, the largest abs(grad L_pr(theta + u) - grad L_pr(theta)) / abs(u)"
        " that power iteration finds on other points, u as long as the step taken there. It bounds the true"
        " constant from below: a step within the bound supports the claim, a step outside it refutes nothing."
        " Medians over steps:\n\n"
        + markdown_table(columns, rows)
        + "\n\n![Error of the proxy against its bound](proxy.png)"
    )


def _drift(record: Row) -> str:
    rows = []
    for claim in _claims(record, "drift"):
        for epsilon, constant in claim["figures"].get("constants", {}).items():
            rows.append((claim["optimiser"], epsilon, f"{constant:.3g}"))
    return (
        "## The drift of L_pr\n\nL_pr at the end as a multiple of t epsilon alpha; a bound O(t epsilon alpha)"
        " needs one multiple for all slacks.\n\n"
        + markdown_table(("optimiser", "epsilon", "L_pr / (t epsilon alpha)"), rows)
        + "\n\nWith the same points in every step the implicit rule telescopes: L_pr = t epsilon alpha +"
        " (alpha / beta) lambda_t as long as lambda is not clamped at zero. The second term, which the claim"
        " leaves out, is how far L_pr has to rise before lambda is large enough.\n\n![Drift](drift.png)"
    )


def _stationarity(record: Row) -> str:
    return (
        f"## Towards zero\n\n{record['config']['long_steps']} steps of length {FIRST_STEP:g} alpha"
        f" (t + 1)^-{DECAY:g} on the same points. No finite training shows a limit: asked for is that the"
        " least ‖d‖ halves and that min ‖d‖² falls as fast as gradient methods promise, like one over the sum"
        " of step lengths. Under AdamW d is the update divided by the step length, which normalisation keeps"
        " from vanishing; the gradient is shown beside it.\n\n![Least direction](stationarity.png)"
    )


def _trade_offs(record: Row) -> str:
    rows = []
    for optimiser, by_field in record["trade_offs"].items():
        for field, names in by_field.items():
            rows += [
                (
                    optimiser,
                    f"{field} {record['trials'][name]['settings'][field]:g}",
                    *_trial(record["trials"][name]),
                )
                for name in names
            ]
    return (
        "## epsilon and beta\n\n"
        + markdown_table(("optimiser", "setting", *_TRIAL), rows)
        + "\n\n![Trade-offs](trade-offs.png)"
    )


def _multipliers(record: Row) -> str:
    rows = [(name, *_trial(record["trials"][name])) for name in record["multipliers"]]
    return (
        "## Ways to find lambda\n\nViolation: mean over steps of max(0, -g), from the gradients and the step"
        " really taken in mode exact, from the proxy in mode implicit. An exact lambda keeps the constraint"
        " for plain gradient descent on the points of the step; AdamW makes another direction of it.\n\n"
        + markdown_table(("how", *_TRIAL), rows)
        + "\n\n![Success against L_pr](plane.png)\n\n![Traces](traces.png)"
    )


def _ablation(record: Row) -> str:
    rows = [(name, *_trial(record["trials"][trial])) for name, trial in record["ablation"].items()]
    return "## The ablation table\n\n" + markdown_table(("objective", *_TRIAL), rows)


_TRIAL = (
    "success",
    "L_pr",
    "CLIP score",
    "objects found",
    "lambda at the end",
    "violation",
    "forwards + backwards",
)


def _trial(row: Row) -> tuple[str, ...]:
    if "reason" in row:
        return (row["status"], *["–"] * (len(_TRIAL) - 1))
    objects = "–" if row["objects"] is None else f"{100 * row['objects']:.0f} %"
    mark = ", collapsed" if row["collapsed"] else ""
    return (
        f"{rate(row)} ({100 * row['success']:.0f} %)",
        f"{row['last_preserve']:.3g}",
        f"{row['clip_score']:.1f}{mark}",
        objects,
        f"{row['last_multiplier']:.3g}",
        _number(row.get("violation")),
        f"{row['evaluations']:.1f} per step",
    )


def _cell(text: str) -> str:
    """Text that breaks no table: an error's may hold bars and line breaks."""
    return text.replace("|", "/").replace("\n", " ")


def _claims(record: Row, name: str) -> list[Row]:
    return [claim for claim in record["claims"] if claim["name"] == name]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.3g} %"
