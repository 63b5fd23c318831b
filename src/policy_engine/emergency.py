"""The emergency stops of a running service: kept in the store, in force in every process soon after."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Lock

from policy_engine.ids import uuid7
from policy_engine.model.diagnostic import pointer
from policy_engine.model.errors import InvalidRequestError
from policy_engine.model.freeze import EVERYTHING, Freeze
from policy_engine.pdp import PolicyEngine
from policy_engine.store.freezes import FreezeStore
from policy_engine.store.opened import Store
from policy_engine.troubles import Troubles

_LOOK_SECONDS = 60.0
_MAX_LOOKS = 1000


class Emergency:
    """Freezes a federation or everything, and lifts that again."""

    def __init__(
        self, store: Store, engine: PolicyEngine, troubles: Troubles, clock: Callable[[], float] = time.time
    ) -> None:
        """Bring into force what is in the store.

        Raises:
            StoreUnavailableError: The store cannot be read.
        """
        self._freezes = FreezeStore(store.database, store.options.tenant, store.writer, clock)
        self._engine = engine
        self._troubles = troubles
        self._clock = clock
        self._tell = store.events.record
        self._lock = Lock()
        self._looks: dict[str, float] = {}
        self.refresh()

    def all(self) -> list[Freeze]:
        """Return the freezes in force, oldest first.

        Raises:
            StoreUnavailableError: The store is away.
        """
        now = self._clock()
        return [each for each in self._freezes.stored() if each.holds_at(now)]

    def freeze(
        self, scope: str, *, reason: str, author: str, expires: float | None = None, policies: Sequence[str] = ()
    ) -> Freeze:
        """Stop a federation or, by the scope `all`, everything; it is in force here when this returns.

        Args:
            scope: What to stop.
            reason: What callers are told.
            author: Who stops it.
            expires: When it ends by itself, in seconds since 1970.
            policies: Which policies stay in force.

        Raises:
            InvalidRequestError: It would have ended already, or there is no such policy; nothing was changed.
            TooManyFreezesError: As many as there may be are in force.
            BusyError, StoreUnavailableError: It is not in force.
        """
        now = self._clock()
        if expires is not None and expires <= now:
            raise InvalidRequestError("/expires_at", "the time has passed")
        known = self._engine.revision.program.policy_set.policies
        for index, name in enumerate(policies):
            if name not in known:
                raise InvalidRequestError(pointer("policies", index), f"no policy `{name}`")
        made = Freeze(
            freeze_id=uuid7(),
            scope=scope,
            reason=reason,
            author=author,
            at=now,
            expires=expires,
            policies=tuple(policies),
        )
        self._freezes.add(made)
        self.refresh()
        return made

    def lift(self, freeze_id: str, *, author: str, reason: str) -> Freeze:
        """End a freeze before its time and return it.

        Raises:
            UnknownFreezeError: None of that id is in force.
            BusyError, StoreUnavailableError: It is in force still.
        """
        lifted = self._freezes.lift(freeze_id, author=author, reason=reason)
        self.refresh()
        return lifted

    def note_break_glass(self, *, author: str, source: str, action: str, is_change: bool) -> None:
        """Say in the log that the admin key of the settings was used: an alert.

        Each change is told, and of what was only read from an address the first time in a minute.

        Args:
            author: Who it was, as far as that is known.
            source: From which address.
            action: What was asked for, such as `DELETE /api/v1/policies/web`.
            is_change: Whether it changes something.
        """
        if not is_change and not self._is_first_look(source):
            return
        self._tell("BREAK_GLASS_USED", {"author": author, "source": source, "action": action})

    def _is_first_look(self, source: str) -> bool:
        now = self._clock()
        with self._lock:
            if now < self._looks.get(source, 0.0) + _LOOK_SECONDS:
                return False
            if len(self._looks) >= _MAX_LOOKS:
                self._looks.clear()
            self._looks[source] = now
            return True

    def refresh(self) -> bool:
        """Take over what other processes froze and lifted; what is in force here stays when that cannot be read.

        Returns:
            Whether some have expired, which is not noted yet.

        Raises:
            StoreUnavailableError: The store is away.
        """
        with self._lock:  # else what was read first might be put in force last
            stored, now = self._freezes.stored(), self._clock()
            found = [each for each in stored if each.holds_at(now)]
            self._engine.freeze(found)
        if found:
            self._troubles.add("frozen", _summary(found))
        else:
            self._troubles.clear("frozen")
        return len(found) < len(stored)

    def follow(self) -> None:
        """Take over what other processes did, and note in the log what has expired.

        Raises:
            BusyError, StoreUnavailableError: It is for later.
        """
        if self.refresh():
            self._freezes.clear_away()


def _summary(freezes: Sequence[Freeze]) -> str:
    scopes = [each.scope for each in freezes]
    what = "everything is frozen" if EVERYTHING in scopes else f"{len(set(scopes))} federations are frozen"
    return f"{what}; `/api/v1/freeze` says why"
