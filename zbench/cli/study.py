"""`zbench study`: lists the studies of instruments and methods, or runs one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from zbench.cli.catalogue import AsJson, show_json
from zbench.errors import ConfigurationError

StudyName = Annotated[str | None, typer.Argument(help="Run this study; all are listed without it.")]
StudyOut = Annotated[Path | None, typer.Option("--out", help="Folder.  [results/studies/NAME]")]
StudyModel = Annotated[
    str | None,
    typer.Option("--model", help="Name (see `zbench models`) or folder of a pipeline.  [miniature]"),
]
StudySettings = Annotated[
    list[str] | None, typer.Option("--set", metavar="OPTION=VALUE", help="Option of the study; repeatable.")
]


def study(
    name: StudyName = None,
    out: StudyOut = None,
    model: StudyModel = None,
    settings: StudySettings = None,
    json: AsJson = False,
) -> None:
    """Experiments about instruments (detectors, collapse signals, intervals) and about methods."""
    if name is None:
        _list(json)
        return
    from zbench.config import RunConfig

    # The run's own sources of the default model: flag, environment, zbench.toml.
    chosen = RunConfig.shared({"model": model}).model
    _run(name, out or Path("results") / "studies" / name, chosen, _options(settings or []))


def _list(as_json: bool) -> None:
    from zbench.studies import STUDIES, study_names

    if as_json:
        show_json(study_names())
        return
    width = max(map(len, STUDIES))
    print("\n".join(f"{name:{width}}  {STUDIES[name][1]}" for name in study_names()))


def _run(name: str, out: Path, model: str, options: dict[str, Any]) -> None:
    from zbench.runner.display.progress import reporter_for_terminal
    from zbench.studies import run_study

    with reporter_for_terminal() as reporter, reporter.stage(f"study {name}") as advance:
        run_study(name, out, model, advance, options)
    print(f"Read {out / 'study.md'}")


def _options(assignments: Sequence[str]) -> dict[str, Any]:
    """`OPTION=VALUE`; values are JSON where they can be, else text.

    Raises:
        ConfigurationError: An assignment has not this form.
    """
    import json

    options: dict[str, Any] = {}
    for assignment in assignments:
        option, equals, text = assignment.partition("=")
        if not (equals and option.strip()):
            raise ConfigurationError(f"--set {assignment}: write OPTION=VALUE, such as pictures=300.")
        try:
            options[option.strip()] = json.loads(text)
        except ValueError:
            options[option.strip()] = text.strip()
    return options
