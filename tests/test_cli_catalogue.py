"""The command line starts fast and light, and lists what there is."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import zbench as package
from zbench.cli import main

HEAVY = ("torch", "pandas", "diffusers", "transformers", "numpy", "scipy")


def modules_after(words: list[str]) -> set[str]:
    code = (
        "import sys, json\nfrom zbench.cli import main\n"
        f"try: main({words!r})\nexcept SystemExit as left: assert not left.code, left.code\n"
        "print('\\n@' + json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.rpartition("@")[2]))


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["run", "--help"],
        ["methods"],
        ["attacks"],
        ["concepts"],
        ["detectors"],
        ["prompts"],
        ["models"],
    ],
)
def test_help_and_listings_import_nothing_heavy(words: list[str]) -> None:
    assert modules_after(words).isdisjoint(HEAVY)


def test_importing_the_package_is_light() -> None:
    code = "import sys, zbench; print({'torch', 'pydantic', 'typer'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_help_takes_little_time() -> None:
    """Processor time, because other work may run beside the tests; the target is half a second."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "zbench", "--help"], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as left:
        main(words)
    assert not left.value.code
    return capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "--version").strip() == package.__version__


def test_listing_methods_takes_little_time() -> None:
    """Their files are imported for their cards; processor time, as above."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "zbench", "methods"], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5


@pytest.mark.parametrize(
    ("kind", "name", "field"),
    [
        ("concepts", "nudity", "phrases"),
        ("prompts", "nudity-explicit", "sha256"),
        ("models", "z-image-turbo", "source"),
    ],
)
def test_lists_and_cards(capsys: pytest.CaptureFixture[str], kind: str, name: str, field: str) -> None:
    assert name in shown(capsys, kind).split()
    listed = json.loads(shown(capsys, kind, "--json"))
    assert name in (
        listed if isinstance(listed, list) else [one for group in listed.values() for one in group]
    )
    assert field in json.loads(shown(capsys, kind, name, "--json"))
    assert f"{field}:" in shown(capsys, kind, name)


def test_plan_shows_cells_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZBENCH_MODEL", raising=False)
    monkeypatch.chdir(tmp_path)
    text = shown(capsys, "plan", "--methods", "uce,zerase", "--concept", "nudity", "--set", "zerase.rank=5")
    assert "no evidence about Z-Image" in text
    assert "- original\n- uce s0: " in text
    assert "rank=5" in text
    assert list(tmp_path.iterdir()) == []


def test_public_names_resolve() -> None:
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = package.nonsense
