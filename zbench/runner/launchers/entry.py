"""The one entry of every launcher: a spec file in, a result on disk and an exit code out.

`zbench cell SPEC.json`, the fork server's children and the jobs of a cluster all call `run_spec_file`.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zbench.errors import ZbenchError
from zbench.plugins import describe
from zbench.runner.events import EventReporter, EventWriter
from zbench.runner.launchers.base import BROKEN, DEVICE_LOST, DONE, FAILED, REFUSED, STOPPED
from zbench.runner.launchers.devices import is_lost, is_there, use_threads
from zbench.runner.launchers.logs import captured
from zbench.runner.launchers.spec_file import SpecFile
from zbench.runner.launchers.stopping import StopFlag, Stopped, handling

if TYPE_CHECKING:
    from zbench.runner.specs import CellResult


@dataclass(frozen=True)
class Outcome:
    """How a cell's process came to its end by itself.

    Attributes:
        code: Its exit code.
        status: As its last event says.
        message: What the user must mend, where it was refused; why it failed, where it did.
    """

    code: int
    status: str
    message: str = ""


def run_spec_file(path: Path | str, *, echo: bool = False, stop: StopFlag | None = None) -> int:
    """Runs one cell in this process, with a log and events of its own.

    SIGTERM and SIGINT ask it to stop: it does so at the next step, and can be gone on with.

    Args:
        path: The spec file.
        echo: Whether what is printed also goes where it would go without a log.
        stop: Set by somebody else to ask the cell to stop.

    Returns:
        An exit code: 0 done or skipped, 1 failed (the result says why), 2 the user must mend something first,
        70 the cell broke down without a result, 75 its device is not there, 130 it stopped as asked.
    """
    return outcome_of(path, echo=echo, stop=stop).code


def outcome_of(path: Path | str, *, echo: bool = False, stop: StopFlag | None = None) -> Outcome:
    """Like `run_spec_file`, with words."""
    try:
        file = SpecFile.read(path)
    except ZbenchError as error:
        print(f"zbench: {error}", file=sys.stderr)
        return Outcome(REFUSED, "refused", str(error))
    with EventWriter(file.events) as events:
        # A second run over the same folder leaves the log of the first alone.
        log = file.log if events.owns else file.log.with_suffix(f".{os.getpid()}.log")
        with captured(log, file.log_limit, echo):
            events.start(file.device or file.spec.device or "auto")
            outcome = _outcome(file, EventReporter(events, StopFlag() if stop is None else stop))
            events.write("end", status=outcome.status)
    return outcome


def _outcome(file: SpecFile, reporter: EventReporter) -> Outcome:
    try:
        with handling(reporter.stop):
            return _run(file, reporter)
    except Stopped:
        return Outcome(STOPPED, "stopped")
    except ZbenchError as error:
        print(f"zbench: {error}", file=sys.stderr)
        reporter.events.write("refused", message=str(error))
        return Outcome(REFUSED, "refused", str(error))
    except BaseException as error:  # such as a result that cannot be written: the log says all
        traceback.print_exc()
        return Outcome(BROKEN, "broken", describe(error))


def _run(file: SpecFile, reporter: EventReporter) -> Outcome:
    from zbench.runner.cell import run_cell
    from zbench.runner.workshop import Workshop
    from zbench.store import Store

    if not faulthandler.is_enabled():
        faulthandler.enable(2)  # a crash, or the end of a hanging cell, leaves its place in the log
    use_threads(file.threads)
    if not is_there(file.device):
        return Outcome(DEVICE_LOST, "device lost", f"there is no device {file.device}")
    spec = file.spec.model_copy(update={"device": file.device or file.spec.device})
    store = Store.open(file.root, create=False, notify=reporter.say)
    return _judged(run_cell(spec, store, reporter, Workshop()), file)


def _judged(result: CellResult, file: SpecFile) -> Outcome:
    if result.status != "failed":
        return Outcome(DONE, result.status)
    print(result.error, file=sys.stderr)
    if is_lost(file.device, result.error or ""):
        return Outcome(DEVICE_LOST, "device lost", result.reason)
    return Outcome(FAILED, "failed", result.reason)
