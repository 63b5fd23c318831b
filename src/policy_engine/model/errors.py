"""The errors that this package raises on purpose; each carries data, not prose alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from policy_engine.model.diagnostic import Diagnostic, summarise


class PolicyEngineError(Exception):
    """The base of every error here."""


class InvalidPolicyError(PolicyEngineError, ValueError):
    """A policy document is refused whole.

    Attributes:
        errors: Every fault that was found, with its place.
        warnings: What is dubious besides.
    """

    def __init__(self, errors: Sequence[Diagnostic], warnings: Sequence[Diagnostic] = ()) -> None:
        super().__init__(summarise(errors))
        self.errors = tuple(errors)
        self.warnings = tuple(warnings)


class InvalidRequestError(PolicyEngineError, ValueError):
    """A check request cannot be normalised, so nothing is decided.

    Attributes:
        pointer: JSON pointer of the offending part of the request.
        detail: What is wrong with it.
    """

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(f"{pointer or '/'}: {detail}")
        self.pointer = pointer
        self.detail = detail

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The same as a fault with its place."""
        return (Diagnostic(pointer=self.pointer, detail=self.detail),)


class UnknownPolicyError(PolicyEngineError, LookupError):
    """There is no policy of that id."""

    def __init__(self, policy_id: str) -> None:
        super().__init__(f"no policy `{policy_id}`")
        self.policy_id = policy_id


class UnknownFunctionError(PolicyEngineError, LookupError):
    """There is no policy function of that id."""

    def __init__(self, function_id: str) -> None:
        super().__init__(f"no function `{function_id}`")
        self.function_id = function_id


class FunctionExistsError(PolicyEngineError, ValueError):
    """A policy function of that id is already there."""

    def __init__(self, function_id: str) -> None:
        super().__init__(f"function `{function_id}` exists")
        self.function_id = function_id


class FunctionInUseError(PolicyEngineError):
    """Policies name functions that were to go.

    Attributes:
        errors: Each function, with the policies that name it.
    """

    def __init__(self, errors: Sequence[Diagnostic]) -> None:
        super().__init__(summarise(errors))
        self.errors = tuple(errors)


class UnknownRevisionError(PolicyEngineError, LookupError):
    """There is no revision of that number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"no revision {number}")
        self.number = number


class UnknownDecisionError(PolicyEngineError, LookupError):
    """There is no decision of that id in the log."""

    def __init__(self, decision_id: str) -> None:
        super().__init__(f"no decision `{decision_id}`")
        self.decision_id = decision_id


class PolicyExistsError(PolicyEngineError, ValueError):
    """A policy of that id is already there."""

    def __init__(self, policy_id: str) -> None:
        super().__init__(f"policy `{policy_id}` exists")
        self.policy_id = policy_id


class BusyError(PolicyEngineError):
    """Somebody else's change is under way; the same call may go through in a moment."""


class RateLimitedError(PolicyEngineError):
    """Somebody does something too often.

    Attributes:
        retry_after_seconds: When to try again.
    """

    def __init__(self, what: str, limit: str, retry_after_seconds: int) -> None:
        super().__init__(f"too many {what}: {limit} are allowed")
        self.retry_after_seconds = retry_after_seconds


class TurnError(BusyError):
    """Another process was at it: nothing was done, and it may be this one's turn in a moment."""


class OutdatedError(PolicyEngineError):
    """What is in force here is older than the caller demands; another process, or a moment later, may answer."""

    def __init__(self, wanted: int, present: int) -> None:
        super().__init__(f"version {wanted} is not in force here yet, {present} is")
        self.wanted = wanted
        self.present = present


class StateError(PolicyEngineError, OSError):
    """Something that must survive a restart cannot be read or written."""


class StoreUnavailableError(StateError):
    """The database cannot be used at the moment; nothing was changed by the call."""


class StoreSilentError(StoreUnavailableError):
    """The database does not answer: it is not just busy."""


class ConflictError(PolicyEngineError):
    """Somebody else's change came first; the same call may go through when it is made again."""


class LateRoundError(ConflictError):
    """A round at or before the last one that was closed cannot be observed any more."""

    code = "late"

    def __init__(self, federation: str, round_number: int, last_round: int) -> None:
        super().__init__(
            f"late: round {round_number} of federation `{federation}` cannot be observed any more, because round"
            f" {last_round} is closed"
        )
        self.last_round = last_round


class RoundConflictError(ConflictError):
    """A round was observed before, otherwise."""

    code = "conflict"

    def __init__(self, federation: str, round_number: int) -> None:
        super().__init__(f"round {round_number} of federation `{federation}` was observed before, with other content")


class UnknownClientError(PolicyEngineError, LookupError):
    """There is no client of that id on record."""

    def __init__(self, client_id: str) -> None:
        super().__init__(f"no client `{client_id}` on record")
        self.client_id = client_id


class UnknownOverrideError(PolicyEngineError, LookupError):
    """There is nothing to take back of what was decided about a client."""

    def __init__(self, client_id: str, kind: str, federation: str) -> None:
        found = "is not in quarantine" if kind == "quarantine" else "has no trust that somebody set"
        super().__init__(f"client `{client_id}` {found} in federation `{federation}`")
        self.client_id = client_id


class UnknownKeyError(PolicyEngineError, LookupError):
    """There is no API key with this id."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"no key `{key_id[:64]}`")
        self.key_id = key_id


class UnknownFreezeError(PolicyEngineError, LookupError):
    """There is no freeze of that id in force."""

    def __init__(self, freeze_id: str) -> None:
        super().__init__(f"no freeze `{freeze_id}` is in force")
        self.freeze_id = freeze_id


class TooManyFreezesError(PolicyEngineError):
    """As many freezes as there may be are in force."""

    def __init__(self, most: int) -> None:
        super().__init__(f"{most} freezes are in force: lift some first, or freeze `all`")
        self.most = most


class UnknownReservationError(PolicyEngineError, LookupError):
    """There are no reservations of these ids."""

    def __init__(self, errors: Sequence[Diagnostic]) -> None:
        super().__init__(summarise(errors))
        self.errors = tuple(errors)


class ReservationError(ConflictError):
    """Reservations are not, or no longer, as the caller thinks; nothing was changed.

    Attributes:
        errors: Every one of them, with its place in the request.
    """

    def __init__(self, errors: Sequence[Diagnostic]) -> None:
        super().__init__(summarise(errors))
        self.errors = tuple(errors)


class MissingExtraError(PolicyEngineError, ImportError):
    """Something is asked for that needs packages which are not installed.

    Attributes:
        extra: The name under which they can be installed.
    """

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(f'{purpose}, install what it needs: pip install "flopynet-policy-engine[{extra}]"')
        self.extra = extra


class FunctionBusyError(PolicyEngineError):
    """A policy function cannot run now because too many are running."""


class FunctionFailedError(PolicyEngineError):
    """A policy function gave no answer; the text says why, in words that any caller may read."""


class PreconditionError(PolicyEngineError):
    """The policy is not, or no longer, as the caller thinks."""


class SettingsError(PolicyEngineError, ValueError):
    """A setting has a value that cannot be used.

    Attributes:
        setting: The name of the setting.
        source: Where the value came from: a file, an environment variable or a flag.
    """

    def __init__(self, setting: str, source: str, detail: Any) -> None:
        super().__init__(f"setting `{setting}` from {source}: {detail}")
        self.setting = setting
        self.source = source


class BundleUnavailableError(PolicyEngineError, OSError):
    """There is no bundle to be had where bundles come from; the same call may go through later.

    Attributes:
        place: The path or the URL.
    """

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"no bundle can be had from `{place}`: {why}")
        self.place = place


class SupersededError(PolicyEngineError):
    """Another process accepted a bundle first; what is new has to be found out again."""


class UnsignedChangeError(PolicyEngineError):
    """Policies come into force here by signed bundles alone."""

    code = "signature_required"

    def __init__(self) -> None:
        super().__init__("policies are changed by signed bundles alone here (`require_signatures`)")


class EngineUnavailableError(PolicyEngineError, ConnectionError):
    """An engine that is asked over the network gave no answer; the same call may go through later."""


class EngineRefusedError(PolicyEngineError, ValueError):
    """An engine that is asked over the network refused the request, and would refuse it again.

    Attributes:
        status: The status of the answer, 400 to 499.
        detail: What it says is wrong.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail


class RunStoppedError(PolicyEngineError):
    """A federation must not go on to its next round.

    Attributes:
        round: The round that does not begin.
        reason: Why.
    """

    def __init__(self, round_number: int, reason: str) -> None:
        super().__init__(f"round {round_number} does not begin: {reason}")
        self.round = round_number
        self.reason = reason
