"""Sessions for developers and CI: `nox -s lint types tests check bench`."""

from __future__ import annotations

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True


@nox.session
def lint(session: nox.Session) -> None:
    """Style and docstrings."""
    session.install("ruff>=0.9")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Strict typing of the package and of the shipped methods."""
    session.install("-e", ".[dev]")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """The whole test suite."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def check(session: nox.Session) -> None:
    """The conformance suite for every shipped method at its presets."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.check_presets", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Times drawing against scoring, NudeNet against its bare session, attacks; then the main job."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.bench_scoring")
    session.run("python", "-m", "tests.bench_attacks")
    session.run("python", "tests/bench_run.py", *session.posargs)
