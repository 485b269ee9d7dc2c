"""The file that `zbench cell` is given: one cell, its run folder, and what its process may use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zbench.errors import StoreError
from zbench.runner.launchers.settings import MEBIBYTE
from zbench.runner.specs import CellSpec
from zbench.store import MARKER, atomic_write_json, read_json

if TYPE_CHECKING:
    from zbench.runner.launchers.base import Job

SCHEMA_VERSION = 1
_SPECS, _LOGS = "specs", "logs"


class SpecFile(BaseModel):
    """What a process is told that runs one cell.

    Attributes:
        schema_version: Layout of the file.
        root: The run folder, absolute.
        id: Identity of the cell.
        label: How people are told of it.
        spec: What is to do.
        device: Torch device to run on; the spec's own, or the automatic choice, when None.
        threads: Threads on the CPU; as many as there are cores when None.
        log_limit: Bytes of the log that are kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    root: Path
    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    label: str
    spec: CellSpec
    device: str | None = None
    threads: int | None = Field(default=None, ge=1)
    log_limit: int = Field(default=4 * MEBIBYTE, ge=4096)

    @classmethod
    def of(
        cls, job: Job, root: Path, log_limit: int, device: str | None = None, threads: int | None = None
    ) -> Self:
        """The file of a job."""
        return cls(
            root=root.absolute(), id=job.id, label=job.label, spec=job.spec,
            device=device, threads=threads, log_limit=log_limit,
        )  # fmt: skip

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Reads a file; a run folder that was moved is where its file lies, not where it was.

        Raises:
            StoreError: It is missing, unreadable or of a newer zbench.
        """
        place = Path(path).absolute()
        content = read_json(place)
        version = content.get("schema_version") if isinstance(content, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise StoreError(
                f"{place} has schema version {version}; this zbench knows {SCHEMA_VERSION}: upgrade it."
            )
        try:
            file = cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "it"
            raise StoreError(
                f"{place} is no cell's spec ({where}: {first['msg']}); plan the run again."
            ) from error
        own = place.parent.parent
        moved = place.parent.name == _SPECS and (own / MARKER).is_file()
        return file.model_copy(update={"root": own}) if moved else file

    def write(self) -> Path:
        """Puts the file where the run folder keeps it, and returns the path.

        Raises:
            StoreError: The run folder cannot be written.
        """
        path = self.root / _SPECS / f"{self.id}.json"
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise StoreError(f"Cannot write {path}: {error.strerror or error}.") from error
        atomic_write_json(path, self.model_dump(mode="json"))
        return path

    @property
    def events(self) -> Path:
        """Where the cell's process tells how far it is."""
        return self.root / _LOGS / f"{self.id}.jsonl"

    @property
    def log(self) -> Path:
        """Where everything goes that it prints."""
        return self.root / _LOGS / f"{self.id}.log"
