"""The version number of the policies: it rises with every change and never falls, over restarts too."""

from __future__ import annotations

from pathlib import Path

import msgspec

from policy_engine.model.errors import StateError
from policy_engine.store.atomic import write_atomically

FILE_NAME = "policy-version.json"


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """A version number and the digest of the policies it belongs to."""

    version: int = 0
    digest: str = ""


class VersionFile:
    """Remembers the last version that was in force."""

    def __init__(self, directory: Path) -> None:
        """Open the directory, which is made if it is not there.

        Raises:
            StateError: It cannot be read or written.
        """
        self._path = directory / FILE_NAME
        try:
            directory.mkdir(parents=True, exist_ok=True)
            content = self._path.read_bytes() if self._path.exists() else b"{}"
            self.last = msgspec.json.decode(content, type=Stamp)
        except OSError as error:
            raise StateError(f"cannot use the data directory `{directory}`: {error.strerror}") from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StateError(f"`{self._path}` does not hold a version number: {error}") from error

    def number_for(self, digest: str, floor: int) -> int:
        """Return the number of the policies with this digest: the last one if it is theirs, else one above it.

        Args:
            digest: The digest of the policies.
            floor: The number is above this one.
        """
        if digest == self.last.digest and self.last.version > floor:
            return self.last.version
        return max(self.last.version, floor) + 1

    def save(self, version: int, digest: str) -> None:
        """Remember the policies that are about to be in force.

        Raises:
            StateError: The number could not be written, so it must not be used.
        """
        stamp = Stamp(version=version, digest=digest)
        if stamp == self.last:
            return
        try:
            write_atomically(self._path, msgspec.json.encode(stamp))
        except OSError as error:
            raise StateError(f"cannot write `{self._path}`: {error.strerror}") from error
        self.last = stamp
