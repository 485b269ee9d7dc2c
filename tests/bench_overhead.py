"""What runner and store add to a bare loop over the pipeline that does the same work, both as whole commands.

The loop has everything in one process and keeps nothing but the figures; `zbench run` gives every cell a
process of its own, and stores and verifies what it makes.

Run by `nox -s bench`; `--prompts 4 --repeats 1` for a quick look.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench_tools import Row, alternate, medians, ratio, show

METHODS = ("zerase", "uce", "ac")
CONCEPT = "nudity"
LIMIT = 1.03


def bare(prompts: int | None) -> None:
    """Erases, draws and scores as a script would: no folder, no manifest, no second process."""
    from zbench.config import RunConfig
    from zbench.runner.identity import CellInputs, method_of
    from zbench.runner.planning import plan
    from zbench.stages.inputs import ModelHandle
    from zbench.stages.samples import Sample, SamplesView
    from zbench.stages.score import score
    from zbench.stages.scorer import load_scorer

    specs = plan(RunConfig(methods=METHODS, concept=CONCEPT, prompts=prompts))
    inputs = CellInputs.of(specs[0], ModelHandle("miniature"))
    model, scorer = inputs.model.model, load_scorer(inputs.table, CONCEPT)

    def drawn(samples: list[Sample]) -> SamplesView:
        texts, seeds = [sample.prompt for sample in samples], [sample.seed for sample in samples]
        return SamplesView(tuple(samples), model.generate(texts, seeds, steps=specs[0].steps))

    def view() -> SamplesView:
        whole = SamplesView.concat([drawn(samples) for samples in inputs.samples.values()])
        return whole.take([i for i, s in enumerate(whole.samples) if s.key[:2] not in inputs.left_out])

    original = view()
    score(original, original, scorer)
    for spec in specs[1:]:
        method = method_of(spec)
        assert method is not None
        with model.edited(method.erase(model, inputs.concept).edit):
            pictures = view()
        score(pictures, original, scorer)


def measure(prompts: int | None, repeats: int, folder: Path) -> list[Row]:
    """Both in turn, each in a fresh process and a fresh folder."""
    few = [] if prompts is None else ["--prompts", str(prompts)]

    def run(number: int) -> None:
        words = [
            "run",
            "--methods",
            ",".join(METHODS),
            "--concept",
            CONCEPT,
            "--out",
            str(folder / str(number)),
        ]
        _call("-m", "zbench", *words, *few)

    seconds = alternate({"bare": lambda _: _call("-m", __spec__.name, "--bare", *few), "run": run}, repeats)
    detail = {"seconds": medians(seconds, 1), "prompts": prompts}
    return [Row("zbench run / a bare loop", ratio(seconds, "run", "bare"), "x", LIMIT, "at most", detail)]


def _call(*words: str) -> None:
    subprocess.run([sys.executable, *words], check=True, capture_output=True)


def main() -> None:
    """Prints a table, and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--bare", action="store_true", help="only do the bare loop's work")
    chosen = parser.parse_args()
    if chosen.bare:
        bare(chosen.prompts)
        return
    with tempfile.TemporaryDirectory() as folder:
        show(measure(chosen.prompts, chosen.repeats, Path(folder)))


if __name__ == "__main__":
    main()
