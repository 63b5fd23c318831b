"""Signed bundles as a source of revisions: verified, then brought into force; pulled where they come from."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec

from policy_engine.activation import Activation, Cause, documents_of, policy_set_of
from policy_engine.bundle.archive import unpack
from policy_engine.bundle.contents import Contents, read_signed
from policy_engine.bundle.refusal import BundleError
from policy_engine.bundle.verify import Last, Trust, Verified, verify
from policy_engine.bundle_source import BundleSource
from policy_engine.language.canonical import digest, fingerprint
from policy_engine.model.errors import (
    BundleUnavailableError,
    BusyError,
    InvalidPolicyError,
    StateError,
    SupersededError,
    UnknownRevisionError,
)
from policy_engine.model.policy import PolicySet
from policy_engine.pap import PolicyAdministration
from policy_engine.store.bundles import Accepted, BundleStore
from policy_engine.store.change import Transaction

log = logging.getLogger(__name__)

PULLED = Cause(author="bundle source", source="bundle")
REQUIRED = Cause(author="require_signatures", source="bundle")
_UNTIL_LATER = frozenset({"expired"})
"""Refusals of a bundle that may be good at another time, as when the clock here was wrong: it is looked at again."""

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
        requires_signatures: bool = False,
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
            requires_signatures: Whether nothing but the bundle that was accepted last may be in force.
            clock: The time by which they expire.
        """
        self._trust = msgspec.structs.replace(trust, name=name)
        self._bundles = bundles
        self._activation = activation
        self._administration = administration
        self._name = name
        self._source = source
        self._requires_signatures = requires_signatures
        self._clock = clock
        self._pause = 0
        self._left_out = 0
        self._compared: tuple[tuple[str, int, int], bool] = (("", 0, 0), False)
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
        """Bring a bundle into force if it is to be believed; where it is in force already, nothing changes.

        The one that was accepted last comes into force again when it is handed in, or where signatures are required, or
        when a restore put other policies in its place; pulled otherwise, it leaves what the API changed since.

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
            contents = read_signed(verified.manifest, verified.files)
            try:
                if known is None or verified.is_new:
                    self._activate(verified, contents, cause)
                elif self._is_in_force(contents.policy_set) or not self._comes_back(known, cause):
                    return known
                else:
                    self._reinstate(known, contents.policy_set, cause)
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
        if self._is_in_force(policy_set):
            version = self._activation.revision.version
            self._bundles.accept(msgspec.structs.replace(accepted, policy_version=version))
            log.info("bundle `%s` version %d is in force", manifest.name, manifest.version)
        else:
            self._put(accepted, policy_set, cause, self._bundles.remember)

    def _is_in_force(self, policy_set: PolicySet) -> bool:
        self._activation.catch_up()
        is_any = bool(self._activation.revision.version)
        return is_any and fingerprint(policy_set) == fingerprint(self._activation.policy_set)

    def _comes_back(self, known: Accepted, cause: Cause) -> bool:
        """Whether the bundle that was accepted last takes the place of what is in force instead of it."""
        return cause != PULLED or self._requires_signatures or self._is_lost(known)

    def _reinstate(self, known: Accepted, policy_set: PolicySet, cause: Cause) -> None:
        self._put(known, policy_set, cause, self._bundles.reinstate)
        self._activation.troubles.clear("bundle_not_in_force")

    def _put(
        self,
        accepted: Accepted,
        policy_set: PolicySet,
        cause: Cause,
        note: Callable[[Transaction, Accepted], None],
    ) -> None:
        def signed(transaction: Transaction, number: int) -> None:
            note(transaction, msgspec.structs.replace(accepted, policy_version=number))

        said = f"bundle {accepted.name} version {accepted.version}, {accepted.digest}"
        because = f"{cause.reason}; {said}" if cause.reason else said
        caused = Cause(author=cause.author, reason=because, source="bundle")
        self._administration.replace_all(documents_of(policy_set), cause=caused, signed=signed)
        log.info("bundle `%s` version %d is in force", accepted.name, accepted.version)

    # What is in force instead of it

    def holds(self, known: Accepted) -> bool:
        """Whether what is in force is what a bundle that was accepted holds, numbers written alike too.

        Raises:
            StoreUnavailableError: The database is away.
        """
        present = self._activation.revision
        if known.policies_digest != present.digest:
            return False
        if known.policy_version == present.version:
            return True
        compared = (known.digest, known.policy_version, present.version)
        if self._compared[0] != compared:
            policy_set = self._stored(known)
            is_same = policy_set is None or fingerprint(policy_set) == fingerprint(present.program.policy_set)
            self._compared = (compared, is_same)
        return self._compared[1]

    def watch(self) -> None:
        """Note whether the bundle that was accepted last is in force, and still good.

        Where signatures are required, it comes into force again as the store holds it.

        Raises:
            BusyError, StateError: The store cannot be read, or does not take it.
        """
        known = self.active()
        if known is None:
            return
        self._activation.catch_up()
        is_in_force = self.holds(known)
        if is_in_force or self._source is not None or self._requires_signatures:
            self._watch_expiry(known)
        else:  # it was one change among others, and others came after it
            self._activation.troubles.clear("bundle_expired")
        self._watch_force(known, is_in_force=is_in_force)

    def _watch_force(self, known: Accepted, *, is_in_force: bool) -> None:
        if is_in_force or (self._source is None and not self._requires_signatures):
            self._activation.troubles.clear("bundle_not_in_force")
        elif self.active() == known:
            detail = (
                f"bundle `{known.name}` version {known.version} was accepted last, and other policies are in force:"
                f" those of revision {self._activation.revision.version}"
            )
            if self._activation.troubles.add("bundle_not_in_force", detail):
                log.warning("%s; handing it in again brings it back", detail)
            if self._requires_signatures:
                self._bring_back(known)

    def _bring_back(self, known: Accepted) -> None:
        """Bring the bundle that was accepted last into force, if the store still holds its policies."""
        policy_set = self._stored(known)
        if policy_set is not None:
            with suppress(SupersededError):  # a newer one came
                self._reinstate(known, policy_set, REQUIRED)

    def _stored(self, known: Accepted) -> PolicySet | None:
        """Return the policies of an accepted bundle from the revision that held them; None where they are not there."""
        if self._is_lost(known):
            return None
        try:
            _, documents = self._activation.revisions.documents(known.policy_version)
            policy_set = policy_set_of(documents)
        except (InvalidPolicyError, UnknownRevisionError, TypeError, ValueError):
            return None
        return policy_set if digest(policy_set) == known.policies_digest else None

    def _is_lost(self, known: Accepted) -> bool:
        """Whether a restore took away the revision that held the policies of the bundle that was accepted last."""
        try:
            return self._activation.revisions.get(known.policy_version).digest != known.policies_digest
        except UnknownRevisionError:
            return True

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
            self._forget_what_is_lost(self._source)
            self._pull(self._source)
            self.watch()
        except (BusyError, StateError) as error:  # it is not the bundle's fault: try again
            self._source.forget()
            self._failed = LastError(code="busy", detail=str(error), at=self._clock())
            log.warning("the bundle cannot be taken over now: %s", error)

    def _forget_what_is_lost(self, source: BundleSource) -> None:
        """Let the bundle that was accepted last be pulled again when only its source still holds it."""
        known = self.active()
        if known is not None and known.policies_digest != self._activation.revision.digest and self._is_lost(known):
            source.forget()

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
            self._take_pulled(content, source)

    def _take_pulled(self, content: bytes, source: BundleSource) -> None:
        try:
            self.take(content, cause=PULLED, place=source.place)
        except BundleError as error:
            if error.code in _UNTIL_LATER:
                source.forget()
            self._refuse(error)
        else:
            self._refused = None
            self._activation.troubles.clear("bundle_refused")

    def _refuse(self, error: BundleError) -> None:
        self._refused = LastError(code=error.code, detail=error.detail, at=self._clock())
        self._activation.troubles.add("bundle_refused", str(error), error.errors)

    def _watch_expiry(self, active: Accepted) -> None:
        """Note that what is in force is older than its signers wanted; it stays, because nothing would be worse."""
        if active.expires_at <= self._clock():
            detail = f"bundle `{active.name}` version {active.version} expired at {active.expires_at.isoformat()}"
            if self._activation.troubles.add("bundle_expired", detail):
                log.warning("%s; it stays in force", detail)
        else:
            self._activation.troubles.clear("bundle_expired")
