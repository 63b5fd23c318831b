"""What to do with the updates of a round."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from policy_engine.trust.standing import Band


class ClientAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with the update of one client, and why.

    Attributes:
        client_id: Whose it is.
        trust: From 0 to 1.
        accept: Whether the update is to be aggregated at all.
        clip_norm: The L2 norm to which the update is to be scaled down; None when it may stay as it is.
        weight_multiplier: By what its weight in the aggregate is to be multiplied, 0 to 1.
        quality: Of this update, 0 to 1; None when none came.
        quarantined_by: Which policy puts the client in quarantine; "" when none does.
    """

    client_id: str
    trust: float
    band: Band
    accept: bool
    clip_norm: float | None
    weight_multiplier: float
    quality: float | None
    reason: str
    quarantined_by: str = ""


class RoundAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to the observations of one round.

    Attributes:
        held: Whether the round is not to be believed: the global model stays as it is, and the round counts.
        excluded_share: Which share of its clients is excluded, those that were left out for it among them.
        refused_share: The same with those whose updates are rejected; above the cap the round is held.
        clients: In the order in which they were observed.
    """

    federation: str
    round: int
    held: bool
    excluded_share: float
    refused_share: float = 0.0
    clients: list[ClientAdvice]

    def renamed(self, names: Mapping[str, str]) -> RoundAdvice:
        """Return the same advice for clients of other names; those that have none keep theirs."""
        clients = [
            msgspec.structs.replace(each, client_id=names.get(each.client_id, each.client_id)) for each in self.clients
        ]
        return msgspec.structs.replace(self, clients=clients)

    @property
    def by_client(self) -> dict[str, ClientAdvice]:
        """The same by client."""
        return {each.client_id: each for each in self.clients}
