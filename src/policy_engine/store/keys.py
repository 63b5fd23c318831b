"""The key that signs checkpoints, and the directory that it is in."""

from __future__ import annotations

import os
from pathlib import Path
from secrets import token_hex

from policy_engine.model.errors import StateError
from policy_engine.signing import PublicKey, SigningKey, new_key, read_private_key, read_public_key, write_new

PRIVATE = "audit.pem"
_PUBLIC = "audit-{}.pub.pem"


class KeyDirectory:
    """The directory with the private key in use, readable by the owner alone, and every public key so far."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._loaded: tuple[tuple[int, int, int], SigningKey] | None = None

    def make(self) -> SigningKey:
        """Return the key in use, one that is made now if there is none yet.

        Raises:
            StateError: The key cannot be read or made.
        """
        try:
            if not (self.directory / PRIVATE).exists():
                self._install(new_key(), replace=False)
        except OSError as error:
            raise StateError(f"cannot make an audit key in `{self.directory}`: {error.strerror}") from error
        return self.current()

    def current(self) -> SigningKey:
        """Return the key in use.

        Raises:
            StateError: There is none, or it cannot be read.
        """
        path = self.directory / PRIVATE
        try:
            status = path.stat()
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            if self._loaded is None or self._loaded[0] != stamp:
                self._loaded = (stamp, read_private_key(path))
        except StateError:
            raise
        except OSError as error:
            raise StateError(f"cannot use the audit key `{path}`: {error.strerror}") from error
        return self._loaded[1]

    def rotate(self, key: SigningKey) -> None:
        """Put another key in use; the old private key is gone then, its public key stays.

        Raises:
            StateError: It could not be written; the old key is in use.
        """
        try:
            self._install(key, replace=True)
        except OSError as error:
            raise StateError(f"cannot write the audit key in `{self.directory}`: {error.strerror}") from error

    def trusted(self) -> list[PublicKey]:
        """Return every public key that was in use here.

        Raises:
            StateError: One of them cannot be read.
        """
        return [read_public_key(path) for path in sorted(self.directory.glob(_PUBLIC.format("*")))]

    def _install(self, key: SigningKey, *, replace: bool) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        public = self.directory / _PUBLIC.format(key.public.key_id)
        public.write_bytes(key.public.pem())
        draft = self.directory / f".{PRIVATE}.{token_hex(8)}"
        write_new(draft, key.pem(), 0o600)
        if replace:
            draft.replace(self.directory / PRIVATE)
            return
        try:
            os.link(draft, self.directory / PRIVATE)  # fails when another process was first
        except FileExistsError:
            public.unlink()
        finally:
            draft.unlink()
