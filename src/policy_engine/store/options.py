"""Where a store is and how it is used."""

from __future__ import annotations

from pathlib import Path

import msgspec

DEFAULT_TENANT = "default"
PERSONAL = ("client_id", "client_ip")


class StoreOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where a store is and how it is used.

    Attributes:
        url: `sqlite:///PATH` or `postgresql://...`.
        data_dir: Where the spool is, and the key unless `key_dir` says otherwise.
        masked: Dotted paths of context fields that are not written.
        personal: Dotted paths of context fields that are written under pseudonyms.
        keeps_decisions: Whether decisions are stored.
        queue: How many decisions may wait for the database.
        spool_bytes: How much may wait on disk while the database is away.
    """

    url: str
    data_dir: Path
    key_dir: Path | None = None
    tenant: str = DEFAULT_TENANT
    masked: tuple[str, ...] = ()
    personal: tuple[str, ...] = PERSONAL
    keeps_decisions: bool = True
    queue: int = 20_000
    spool_bytes: int = 256 * 2**20
