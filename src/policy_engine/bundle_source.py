"""Where bundles come from: a file, a directory, a web server. What is read is not believed here."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from threading import Event, Timer
from typing import NamedTuple, Protocol
from urllib.parse import SplitResult, urlsplit

from policy_engine.bundle.archive import MAX_BYTES, Bundle, pack
from policy_engine.bundle.envelope import load_envelope
from policy_engine.bundle.manifest import MAX_FILES
from policy_engine.bundle.place import SCHEMES
from policy_engine.bundle.refusal import BundleError
from policy_engine.model.errors import BundleUnavailableError

MANIFEST_FILE = "manifest.dsse.json"
"""Where the envelope is in a bundle that is a directory."""

_TIMEOUT_SECONDS = 3.0
_DEADLINE_SECONDS = 8.0
_CHUNK = 1 << 16


class BundleSource(Protocol):
    """Gives the bundle that there is."""

    @property
    def place(self) -> str:
        """Where that is, for people."""

    def fetch(self) -> bytes | None:
        """Return the bundle, None if it is the one that was returned last.

        Raises:
            BundleError: What is there is not a bundle.
            BundleUnavailableError: There is nothing to be had.
        """

    def forget(self) -> None:
        """Take what was returned last for nothing, so that it is returned again."""


def make_source(place: str, ca_file: str = "") -> BundleSource:
    """Return the source at a path or a URL.

    Args:
        place: As `check_place` lets it pass.
        ca_file: PEM file with the authorities that a server's certificate is checked against; empty for the system's.

    Raises:
        BundleUnavailableError: The authorities cannot be read.
    """
    return UrlSource(place, ca_file) if place.startswith(SCHEMES) else PathSource(Path(place))


class PathSource:
    """A bundle in a file, or in a directory."""

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._path = path
        self._last: bytes | None = None

    def fetch(self) -> bytes | None:
        """Return the bundle as `BundleSource` says."""
        try:
            content = pack_directory(self._path) if self._path.is_dir() else _read(self._path)
        except OSError as error:
            raise BundleUnavailableError(str(self._path), error.strerror or str(error)) from error
        if content == self._last:
            return None
        self._last = content
        return content

    def forget(self) -> None:
        """Return the bundle again."""
        self._last = None


class _Answer(NamedTuple):
    """What a server answered."""

    status: int
    content: bytes = b""
    tag: str | None = None


class UrlSource:
    """A bundle on a web server; it is asked for with the entity tag of the last one."""

    def __init__(self, url: str, ca_file: str) -> None:
        self.place = url
        self._url: SplitResult = urlsplit(url)
        self._tag: str | None = None
        self._last: bytes | None = None
        self._context: ssl.SSLContext | None = None
        if self._url.scheme == "https":
            try:
                self._context = ssl.create_default_context(cafile=ca_file or None)
            except (OSError, ssl.SSLError) as error:
                raise BundleUnavailableError(ca_file, "it holds no certificates of authorities") from error

    def fetch(self) -> bytes | None:
        """Return the bundle as `BundleSource` says; redirects are not followed."""
        connection = self._connection()
        try:
            connection.connect()
            with _cut_off(connection.sock):
                answer = self._ask(connection)
        except TimeoutError as error:
            raise BundleUnavailableError(self.place, "the server does not answer in time") from error
        except (OSError, HTTPException, ValueError) as error:
            raise BundleUnavailableError(self.place, str(error) or type(error).__name__) from error
        finally:
            connection.close()
        if answer.status == HTTPStatus.NOT_MODIFIED and self._tag is not None:
            return None
        if answer.status != HTTPStatus.OK:
            raise BundleUnavailableError(self.place, f"the server answers {answer.status}")
        self._tag = answer.tag
        if answer.content == self._last:
            return None
        self._last = answer.content
        return answer.content

    def forget(self) -> None:
        """Return the bundle again."""
        self._tag = self._last = None

    def _ask(self, connection: HTTPConnection) -> _Answer:
        connection.request("GET", self._path(), headers=self._headers())
        response = connection.getresponse()
        if response.status != HTTPStatus.OK:
            return _Answer(response.status)
        if response.length is None and not response.chunked:
            raise ValueError("the server does not say how long the bundle is")
        content = b"".join(_chunks(response))
        if response.length:
            raise ValueError("the answer ends before its length")
        return _Answer(response.status, content, response.headers.get("ETag"))

    def _connection(self) -> HTTPConnection:
        host = self._url.hostname or ""
        if self._context is None:
            return HTTPConnection(host, self._url.port, timeout=_TIMEOUT_SECONDS)
        return HTTPSConnection(host, self._url.port, timeout=_TIMEOUT_SECONDS, context=self._context)

    def _path(self) -> str:
        path = self._url.path or "/"
        return f"{path}?{self._url.query}" if self._url.query else path

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "policy-engine"}
        return {**headers, "If-None-Match": self._tag} if self._tag else headers


def read_bundle(path: Path) -> bytes:
    """Return the bundle in a file or a directory.

    Raises:
        BundleError: What is there is not a bundle.
        OSError: It cannot be read.
    """
    return pack_directory(path) if path.is_dir() else _read(path)


def pack_directory(directory: Path) -> bytes:
    """Return the bundle in a directory as one file would hold it; what begins with a dot is no part of it.

    Raises:
        BundleError: What is there is not a bundle.
        OSError: It cannot be read.
    """
    files = read_directory(directory)
    envelope = files.pop(MANIFEST_FILE, None)
    read = None if envelope is None else load_envelope(envelope, f"`{MANIFEST_FILE}`")
    return pack(Bundle(files=files, envelope=read))


def read_directory(directory: Path) -> dict[str, bytes]:
    """Return the files of a bundle in a directory, with its envelope.

    Raises:
        BundleError: It is too much for a bundle.
        OSError: They cannot be read.
    """
    files: dict[str, bytes] = {}
    size = 0
    for path in _walk(directory):
        content = _read(path)
        size += len(content)
        files[path.relative_to(directory).as_posix()] = content
        if len(files) > MAX_FILES + 1 or size > 2 * MAX_BYTES:
            raise BundleError("malformed", f"`{directory}` holds more than a bundle may")
    return files


def _walk(directory: Path, depth: int = 0) -> Iterator[Path]:
    for entry in sorted(directory.iterdir()):
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            yield entry
        elif depth:
            raise BundleError("malformed", f"a bundle has no directory `{entry}`")
        else:
            yield from _walk(entry, depth + 1)


def _read(path: Path) -> bytes:
    """Return the content of a file, or as much of it as shows that it is too long."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not path.is_file():
            raise OSError(f"`{path}` is not a regular file")
        return file.read(MAX_BYTES + 1)


@contextmanager
def _cut_off(connected: socket.socket) -> Iterator[None]:
    """End a conversation that takes too long: time-outs of a socket are for each byte, and a server may send slowly.

    Raises:
        TimeoutError: It did; what was received is not whole, even where it looks so.
    """
    late = Event()

    def cut() -> None:
        late.set()
        with suppress(OSError):  # it has ended
            connected.shutdown(socket.SHUT_RDWR)

    timer = Timer(_DEADLINE_SECONDS, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if late.is_set():
            raise TimeoutError


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    size = 0
    while chunk := response.read1(_CHUNK):
        yield chunk
        size += len(chunk)
        if size > MAX_BYTES:
            raise ValueError(f"the answer is longer than {MAX_BYTES} bytes")
