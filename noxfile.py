"""Sessions for developers and CI: `nox -s lint types tests leaderboard check bench`."""

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
def faults(session: nox.Session) -> None:
    """What a grid must survive, injected for real; prints how many were killed and where."""
    session.install("-e", ".[test]")
    session.run("pytest", "tests/faults", "-s", *session.posargs, env={"ZBENCH_EVERY_BOUNDARY": "1"})


@nox.session
def leaderboard(session: nox.Session) -> None:
    """Tables, page and README figures made anew from results/: fails where a committed one differs."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "zbench.results", "results", "results/reproduction")
    session.run("python", "-m", "tests.leaderboard_check", *session.posargs)


@nox.session
def recheck(session: nox.Session) -> None:
    """Two methods run again on the miniature: do the committed figures still come out?"""
    session.install("-e", ".[test]")
    session.run("python", "-m", "zbench.results.recheck", "results", *session.posargs)


@nox.session
def check(session: nox.Session) -> None:
    """The conformance suite for every shipped method at its presets."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.check_presets", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Times drawing, scoring, attacks, launching and planning side by side; then the main job."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.bench_pictures")
    session.run("python", "-m", "tests.bench_scoring")
    session.run("python", "-m", "tests.bench_attacks")
    session.run("python", "-m", "tests.bench_launch")
    session.run("python", "-m", "tests.bench_overhead")
    session.run("python", "-m", "tests.bench_planning")
    session.run("python", "-m", "tests.bench_leaderboard")
    session.run("python", "tests/bench_run.py", *session.posargs)


@nox.session
def full_size(session: nox.Session) -> None:
    """A random pipeline of full size through the ordinary command on the CPU: seconds and peak memory."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.full_size", *(session.posargs or [session.create_tmp()]))
