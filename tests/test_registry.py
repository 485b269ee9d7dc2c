"""Entry points: anyone's package can add a method; listing imports nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.runner_tools import install_stranger
from zbench import registry
from zbench.errors import ConfigurationError, UnknownNameError


def test_shipped_methods_and_detectors_are_found() -> None:
    assert {"ac", "naive", "uce", "zerase"} <= set(registry.method_names())
    assert {"nudenet", "world", "world_second"} <= set(registry.detector_names())


@pytest.mark.parametrize("name", ["ac", "naive", "uce", "zerase"])
def test_shipped_methods_load_under_their_own_name(name: str) -> None:
    method = registry.load_method(name)
    assert method.name == name
    assert {"paper", "miniature"} <= set(method.presets)


def test_unknown_method_names_close_matches() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown method 'zeras'\. Did you mean zerase"):
        registry.load_method("zeras")


def test_method_of_another_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_stranger(tmp_path / "stranger", monkeypatch)
    assert "shift" in registry.method_names()
    assert registry.load_method("shift").__module__ == "stranger_methods"


def test_name_clash_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_stranger(
        tmp_path / "stranger", monkeypatch, "[zbench.methods]\nzerase = stranger_methods:Shift\n"
    )
    with pytest.raises(ConfigurationError, match=r"Two installed packages provide zbench\.methods 'zerase'"):
        registry.load_method("zerase")
    assert registry.load_method("uce").name == "uce"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_module:X", "cannot be imported"),
        ("stranger_methods:Missing", "cannot be imported"),
        ("stranger_methods:CARD", "not a Method with that name"),
        ("stranger_methods:Shift", "not a Method with that name"),
    ],
)
def test_broken_entry_point_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, message: str
) -> None:
    install_stranger(tmp_path / "stranger", monkeypatch, f"[zbench.methods]\nother = {target}\n")
    with pytest.raises(ConfigurationError, match=message) as caught:
        registry.load_method("other")
    assert "\n" not in str(caught.value)


def test_listing_imports_no_method_and_no_torch() -> None:
    code = (
        "import sys\nfrom zbench.registry import method_names, detector_names\n"
        "method_names(), detector_names()\n"
        "print([m for m in sys.modules if m.startswith(('torch', 'zbench_methods', 'pandas'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
