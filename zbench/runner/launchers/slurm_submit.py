"""Submitting cells to SLURM: job arrays through submitit, and a record of which job does which cell."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from zbench.errors import ConfigurationError, StoreError
from zbench.locks import is_held
from zbench.runner.launchers.base import Board, Job
from zbench.runner.launchers.settings import Launch, SlurmSettings
from zbench.runner.launchers.slurm_queue import Queue, largest_array
from zbench.runner.launchers.slurm_task import Task
from zbench.store import atomic_write_json, read_json, safe_name, sha256_bytes

_RECORD = "jobs.json"
_AHEAD = 90
"""Seconds ahead of its time limit at which a job is told to stop; a quarter of a limit that is short."""


def folder_of(root: Path) -> Path:
    """Where submitit, and the jobs, leave what belongs to no cell."""
    return root / "logs" / "slurm"


def name_of(root: Path) -> str:
    """The name of all jobs of a run folder; no other folder's jobs have it."""
    return f"zbench-{safe_name(root.name)[:40]}-{sha256_bytes(str(root).encode())[:8]}"


def end_file(job: Job, root: Path) -> Path:
    """Where a job leaves a word on its end."""
    return folder_of(root) / f"{job.id}.json"


def known_jobs(root: Path) -> dict[str, str]:
    """Cell -> the job that it was last submitted as; empty where nothing was."""
    try:
        record = read_json(folder_of(root) / _RECORD)
    except StoreError:
        return {}
    return {str(cell): str(number) for cell, number in record.items()} if isinstance(record, dict) else {}


def sweep(root: Path, numbers: Collection[str]) -> None:
    """Removes what submitit left of jobs whose cells are finished: four small files for each."""
    finished = set(numbers)
    for path in folder_of(root).glob("*_*"):
        if _possible_jobs(path.name) & finished:
            path.unlink(missing_ok=True)


def _possible_jobs(name: str) -> set[str]:
    """`12_3_0_log.out` may belong to job 12 or to task 3 of array 12."""
    first, second, *_ = name.split("_")
    return {first, f"{first}_{second}"}


class Submitter:
    """Submits jobs of one run folder.

    Attributes:
        launch: What the cluster is asked for.
        root: The run folder.
        queue: Where the jobs go.
        board: Is told of each array.
    """

    def __init__(self, launch: Launch, root: Path, queue: Queue, board: Board) -> None:
        self.launch, self.root, self.queue, self.board = launch, root, queue, board
        self.submitted: dict[str, str] = {}

    def submit(self, jobs: Sequence[Job]) -> dict[str, str]:
        """Submits jobs, those of unerased models first: the others begin once these are over.

        Returns:
            Cell -> job of the cluster.

        Raises:
            ConfigurationError: The cluster refuses; what it had taken before is cancelled.
            StoreError: The run folder cannot be written.
        """
        try:
            first = self._arrays([job for job in jobs if job.original], ())
            self._arrays([job for job in jobs if not job.original], first)
        except BaseException:
            self.queue.end(self.submitted.values())
            raise
        return self.submitted

    def _arrays(self, jobs: Sequence[Job], after: Sequence[str]) -> tuple[str, ...]:
        """Submits jobs as few arrays; returns the arrays' numbers."""
        size, numbers = largest_array(), list[str]()
        for start in range(0, len(jobs), size):
            # A limit on the cells at a time holds within an array: of several, one waits for the other.
            waits = [*after, *(numbers[-1:] if self.launch.slurm.at_once else ())]
            numbers.append(self._array(jobs[start : start + size], waits))
        return tuple(numbers)

    def _array(self, jobs: Sequence[Job], after: Sequence[str]) -> str:
        tasks = [self._task(job) for job in jobs]
        for task in tasks:  # what an earlier job told must not be taken for this one's
            task.end.unlink(missing_ok=True)
            if not is_held(task.events):
                task.events.unlink(missing_ok=True)
        numbers = self._sbatch(tasks, after)
        self.submitted |= {job.id: number for job, number in zip(jobs, numbers, strict=True)}
        atomic_write_json(folder_of(self.root) / _RECORD, known_jobs(self.root) | self.submitted)
        array = numbers[0].partition("_")[0]
        waiting = f", after {', '.join(after)}" if after else ""
        self.board.say(f"SLURM job {array}: {len(jobs)} cell{'s' * (len(jobs) > 1)}{waiting}.")
        return array

    def _task(self, job: Job) -> Task:
        root = self.root
        return Task(job.file(root), job.events(root), end_file(job, root), self.launch.time_limit)

    def _sbatch(self, tasks: Sequence[Task], after: Sequence[str]) -> list[str]:
        import submitit

        folder = folder_of(self.root)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            executor = submitit.SlurmExecutor(folder)
            executor.update_parameters(**self._parameters(len(tasks), after))
            with executor.batch():
                jobs = [executor.submit(task) for task in tasks]
        except OSError as error:
            raise StoreError(f"Cannot write {folder}: {error.strerror or error}.") from error
        except (RuntimeError, ValueError) as error:  # submitit's own, with what sbatch said
            raise ConfigurationError(_refusal(str(error))) from error
        return [str(job.job_id) for job in jobs]

    def _parameters(self, count: int, after: Sequence[str]) -> dict[str, Any]:
        """What submitit is told, in its words."""
        asked = self.launch.slurm
        given = {
            "partition": asked.partition,
            "account": asked.account,
            "mem": None if asked.memory_gb is None else f"{round(asked.memory_gb * 1024)}MB",
            "gpus_per_node": asked.gpus or None,
            "cpus_per_task": asked.cpus,
        }
        return {key: value for key, value in given.items() if value is not None} | {
            "job_name": self.queue.name,
            "time": asked.minutes,
            "signal_delay_s": min(_AHEAD, asked.minutes * 15),
            "array_parallelism": asked.at_once or count,
            "stderr_to_stdout": True,
            "additional_parameters": _more(asked, after),
        }


def _more(asked: SlurmSettings, after: Sequence[str]) -> dict[str, Any]:
    """The user's own options, and that jobs may be queued again even where a cluster does not by itself."""
    own = {key.removeprefix("--").replace("_", "-"): value for key, value in asked.more.items()}
    dependency = [str(own["dependency"])] if "dependency" in own else []
    dependency += [f"afterany:{number}" for number in after]
    return {"requeue": True} | own | ({"dependency": ",".join(dependency)} if dependency else {})


def _refusal(said: str) -> str:
    """One line on what the cluster does not like, with what is most often the reason."""
    said = " ".join(said.split()).removeprefix("sbatch: error: ")
    hint = "see [launch.slurm] in run.toml"
    with contextlib.suppress(StopIteration):
        hint = next(hint for word, hint in _HINTS.items() if word in said.lower())
    return f"SLURM does not take the jobs: {said[-300:]} ({hint})."


_HINTS = {
    "partition": "choose another partition under [launch.slurm] in run.toml; `sinfo` lists them",
    "gres": "set gpus = 0 under [launch.slurm] in run.toml for a partition without GPUs",
    "memory": "ask for less memory_gb under [launch.slurm] in run.toml",
    "node configuration": "ask for fewer gpus, cpus or less memory_gb under [launch.slurm] in run.toml",
    "account": "give an account under [launch.slurm] in run.toml",
    "time limit": "ask for fewer minutes under [launch.slurm] in run.toml",
}
