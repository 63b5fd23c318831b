"""Signed bundles as a source of revisions: verified, then brought into force; pulled where they come from."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec

from policy_engine.activation import Activation, Cause, documents_of
from policy_engine.bundle.archive import unpack
from policy_engine.bundle.contents import Contents, read_signed
from policy_engine.bundle.refusal import BundleError
from policy_engine.bundle.verify import Last, Trust, Verified, verify
from policy_engine.bundle_source import BundleSource
from policy_engine.language.canonical import fingerprint
from policy_engine.model.errors import BundleUnavailableError, BusyError, StateError, SupersededError
from policy_engine.pap import PolicyAdministration
from policy_engine.store.bundles import Accepted, BundleStore
from policy_engine.store.change import Transaction

log = logging.getLogger(__name__)

PULLED = Cause(author="bundle source", source="bundle")
_TRIES = 25
_LONGEST_PAUSE = 8
"""How many looks are left out, at most, at a place where there is nothing to be had."""


class LastError(msgspec.Struct, frozen=True, kw_only=True):
    """Why the last pull brought nothing.

    Attributes:
        code: One of bundle.refusal.REFUSALS, "unavailable" or "busy".
    """

    code: str
    detail: str
    at: datetime


class BundleImport:
    """Takes over bundles that are to be believed, and tells of those that are not.

    What is in force changes in one transaction with what is remembered of the bundle, so that the versions of a name
    only rise, over restarts and rollbacks, and in whichever of several processes they arrive.
    """

    def __init__(
        self,
        trust: Trust,
        bundles: BundleStore,
        activation: Activation,
        administration: PolicyAdministration,
        *,
        name: str,
        source: BundleSource | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Get ready to take bundles.

        Args:
            trust: Whose bundles are believed.
            bundles: Remembers what was accepted.
            activation: What is in force.
            administration: Changes it.
            name: What bundles are called here.
            source: Where they are pulled from; None when they are only handed in.
            clock: The time by which they expire.
        """
        self._trust = msgspec.structs.replace(trust, name=name)
        self._bundles = bundles
        self._activation = activation
        self._administration = administration
        self._name = name
        self._source = source
        self._clock = clock
        self._pause = 0
        self._left_out = 0
        self.last_pull: datetime | None = None
        self._failed: LastError | None = None
        self._refused: LastError | None = None

    @property
    def trust(self) -> Trust:
        """Whose bundles are believed."""
        return self._trust

    def active(self) -> Accepted | None:
        """Return the bundle that was accepted last.

        Raises:
            StoreUnavailableError: The database is away.
        """
        return self._bundles.accepted(self._name)

    def take(self, content: bytes, *, cause: Cause, place: str = "api") -> Accepted:
        """Bring a bundle into force if it is to be believed; the one that was accepted last changes nothing.

        Args:
            content: The bundle.
            cause: Who brings it and why.
            place: Where it comes from, for the event.

        Raises:
            BundleError: It is refused; nothing was changed, and an event tells of it.
            BusyError, StateError: The store does not take it; nothing was changed.
        """
        try:
            return self._take(content, cause)
        except BundleError as error:
            self._tell(error, content, cause, place)
            raise

    def _take(self, content: bytes, cause: Cause) -> Accepted:
        bundle = unpack(content)
        for _ in range(_TRIES):
            known = self.active()
            last = None if known is None else Last(known.version, known.digest)
            verified = verify(bundle, self._trust, now=self._clock(), last=last)
            if known is not None and not verified.is_new:
                return known
            try:
                self._activate(verified, read_signed(verified.manifest, verified.files), cause)
            except SupersededError:
                continue
        raise BusyError("other processes accept bundles all the time; try again")

    def _activate(self, verified: Verified, contents: Contents, cause: Cause) -> None:
        manifest, policy_set = verified.manifest, contents.policy_set
        accepted = Accepted(
            name=manifest.name,
            version=manifest.version,
            digest=verified.digest,
            policies_digest=manifest.digest,
            signers=verified.signers,
            created_at=manifest.created,
            expires_at=manifest.expires,
            accepted_at=self._clock(),
            policy_version=self._activation.revision.version,
            author=cause.author,
        )
        self._activation.catch_up()
        present = self._activation.revision
        if present.version and fingerprint(policy_set) == fingerprint(self._activation.policy_set):
            self._bundles.accept(msgspec.structs.replace(accepted, policy_version=present.version))
        else:

            def signed(transaction: Transaction, number: int) -> None:
                self._bundles.remember(transaction, msgspec.structs.replace(accepted, policy_version=number))

            said = f"bundle {manifest.name} version {manifest.version}, {verified.digest}"
            because = f"{cause.reason}; {said}" if cause.reason else said
            caused = Cause(author=cause.author, reason=because, source="bundle")
            self._administration.replace_all(documents_of(policy_set), cause=caused, signed=signed)
        log.info("bundle `%s` version %d is in force", manifest.name, manifest.version)

    def _tell(self, error: BundleError, content: bytes, cause: Cause, place: str) -> None:
        """Record the refusal of a bundle, once as long as it is the same."""
        details: dict[str, Any] = {
            "source": place,
            "author": cause.author,
            "code": error.code,
            "reason": error.detail,
            "sha256": sha256(content).hexdigest(),
            "errors": msgspec.to_builtins(error.errors),
        }
        stamp = sha256(f"{details['sha256']} {error.code} {error.detail}".encode()).hexdigest()
        if self._bundles.refuse(self._name, stamp, details):
            log.error("%s; version %d stays in force", error, self._activation.revision.version)

    # Pulling

    @property
    def last_error(self) -> LastError | None:
        """Why the last pull brought nothing; None when it did, or when there was nothing new."""
        return self._failed or self._refused

    def first(self) -> None:
        """Bring the first bundle into force, in an empty store.

        Raises:
            BundleError, BundleUnavailableError: There is none that is to be believed.
            BusyError, StateError: The store does not take it.
        """
        if self._source is None:
            raise StateError("there are no signed policies yet, and no `bundle_source` to get them from")
        self._source.forget()
        self.take(self._source.fetch() or b"", cause=PULLED, place=self._source.place)
        self.last_pull = self._clock()

    def look(self) -> None:
        """Take over the bundle that is there, if it is another one; say what is wrong otherwise."""
        if self._source is None:
            return
        if self._left_out < self._pause:
            self._left_out += 1
            return
        self._left_out = 0
        try:
            self._pull(self._source)
            self._watch_expiry()
        except (BusyError, StateError) as error:  # it is not the bundle's fault: try again
            self._source.forget()
            self._failed = LastError(code="busy", detail=str(error), at=self._clock())
            log.warning("the bundle cannot be taken over now: %s", error)

    def _pull(self, source: BundleSource) -> None:
        try:
            content = source.fetch()
        except BundleUnavailableError as error:
            self._pause = min(2 * self._pause or 1, _LONGEST_PAUSE)
            self._failed = LastError(code="unavailable", detail=str(error), at=self._clock())
            if self._activation.troubles.add("bundle_unavailable", str(error)):
                log.warning("%s", error)
            return
        except BundleError as error:  # a directory that cannot be made a bundle of
            self._tell(error, b"", PULLED, source.place)
            self._refuse(error)
            return
        self._pause, self._failed, self.last_pull = 0, None, self._clock()
        self._activation.troubles.clear("bundle_unavailable")
        if content is not None:
            self._take_pulled(content, source.place)

    def _take_pulled(self, content: bytes, place: str) -> None:
        try:
            self.take(content, cause=PULLED, place=place)
        except BundleError as error:
            self._refuse(error)
        else:
            self._refused = None
            self._activation.troubles.clear("bundle_refused")

    def _refuse(self, error: BundleError) -> None:
        self._refused = LastError(code=error.code, detail=error.detail, at=self._clock())
        self._activation.troubles.add("bundle_refused", str(error), error.errors)

    def _watch_expiry(self) -> None:
        """Note that what is in force is older than its signers wanted; it stays, because nothing would be worse."""
        active = self.active()
        if active is not None and active.expires_at <= self._clock():
            detail = f"bundle `{active.name}` version {active.version} expired at {active.expires_at.isoformat()}"
            if self._activation.troubles.add("bundle_expired", detail):
                log.warning("%s; it stays in force", detail)
        else:
            self._activation.troubles.clear("bundle_expired")
