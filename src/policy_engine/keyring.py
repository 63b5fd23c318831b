"""The API keys of a running service: looked up without the store, kept true to it, verified at little cost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from hashlib import sha256
from threading import BoundedSemaphore, Lock
from typing import NamedTuple

from policy_engine.identity.key import make_key, prefix_of, verifies
from policy_engine.identity.principal import Principal
from policy_engine.identity.role import ADMIN, ROLES
from policy_engine.model.errors import BusyError, StateError, StoreUnavailableError
from policy_engine.store.api_keys import ApiKey, ApiKeys, KeyPlace

log = logging.getLogger(__name__)

_MAX_VERIFIED = 10_000
_MAX_REFUSED = 1_000
_WAIT_SECONDS = 0.2
"""How long somebody waits for others whose keys are being verified."""

_NOTE_SECONDS = 30.0
_FIRST_SECONDS = 10.0


class _Entry(NamedTuple):
    key: ApiKey
    principal: Principal


class Keyring:
    """Tells whose an API key is.

    Verifying a key takes some 20 ms and 19 MiB, by intent. It is done once for each key and process, and never twice at
    the same time, so that strangers who send made-up keys cannot take more than that.
    """

    def __init__(self, store: ApiKeys) -> None:
        """Load the keys.

        Raises:
            StoreUnavailableError: The store cannot be read.
        """
        self._store = store
        self._by_prefix: dict[str, _Entry] = {}
        self._verified: dict[bytes, str] = {}
        self._refused: dict[bytes, None] = {}
        self._used: dict[str, float] = {}
        self._noted: dict[str, float] = {}
        self._next_note = time.monotonic() + _NOTE_SECONDS
        self._verifying = BoundedSemaphore(1)
        self._lock = Lock()
        self._place = KeyPlace(-1, -1, -1)
        self.refresh()

    def identify(self, text: str, before: Callable[[], None] = lambda: None) -> Principal | None:
        """Return whose key this is; None when it is nobody's, or not any more.

        Args:
            text: The key.
            before: Called before a key is verified at length; what it raises is raised here.

        Raises:
            BusyError: So many keys are to be verified that this one was not in time.
        """
        digest = sha256(text.encode()).digest()
        prefix = self._verified.get(digest)
        if prefix is None:
            prefix = self._verify(text, digest, before)
            if prefix is None:
                return None
        entry = self._by_prefix.get(prefix)
        now = time.time()
        if entry is None or not entry.key.is_valid(now):
            return None
        self._used[entry.key.key_id] = now
        return entry.principal

    def _verify(self, text: str, digest: bytes, before: Callable[[], None]) -> str | None:
        prefix = prefix_of(text)
        entry = self._by_prefix.get(prefix) if prefix else None
        if entry is None or prefix is None or digest in self._refused:  # prefixes are no secret: no need to pretend
            return None
        if not entry.key.is_valid(time.time()):
            return None
        before()
        if not self._verifying.acquire(timeout=_WAIT_SECONDS):
            raise BusyError("other keys are being verified; try again")
        try:
            known = digest in self._verified or verifies(entry.key.hash, text)
        finally:
            self._verifying.release()
        remembered: dict[bytes, str] | dict[bytes, None] = self._verified if known else self._refused
        if len(remembered) >= (_MAX_VERIFIED if known else _MAX_REFUSED):
            remembered.clear()
        if known:
            self._verified[digest] = prefix
            return prefix
        self._refused[digest] = None
        return None

    # Changes

    def all(self) -> list[ApiKey]:
        """Return every key as the store has it; as `ApiKeys.all`."""
        return self._store.all()

    def create(
        self,
        name: str,
        roles: tuple[str, ...],
        *,
        author: str,
        client_id: str | None = None,
        expires_at: float | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key; return it and its text, which nobody can be told again.

        Raises:
            BusyError, StoreUnavailableError: There is no new key.
        """
        made = make_key()
        key = self._store.create(
            made.prefix, made.hash, name=name, roles=roles, author=author, client_id=client_id, expires_at=expires_at
        )
        self._take_up()
        return key, made.text

    def change(self, key_id: str, changes: dict[str, object], *, author: str) -> ApiKey:
        """Change a key; as `ApiKeys.change`. It is in force here at once, elsewhere within a second."""
        key = self._store.change(key_id, changes, author=author)
        self._take_up()
        return key

    def revoke(self, key_id: str, *, author: str) -> ApiKey:
        """Revoke a key; as `ApiKeys.revoke`. It is refused here at once, elsewhere within a second."""
        key = self._store.revoke(key_id, author=author)
        self._put([key])
        self._take_up()
        return key

    def _take_up(self) -> None:
        try:
            self.refresh()
        except StateError as error:  # it was committed; the next look finds it
            log.debug("cannot read the keys: %s", error)

    # What other processes do

    def refresh(self) -> None:
        """Take over what changed in the store, and tell it now and then which keys were used.

        Raises:
            StoreUnavailableError: The store is away; what is known stays in force.
        """
        with self._lock:
            place = self._store.place()
            if place != self._place:
                self._load(place)
        if time.monotonic() >= self._next_note:
            self._next_note = time.monotonic() + _NOTE_SECONDS
            self.note_uses()

    def _load(self, place: KeyPlace) -> None:
        keys = self._store.all()
        entries = {key.prefix: _entry(key) for key in keys}
        self._by_prefix = entries
        self._place = place

    def _put(self, keys: Iterable[ApiKey]) -> None:
        with self._lock:
            self._by_prefix = {**self._by_prefix, **{key.prefix: _entry(key) for key in keys}}

    def note_uses(self) -> None:
        """Write when keys were last used.

        Raises:
            StoreUnavailableError: The store is away; it is written later.
        """
        used = {key_id: at for key_id, at in tuple(self._used.items()) if self._noted.get(key_id) != at}
        if not used:
            return
        try:
            self._store.note_uses(used)
        except BusyError as error:
            log.debug("when keys were used is not written yet: %s", error)
        else:
            self._noted.update(used)


def _entry(key: ApiKey) -> _Entry:
    """Return a key with who shows it; roles that this version does not know allow nothing."""
    roles = [role for role in key.roles if role in ROLES]
    principal = Principal.of(
        key.name, roles, "key", client_id=key.client_id, key_id=key.key_id, expires_at=key.expires_at
    )
    return _Entry(key, principal)


def make_first_key(store: ApiKeys) -> str | None:
    """Make a key that may do everything if there has never been a key; return its text, None when there has.

    Raises:
        BusyError, StoreUnavailableError: There is no new key.
    """
    made = make_key()
    deadline = time.monotonic() + _FIRST_SECONDS
    while True:
        try:
            key = store.create_first(made.prefix, made.hash, name="first start", roles=(ADMIN,))
        except (BusyError, StoreUnavailableError):  # others start on the same store
            if time.monotonic() > deadline:
                raise
        else:
            return None if key is None else made.text
