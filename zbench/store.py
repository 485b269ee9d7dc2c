"""Atomic, hashed files: identities, stage folders, and who may write to them.

Every stage writes one folder `<root>/<kind>/<id>/`. Its id hashes the stage's whole configuration, and a
`done.json` inside it holds that configuration again together with the SHA-256 of each file. A stage is
complete only when all of this agrees, so a half-written, altered or foreign folder is never taken for one.
Whoever does a stage claims it; others that need it wait, and find it done.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zbench.errors import StoreError
from zbench.locks import hold, is_held, try_lock

ID_VERSION = 1
"""Raised when the meaning of a configuration changes, so that old ids are not taken for new ones."""

SCHEMA_VERSION = 1
"""Layout of the run folder and of the files in it; newer ones are refused."""

MARKER = "zbench.json"
DONE = "done.json"
LOCKS = ".locks"
"""Folder of a run folder with the locks of the stages that are being done."""

WRITING = ".writing-"
"""Begins the names of files and folders that are being written; those of killed processes are swept away."""

PARTIAL = ".partial-"
"""Begins the names of folders with the finished part of a stage that can be gone on with."""

_STALE = ".stale"
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def canonical_json(value: Any) -> str:
    """Serialises a value so that equal values give equal text: sorted keys, no spaces, no NaN.

    Raises:
        ValueError: The value holds NaN or an infinity, which JSON does not know.
        TypeError: The value holds something that is not JSON.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of some bytes, as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path | str) -> str:
    """SHA-256 of a file's content, as 64 hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identity(prefix: str, config: Mapping[str, Any]) -> str:
    """Names a configuration: `prefix-` and the first 12 hex digits of a SHA-256 over its canonical JSON."""
    return identity_of(prefix, {key: canonical_json(value) for key, value in config.items()})


def identity_of(prefix: str, parts: Mapping[str, str]) -> str:
    """The same from parts that were serialised before: many configurations share most of theirs.

    Args:
        prefix: Readable beginning of the id.
        parts: Key -> canonical JSON of its value.
    """
    inner = ",".join(f"{canonical_json(key)}:{parts[key]}" for key in sorted(parts))
    text = f'{{"config":{{{inner}}},"id_version":{ID_VERSION}}}'
    return f"{prefix}-{sha256_bytes(text.encode())[:12]}"


def safe_name(text: str) -> str:
    """Turns a user's name into one path component that can be neither hidden nor a way out of the folder."""
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")
    return cleaned if _SAFE_NAME.fullmatch(cleaned) else "unnamed"


def _sync_folder(folder: Path) -> None:
    """Makes a rename durable; systems that cannot sync a folder are left to their own guarantees."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _temporary_file(folder: Path) -> tuple[int, str]:
    """A locked file of its own: a lock that nobody holds tells the files that killed processes left."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix=WRITING, dir=folder)
        if try_lock(descriptor) and Path(name).exists():
            return descriptor, name
        os.close(descriptor)  # swept away in the moment before it was locked


def atomic_write_bytes(path: Path | str, data: bytes) -> None:
    """Writes a file so that readers see the old content or the new, never a part.

    Raises:
        StoreError: The folder does not exist, is not writable, or the disk is full.
    """
    target = Path(path)
    temporary: str | None = None
    try:
        descriptor, temporary = _temporary_file(target.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes private files; results are meant to be read
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise StoreError(f"Cannot write {target}: {error.strerror or error}.") from error
    _sync_folder(target.parent)


def atomic_write_text(path: Path | str, text: str) -> None:
    """Writes UTF-8 text atomically; see `atomic_write_bytes`."""
    atomic_write_bytes(path, text.encode("utf-8"))


def atomic_write_json(path: Path | str, value: Any) -> None:
    """Writes indented JSON with sorted keys and no NaN atomically; see `atomic_write_bytes`."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    atomic_write_text(path, text + "\n")


def read_json(path: Path | str) -> Any:
    """Reads a JSON file.

    Raises:
        StoreError: The file is missing, unreadable, truncated or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"Cannot read {path}: {error.strerror or error}.") from error
    except ValueError as error:
        raise StoreError(f"{path} is truncated or not JSON; delete it and run again.") from error


def _check_schema(record: Mapping[str, Any], path: Path) -> None:
    version = record.get("schema_version")
    if not isinstance(version, int):
        raise StoreError(f"{path} was not written by zbench; choose another folder with --out.")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema version {version}; this zbench knows up to {SCHEMA_VERSION}: upgrade it."
        )


def _file_hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != DONE)
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def _own_code() -> dict[str, Any]:
    """What a completion record says of the code at work, which identities leave out."""
    from zbench.code import code_record

    return {"code": code_record()}


@dataclass(frozen=True)
class StageFolder:
    """The folder of one stage's output.

    Attributes:
        path: Where the files lie once the stage is complete.
        id: Identity of the configuration; also the folder's name.
        config: The whole configuration, stored beside the files and compared on every hit.
        notify: Receives one line when files were found altered and the stage will be redone.
    """

    path: Path
    id: str
    config: Mapping[str, Any]
    notify: Callable[[str], None]

    def done(self) -> dict[str, Any]:
        """The stage's completion record: config, files with their SHA-256, id, schema version, code."""
        record = read_json(self.path / DONE)
        if not isinstance(record, dict):
            raise StoreError(f"{self.path / DONE} is no completion record; delete {self.path} and run again.")
        return record

    def is_complete(self) -> bool:
        """Says whether every file of the stage lies here as it was written.

        A missing or unreadable completion record, or a file whose hash differs, makes the stage incomplete
        (the latter two are reported through `notify`): it will be redone.

        Raises:
            StoreError: The folder holds another configuration or a newer schema and must not be overwritten.
        """
        if not (self.path / DONE).exists():
            return False
        try:
            record = self.done()
        except StoreError:
            self.notify(f"{self.path / DONE} is unreadable: this stage is done again.")
            return False
        _check_schema(record, self.path / DONE)
        if canonical_json(record.get("config")) != canonical_json(dict(self.config)):
            raise StoreError(
                f"{self.path} was written by a different configuration; delete it, or choose another --out."
            )
        return self._files_intact(record.get("files"))

    def _files_intact(self, files: Any) -> bool:
        recorded = files if isinstance(files, dict) else {"?": ""}
        for name, digest in recorded.items():
            path = self.path / name
            if not path.is_file() or sha256_file(path) != digest:
                self.notify(f"{path} is missing or was altered: this stage is done again.")
                return False
        return True

    @contextlib.contextmanager
    def claim(self, waiting: Callable[[], None] | None = None) -> Iterator[bool]:
        """Takes the stage on for the length of a `with` block, waiting while another process does it.

        Args:
            waiting: Called again and again while waiting; may raise to give up.

        Yields:
            Whether the stage is still to be done.

        Raises:
            StoreError: The run folder cannot be written.
        """
        with hold(self.lock_path, waiting):
            yield not self.is_complete()

    @property
    def lock_path(self) -> Path:
        """The file whose lock says that the stage is being done."""
        return self.path.parent.parent / LOCKS / f"{self.path.parent.name}-{self.id}"

    def write(self, function: Callable[[Path], None], *, same_work: bool = False) -> None:
        """Lets `function` fill a temporary sibling folder and puts it in place only when all of it is there.

        Args:
            function: Fills the folder that it is given.
            same_work: Whether the folder only takes another form: it stays the work of the code that did it.

        Raises:
            StoreError: The folder cannot be written.
        """
        temporary = self.path.parent / f"{WRITING}{self.id}"
        with hold(self.lock_path):
            try:
                shutil.rmtree(temporary, ignore_errors=True)
                self._fill(temporary, function, self._code() if same_work else _own_code())
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    def resume(self, function: Callable[[Path], None]) -> None:
        """Like `write`, with a folder that outlives an error or a kill: the next try is given what was there.

        The function must know by itself which of the files that it finds are whole.

        Raises:
            StoreError: The folder cannot be written.
        """
        with hold(self.lock_path):
            self._fill(self.path.parent / f"{PARTIAL}{self.id}", function, _own_code())

    def _code(self) -> dict[str, Any]:
        """What the completion record says of the code; nothing where an older zbench wrote it."""
        record = self.done()
        return {"code": record["code"]} if "code" in record else {}

    def _fill(self, temporary: Path, function: Callable[[Path], None], code: Mapping[str, Any]) -> None:
        try:
            temporary.mkdir(parents=True, exist_ok=True)
            function(temporary)
            self._finish(temporary, code)
        except OSError as error:
            raise StoreError(f"Cannot write {self.path}: {error.strerror or error}.") from error

    def _finish(self, temporary: Path, code: Mapping[str, Any]) -> None:
        files = _file_hashes(temporary)
        # The code stands beside what is compared: another commit finds the stage done all the same.
        record = {"config": dict(self.config), "files": files, "id": self.id, **code}
        atomic_write_json(temporary / DONE, record | {"schema_version": SCHEMA_VERSION})
        # The old folder is renamed away before it is deleted: no moment shows a mixture of old and new files.
        # Only an incomplete or altered folder ever comes to this point.
        if self.path.exists():
            stale = self.path.parent / f"{WRITING}{self.id}{_STALE}"
            shutil.rmtree(stale, ignore_errors=True)
            os.replace(self.path, stale)
            shutil.rmtree(stale, ignore_errors=True)
        os.replace(temporary, self.path)
        _sync_folder(self.path.parent)


class Store:
    """A run folder: stages by kind and identity. Any number of processes may work in it at once.

    Attributes:
        root: The run folder.
        messages: What was found wrong and is being redone, in order, for the run's summary.
    """

    def __init__(self, root: Path, notify: Callable[[str], None] | None = None) -> None:
        self.root = root
        self.messages: list[str] = []
        self._notify = notify

    @classmethod
    def open(
        cls, root: Path | str, create: bool = True, notify: Callable[[str], None] | None = None
    ) -> Store:
        """Opens a run folder, making it if wanted.

        Args:
            root: The folder.
            create: Whether a missing or empty folder may be made into a run folder.
            notify: Receives a line whenever altered files were found; they are kept in `messages` as well.

        Raises:
            StoreError: The folder belongs to something else, to a newer zbench, or cannot be written.
        """
        path = Path(root).expanduser().absolute()
        store = cls(path, notify)
        if not store._is_marked():
            store._initialise(create)
        record = read_json(path / MARKER)
        if not isinstance(record, dict) or record.get("kind") != "zbench run folder":
            raise StoreError(f"{path / MARKER} was not written by zbench; choose another folder with --out.")
        _check_schema(record, path / MARKER)
        if create and not os.access(path, os.W_OK):
            raise StoreError(f"Cannot write to {path}: permission denied; choose another folder with --out.")
        return store

    def _is_marked(self) -> bool:
        try:
            return (self.root / MARKER).is_file()
        except OSError:  # a folder above that may not be entered; `_initialise` says so
            return False

    def _initialise(self, create: bool) -> None:
        if not create:
            raise StoreError(f"{self.root} is not a run folder of zbench (it has no {MARKER}).")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            foreign = [path for path in self.root.iterdir() if not path.name.startswith(WRITING)]
        except OSError as error:
            raise StoreError(
                f"Cannot use {self.root} as output folder: {error.strerror or error}; choose another --out."
            ) from error
        if foreign:
            raise StoreError(
                f"{self.root} is not empty and was not written by zbench; choose another folder with --out."
            )
        atomic_write_json(self.root / MARKER, {"kind": "zbench run folder", "schema_version": SCHEMA_VERSION})

    def notify(self, message: str) -> None:
        """Keeps a message and passes it on, once."""
        if message in self.messages:
            return
        self.messages.append(message)
        if self._notify is not None:
            self._notify(message)

    def stage(self, kind: str, config: Mapping[str, Any], prefix: str | None = None) -> StageFolder:
        """The folder of one stage.

        Args:
            kind: Name of the stage's folder under the root ("erasures", "samples", "scores", "cells").
            config: Everything that changes the stage's output, defaults resolved.
            prefix: Readable beginning of the id; the kind when not given.
        """
        stage_id = identity(safe_name(prefix or kind), config)
        return StageFolder(self.root / safe_name(kind) / stage_id, stage_id, dict(config), self.notify)

    def stored(self, place: str) -> StageFolder:
        """The folder of a stage that is done, from where it lies, such as `erasures/ID`.

        Raises:
            StoreError: It has no completion record that can be read.
        """
        path = self.root / place
        record = read_json(path / DONE)
        config = record.get("config") if isinstance(record, dict) else None
        if not isinstance(config, dict):
            raise StoreError(f"{path / DONE} is no completion record; delete {path} and run again.")
        return StageFolder(path, path.name, config, self.notify)

    @contextlib.contextmanager
    def lock(self, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Holds what lies at the folder's top level, waiting while another process does.

        What killed processes left half-written is removed.

        Args:
            waiting: Called again and again while waiting; may raise to give up.

        Raises:
            StoreError: The folder cannot be written.
        """
        with hold(self.root / LOCKS / "run", waiting):
            self.sweep()
            yield

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Lets others see that a run is at work here, also between two stages; any number may be.

        Raises:
            StoreError: The folder cannot be written.
        """
        with hold(self.root / LOCKS / f"run-{socket.gethostname()}-{os.getpid()}"):
            yield

    def sweep(self) -> None:
        """Removes half-written files and folders, and locks, that no living process holds."""
        for depth in ("", "*/", "*/*/"):
            for path in self.root.glob(f"{depth}{WRITING}*"):
                if path.is_dir():
                    self._sweep_folder(path)
                else:
                    _sweep_file(path)
        for path in (self.root / LOCKS).glob("*"):
            if not is_held(path):
                _sweep_file(path)

    def _sweep_folder(self, path: Path) -> None:
        stage = path.name.removeprefix(WRITING).removesuffix(_STALE)
        if is_held(self.root / LOCKS / f"{path.parent.name}-{stage}"):
            return
        with hold(self.root / LOCKS / f"{path.parent.name}-{stage}"):
            shutil.rmtree(path, ignore_errors=True)


def _sweep_file(path: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR)
        try:
            if try_lock(descriptor):
                path.unlink()
        finally:
            os.close(descriptor)
