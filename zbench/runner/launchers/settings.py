"""How cells are launched: none of it changes a picture, and so none of it enters an identity."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MEBIBYTE = 1 << 20


class SlurmSettings(BaseModel):
    """What a SLURM cluster is asked for, for each cell; what is None is the cluster's own choice.

    Attributes:
        partition: Name of the partition.
        account: Account that is charged.
        minutes: Time limit of a job.
        memory_gb: Memory of a job's node in GB.
        gpus: GPUs of a job; 0 for none.
        cpus: Processor cores of a job.
        at_once: At most so many cells at a time; all that the cluster has room for when None.
        more: Further options of `sbatch` by their long names, without dashes, such as `constraint`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    partition: str | None = None
    account: str | None = None
    minutes: int = Field(default=24 * 60, ge=1)
    memory_gb: float | None = Field(default=None, gt=0)
    gpus: int = Field(default=1, ge=0)
    cpus: int | None = Field(default=None, ge=1)
    at_once: int | None = Field(default=None, ge=1)
    more: dict[str, Any] = Field(default_factory=dict)


class Launch(BaseModel):
    """Who runs the cells, and where.

    Attributes:
        launcher: `local`: one process per cell on this machine; `slurm`: jobs of a cluster; `inline`: one
            after the other in the calling process, which shares loaded models but dies with any cell.
        devices: Devices that each run one cell at a time, such as `0`, `1` (CUDA devices by number),
            `cuda:0`, `cpu`; all CUDA devices, or the CPU where there is none, when empty.
        workers: Cells at a time on the CPU; the threads are divided among them.
        time_limit: Seconds after which a cell is ended as hanging; never when None.
        log_limit: Bytes of a cell's log that are kept; a flood loses its middle.
        keep: `pictures`: everything; `thumbnails`: small pictures and scores, once a cell is scored.
        slurm: What a cluster is asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    launcher: Literal["inline", "local", "slurm"] = "local"
    devices: tuple[str, ...] = ()
    workers: int = Field(default=1, ge=1)
    time_limit: float | None = Field(default=None, gt=0)
    log_limit: int = Field(default=4 * MEBIBYTE, ge=4096)
    keep: Literal["pictures", "thumbnails"] = "pictures"
    slurm: SlurmSettings = Field(default_factory=SlurmSettings)
