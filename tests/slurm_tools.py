"""What tests of the SLURM launcher need: a cluster, cells to run on it, and a board that steps in."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from zbench.config import RunConfig
from zbench.runner.cell import Workshop
from zbench.runner.identity import Identities
from zbench.runner.launchers.base import Ended, Job
from zbench.runner.launchers.settings import Launch, SlurmSettings
from zbench.runner.planning import plan
from zbench.store import Store

START = Path(__file__).parents[1] / ".ci" / "slurm"
OWN_CONF = Path("/var/lib/zbench-slurm/slurm.conf")


def why_no_cluster() -> str | None:
    """Why these tests cannot be run here; None where the cluster of `.ci/slurm` answers.

    Another cluster is left alone: its queue, its users and its file systems are nobody's to test with.
    """
    if find_spec("submitit") is None:
        return "submitit is not installed; pip install 'zbench[slurm]' does it"
    if shutil.which("sinfo") is None:
        return "SLURM is not installed; as root on Debian, `.ci/slurm start` does it"
    environment = {"SLURM_CONF": str(OWN_CONF), **os.environ}
    asked = subprocess.run(["scontrol", "show", "config"], env=environment, capture_output=True, text=True)
    if asked.returncode != 0:
        return "no SLURM answers; as root, `.ci/slurm start` makes a cluster of this machine"
    own = any(line.split() == ["ClusterName", "=", "zbench"] for line in asked.stdout.splitlines())
    return None if own else "the SLURM that answers is not the one of `.ci/slurm`"


@contextmanager
def cluster() -> Iterator[None]:
    """The cluster for the length of a `with` block; nothing of it is left in the queue."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        if "SLURM_CONF" not in os.environ:
            monkeypatch.setenv("SLURM_CONF", str(OWN_CONF))
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        yield
        slurm("scancel", "--partition=main,urgent")


def slurm(*command: str) -> str:
    """What one of SLURM's commands prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def queued() -> list[str]:
    """Jobs in the queue."""
    return slurm("squeue", "--noheader", "--array", "--format=%i").split()


def launch(**settings: Any) -> Launch:
    """Cells of one core, and no GPU."""
    return Launch(launcher="slurm", slurm=SlurmSettings(gpus=0, cpus=1, minutes=10, **settings))


def grid(folder: Path, *methods: str, seeds: int = 1, **settings: Any) -> tuple[Store, list[Job]]:
    """Cells of a few prompts on the miniature, the unerased model first."""
    fields = {"concept": "nudity", "prompts": 1, "steps": 2, "repetitions": 1, "out": folder, **settings}
    config = RunConfig.create({"methods": methods, "training_seeds": seeds, **fields})
    store, identities = Store.open(folder), Identities(Workshop().model)
    specs = plan(config)
    return store, [Job(identities.folder(s, store).id, s.label, s, s.is_original) for s in specs]


class Watcher:
    """A board that keeps what it is told, and acts on an event the first time that it comes.

    Attributes:
        acts: (label of a cell, kind of event, part of its stage) -> what is done then.
    """

    def __init__(
        self, acts: dict[tuple[str, str, str], Callable[[Job, dict[str, Any]], object]] | None = None
    ):
        self.acts = dict(acts or {})
        self.begun: list[str] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.lines: list[str] = []

    def started(self, job: Job, device: str) -> None:
        assert device.startswith("cpu of ")
        self.begun.append(job.label)

    def event(self, job: Job, event: dict[str, Any]) -> None:
        self.events.append((job.label, event))
        for label, kind, stage in list(self.acts):
            if (label, kind) == (job.label, event["kind"]) and stage in event.get("label", ""):
                self.acts.pop((label, kind, stage))(job, event)

    def ended(self, ended: Ended) -> None: ...

    def say(self, line: str) -> None:
        self.lines.append(line)

    def stages(self, label: str) -> list[str]:
        """The stages that a cell did to their end."""
        return [
            event["label"].partition(": ")[2]
            for name, event in self.events
            if name == label and event["kind"] == "stage_end"
        ]


def hows(ends: Sequence[Ended]) -> dict[str, str]:
    """Cell -> how it ended."""
    return {ended.job.label: ended.how for ended in ends}
