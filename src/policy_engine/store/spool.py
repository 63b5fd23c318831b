"""A file for what cannot be written to the database at the moment."""

from __future__ import annotations

import fcntl
import logging
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4
from zlib import crc32

from policy_engine.model.errors import StateError

log = logging.getLogger(__name__)

_FRAME = struct.Struct(">II")
_SUFFIX = ".spool"
_DRAFT = ".draft"


class SpoolFullError(StateError):
    """The spool has reached its limit."""


class Spool:
    """Records on disk, in the order in which they were added; what `add` took survives a crash.

    The file is locked while a process uses it; `orphans` finds those of processes that are gone.

    Attributes:
        size: How many bytes are in use.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.directory = directory
        self._path = directory / f"{uuid4().hex}{_SUFFIX}"
        self._max = max_bytes
        self._file: int | None = None
        self.size = 0

    def add(self, records: Sequence[bytes]) -> None:
        """Append records, all or none.

        Raises:
            SpoolFullError: They do not fit any more.
            StateError: The disk refuses them.
        """
        if not records:
            return
        content = b"".join(map(_framed, records))
        if self.size + len(content) > self._max:
            raise SpoolFullError(f"the spool `{self._path}` is full")
        try:
            descriptor = self._open()
            os.ftruncate(descriptor, self.size)  # what a full disk cut short the last time
            _write_all(descriptor, content, self.size)
            os.fsync(descriptor)
        except OSError as error:
            raise StateError(f"cannot write the spool `{self._path}`: {error.strerror}") from error
        self.size += len(content)

    def _open(self) -> int:
        if self._file is None:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = _new_file(self._path)[0]
        return self._file

    def records(self) -> Iterator[bytes]:
        """Yield what is in it; what stands behind a place that the disk has damaged is lost, and the log says so."""
        read = 0
        for record in _read(self._path, self.size) if self.size else ():
            read += _FRAME.size + len(record)
            yield record
        if read < self.size:
            log.error("the spool `%s` is damaged: %d bytes of it cannot be read", self._path, self.size - read)

    def replace(self, records: Iterable[bytes]) -> None:
        """Put other records in the place of these, all at once; what is yielded may be made from what is in it.

        Raises:
            StateError: The disk refuses them; nothing was changed.
        """
        old = self._file
        self._file, self.size = _replace(self._path, records)
        if old is not None:
            os.close(old)

    def clear(self) -> None:
        """Forget everything."""
        self.size = 0
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            self.close()

    def close(self) -> None:
        """Let go of the file; what is in it stays for the next process."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class Orphan:
    """The spool of a process that is gone; it is locked until it is dropped or let go."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._file: int = descriptor

    def records(self) -> Iterator[bytes]:
        """Yield what is in it."""
        return _read(self._path)

    def replace(self, records: Iterable[bytes]) -> None:
        """Do as `Spool.replace` does."""
        old = self._file
        self._file, _ = _replace(self._path, records)
        os.close(old)

    def drop(self) -> None:
        """Delete it: everything in it has been taken over."""
        self._path.unlink(missing_ok=True)
        self._path.with_suffix(_DRAFT).unlink(missing_ok=True)
        os.close(self._file)

    def close(self) -> None:
        """Let go of it: it stays for another process, or another time."""
        os.close(self._file)


def orphans(directory: Path) -> list[Orphan]:
    """Return the spools that no process holds.

    Raises:
        StateError: The directory cannot be read.
    """
    found = []
    try:
        for path in sorted(directory.glob(f"*{_SUFFIX}")):
            descriptor = _lock(path)
            if descriptor is not None:
                found.append(Orphan(path, descriptor))
    except OSError as error:
        raise StateError(f"cannot read the spools in `{directory}`: {error.strerror}") from error
    return found


def _lock(path: Path) -> int | None:
    """Open and lock a spool; None when somebody holds it, or has taken it over meanwhile."""
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        with suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)
    return None


def _new_file(path: Path, records: Iterable[bytes] = ()) -> tuple[int, int]:
    """Make a file that is locked and complete before anybody can find it; return its descriptor and its size."""
    draft = path.with_suffix(_DRAFT)
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    size = 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for record in records:
            content = _framed(record)
            _write_all(descriptor, content, size)
            size += len(content)
        os.fsync(descriptor)
        draft.replace(path)
        _sync_directory(path.parent)
    except BaseException:
        draft.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    return descriptor, size


def _replace(path: Path, records: Iterable[bytes]) -> tuple[int, int]:
    try:
        return _new_file(path, records)
    except StateError:  # of whoever makes the records
        raise
    except OSError as error:
        raise StateError(f"cannot write the spool `{path}`: {error.strerror}") from error


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _framed(record: bytes) -> bytes:
    return _FRAME.pack(len(record), crc32(record)) + record


def _write_all(descriptor: int, content: bytes, offset: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def _read(path: Path, until: int | None = None) -> Iterator[bytes]:
    """Yield the records of a file; it ends where a crash cut one short."""
    with path.open("rb") as file:
        while until is None or file.tell() < until:
            head = file.read(_FRAME.size)
            if len(head) < _FRAME.size:
                return
            size, checksum = _FRAME.unpack(head)
            record = file.read(size)
            if len(record) < size or crc32(record) != checksum:
                return
            yield record
