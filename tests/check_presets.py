"""The conformance suite for shipped methods at their presets, pictures included; minutes, so not a test.

Run it with `nox -s check`, or `python -m tests.check_presets [NAME ...]`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from zbench.cli.check import show_report
from zbench.conformance import Bench, check
from zbench.registry import method_names
from zbench.runner.display.progress import reporter_for_terminal


def main(names: Sequence[str]) -> int:
    """Checks methods one after the other on one model, and prints a table for each.

    Args:
        names: Of methods; all when empty.

    Returns:
        Exit code: 1 where a check failed.
    """
    bench, broken = Bench(), []
    for name in names or method_names():
        with reporter_for_terminal() as reporter:
            report = check(name, bench=bench, reporter=reporter)
        show_report(report, as_json=False)
        broken += [f"{name}: {result.name}" for result in report.failures]
    print("\n".join(["Broken rules:", *broken]) if broken else "No rule is broken.")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
