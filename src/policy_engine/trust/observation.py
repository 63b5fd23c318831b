"""What is observed of one round: statistics of updates, never the updates themselves."""

from __future__ import annotations

import re
from math import isfinite
from typing import Annotated, TypeAlias

import msgspec

from policy_engine.model.errors import InvalidRequestError

MAX_CLIENTS = 10_000
_COSINE_SLACK = 1e-6
"""How far beyond 1 rounding may take a cosine."""

MAX_NAME = 256
Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
StoredName: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=4200)]
"""A name, or the pseudonym that is stored in its place, which is up to sixteen times as long."""

_PATTERN = r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z"
_FEDERATION = re.compile(_PATTERN)
_MOST = 2**53
FederationName: TypeAlias = Annotated[str, msgspec.Meta(pattern=_PATTERN)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]


def check_name(client_id: str) -> None:
    """Refuse the id of a client that no database could hold.

    Raises:
        ValueError: It has a null character or half a surrogate pair.
    """
    if "\0" in client_id or (not client_id.isascii() and any("\ud800" <= letter <= "\udfff" for letter in client_id)):
        raise ValueError("the id of a client has a character that is none")


class ClientUpdate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one invited client did in a round.

    Attributes:
        answered: Whether an update came. Without one there are no statistics.
        norm: The L2 norm of the update, at least 0.
        cos_ref: Its cosine to the reference, -1 to 1.
        cos_prev: Its cosine to the last global step; None in the first round.
        max_pair_cos: Its cosine to the most similar update of another client; None where there is no other.
        samples: How many samples the client says it trained on.
        loss: The training loss that the client declares; it is recorded, and nothing is built on it.
    """

    client_id: StoredName
    answered: bool = True
    norm: float | None = None
    cos_ref: float | None = None
    cos_prev: float | None = None
    max_pair_cos: float | None = None
    samples: Count | None = None
    loss: float | None = None

    def __post_init__(self) -> None:
        """Check what the types do not say.

        Raises:
            ValueError: A statistic is missing, is not finite, or is out of its range.
        """
        check_name(self.client_id)
        if not self.answered:
            if any(value is not None for value in (self.norm, self.cos_ref, self.cos_prev, self.max_pair_cos)):
                raise ValueError(f"client `{self.client_id}` did not answer, and has statistics of an update")
            return
        if self.norm is None or self.cos_ref is None:
            raise ValueError(f"client `{self.client_id}` answered: `norm` and `cos_ref` are needed")
        if not isfinite(self.norm) or self.norm < 0:
            raise ValueError(f"client `{self.client_id}`: `norm` is not a finite number of at least 0")
        for name in ("cos_ref", "cos_prev", "max_pair_cos"):
            value = getattr(self, name)
            if value is not None and not abs(value) <= 1 + _COSINE_SLACK:
                raise ValueError(f"client `{self.client_id}`: `{name}` is not a cosine, from -1 to 1")
        if self.loss is not None and not isfinite(self.loss):
            raise ValueError(f"client `{self.client_id}`: `loss` is not finite")


class RoundObservation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One round of a federation: every invited client, each once.

    Attributes:
        left_out: Who would have been invited, were it not excluded: those that a selection left out. Nothing changes
            for them, but they count when it is asked whether too many are excluded for the round to be believed.
    """

    federation: FederationName
    round: Annotated[int, msgspec.Meta(ge=1, le=_MOST)]
    clients: Annotated[tuple[ClientUpdate, ...], msgspec.Meta(min_length=1, max_length=MAX_CLIENTS)]
    left_out: Annotated[tuple[StoredName, ...], msgspec.Meta(max_length=MAX_CLIENTS)] = ()

    def __post_init__(self) -> None:
        """Check what the types do not say to who makes one in Python, and that no client is named twice.

        Raises:
            ValueError: One is; there is none; or the federation or the round is not one.
        """
        if not _FEDERATION.match(self.federation):
            raise ValueError("the name of the federation is not one")
        if self.round.__class__ is not int or not 1 <= self.round <= _MOST:
            raise ValueError("the round is not a whole number from 1 on")
        if not 1 <= len(self.clients) <= MAX_CLIENTS or len(self.left_out) > MAX_CLIENTS:
            raise ValueError(f"a round has 1 to {MAX_CLIENTS} clients")
        seen: set[str] = set()
        for name in (*(client.client_id for client in self.clients), *self.left_out):
            if name in seen:
                raise ValueError(f"client `{name}` is in the round twice")
            seen.add(name)

    def check_names(self) -> None:
        """Refuse names that are too long; they may be longer only as pseudonyms.

        Raises:
            InvalidRequestError: One is.
        """
        places = [(f"/clients/{index}/client_id", client.client_id) for index, client in enumerate(self.clients)]
        places += [(f"/left_out/{index}", name) for index, name in enumerate(self.left_out)]
        for place, name in places:
            if len(name) > MAX_NAME:
                raise InvalidRequestError(place, f"expected a name of at most {MAX_NAME} characters")
