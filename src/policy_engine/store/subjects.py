"""Pseudonyms for personal data: each client has a key of its own, and without the key nobody reads what it sealed."""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Iterable
from functools import lru_cache
from hashlib import sha256
from json.encoder import encode_basestring_ascii
from threading import Lock
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from sqlalchemy import Connection, bindparam, delete, insert, select, text, update

from policy_engine.store.schema import erased, store, subject

MARK = "~"
_THEN = "."
_KEY_BYTES = 64
_MAX_REMEMBERED = 50_000
_CHUNK = 500
_MAX_NAME = 256
_DIGEST_AT = ":sha256:"


_ERASURES = select(store.c.subject_generation).where(store.c.tenant == bindparam("tenant"))
_ADD_ON_POSTGRESQL = text("""
    INSERT INTO subject (tenant, name, key, pseudonym)
    SELECT :tenant, * FROM unnest(CAST(:name AS text[]), CAST(:key AS bytea[]), CAST(:pseudonym AS text[]))
    ON CONFLICT DO NOTHING
    RETURNING name
""")
_FIND_ON_POSTGRESQL = text("""
    SELECT name, key, pseudonym FROM subject JOIN unnest(CAST(:names AS text[])) AS wanted (name) USING (name)
    WHERE tenant = :tenant
""")
"""One statement for many names: parameters of their own for each take ten times as long."""


class Subject(NamedTuple):
    """Whom some data is about.

    Attributes:
        pseudonym: What is stored instead of the name.
        key: AES-SIV key (RFC 5297): the same value gives the same token, so it can be searched for.
    """

    name: str
    key: bytes
    pseudonym: str


def subject_name(value: Any) -> str:
    """Return whom a value in a request names: a text that every database can hold and index.

    What is too long, or is no text, is cut short and told apart by its digest.
    """
    name = str(value)
    if len(name) <= _MAX_NAME and "\0" not in name and (name.isascii() or not _has_surrogates(name)):
        return name
    digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    start = name[: _MAX_NAME - len(_DIGEST_AT) - len(digest)]
    return f"{start.replace(chr(0), '?').encode('utf-8', 'replace').decode()}{_DIGEST_AT}{digest}"


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def seal(key: bytes, value: Any) -> str:
    """Return the token that stands for a value."""
    text = encode_basestring_ascii(value) if value.__class__ is str else json.dumps(value, default=str)
    return _seal_text(key, text)


@lru_cache(maxsize=1 << 16)
def _seal_text(key: bytes, text: str) -> str:
    return MARK + urlsafe_b64encode(AESSIV(key).encrypt(text.encode(), None)).decode().rstrip("=")


def forget_sealed() -> None:
    """Forget every key that something was sealed with lately."""
    _seal_text.cache_clear()


def seal_alone(subject: Subject, value: Any) -> str:
    """Return the token for a value that is its own subject; it begins with the pseudonym, by which the key is found."""
    sealed = seal(subject.key, value)
    return sealed if sealed == subject.pseudonym else f"{subject.pseudonym}{_THEN}{sealed}"


def pseudonym_in(token: str) -> str:
    """Return the pseudonym at the beginning of such a token."""
    return token.partition(_THEN)[0]


def unseal(key: bytes, token: str) -> Any:
    """Return the value that a token stands for; the token itself when the key is not its."""
    try:
        text = token.rpartition(_THEN)[2][len(MARK) :]
        sealed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return json.loads(AESSIV(key).decrypt(sealed, None))
    except (InvalidTag, ValueError):
        return token


def erasures(connection: Connection, tenant: str) -> int:
    """Return how often keys were deleted."""
    return int(connection.execute(_ERASURES, {"tenant": tenant}).scalar_one())


class Subjects:
    """The subjects of one tenant, remembered while their keys are there; used by one thread, but for `forget_erased`.

    Attributes:
        lasting: Those whose keys have reached the disk. Any thread may read it; it is replaced, not emptied.
    """

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant
        self.lasting: dict[str, Subject] = {}
        self._fresh: dict[str, Subject] = {}
        self._generation: int | None = None
        self._read_in: int | None = None
        self._lock = Lock()

    def forget_erased(self, generation: int) -> None:
        """Forget all keys when some were deleted since the generation that is known here; any thread may say so."""
        with self._lock:
            if generation != self._generation:
                self.lasting = {}
                forget_sealed()
                self._generation = generation

    def begin(self, generation: int) -> None:
        """Note in which generation a transaction looks up keys."""
        self.forget_erased(generation)
        self._read_in = generation

    def keep(self) -> None:
        """Remember what was looked up or made in a transaction that was committed, unless keys were deleted since."""
        fresh, self._fresh = self._fresh, {}
        with self._lock:
            if self._read_in != self._generation:
                return
            if len(self.lasting) + len(fresh) > _MAX_REMEMBERED:
                self.lasting = {}
            self.lasting.update(fresh)

    def drop(self) -> None:
        """Forget what was made in a transaction that failed: these keys are nowhere else."""
        self._fresh = {}

    def ensure(self, connection: Connection, names: Collection[str]) -> dict[str, Subject]:
        """Return the subjects of these names; those that are new get a key."""
        lasting, fresh = self.lasting, self._fresh
        missing = sorted({name for name in names if name not in lasting and name not in fresh})
        while missing:
            fresh.update(self._load(connection, missing))
            new = [_new(name) for name in missing if name not in fresh]
            if new:
                fresh.update(self._add(connection, new))
            missing = [name for name in missing if name not in fresh]  # somebody else's that was erased meanwhile
        return {name: fresh.get(name) or lasting[name] for name in names}

    def _load(self, connection: Connection, names: list[str]) -> dict[str, Subject]:
        if connection.dialect.name == "postgresql":
            rows = connection.execute(_FIND_ON_POSTGRESQL, {"tenant": self._tenant, "names": names}) if names else ()
            return {row.name: Subject(row.name, bytes(row.key), row.pseudonym) for row in rows}
        found = {}
        for start in range(0, len(names), _CHUNK):
            query = select(subject.c.name, subject.c.key, subject.c.pseudonym).where(
                subject.c.tenant == self._tenant, subject.c.name.in_(names[start : start + _CHUNK])
            )
            found.update(
                {row.name: Subject(row.name, bytes(row.key), row.pseudonym) for row in connection.execute(query)}
            )
        return found

    def _add(self, connection: Connection, new: list[Subject]) -> dict[str, Subject]:
        rows = [{"tenant": self._tenant, **item._asdict()} for item in new]
        if connection.dialect.name == "postgresql":  # another process may make a key for the same name
            columns = {name: [row[name] for row in rows] for name in ("name", "key", "pseudonym")}
            added = set(connection.execute(_ADD_ON_POSTGRESQL, {"tenant": self._tenant, **columns}).scalars())
            others = self._load(connection, [item.name for item in new if item.name not in added])
            return {item.name: item for item in new if item.name in added} | others
        connection.execute(insert(subject), rows)
        return {item.name: item for item in new}


def _new(name: str) -> Subject:
    key = os.urandom(_KEY_BYTES)
    return Subject(name, key, seal(key, name))


def find(connection: Connection, tenant: str, name: str) -> Subject | None:
    """Return a subject, None when there is no key for the name."""
    query = select(subject.c.name, subject.c.key, subject.c.pseudonym).where(
        subject.c.tenant == tenant, subject.c.name == subject_name(name)
    )
    row = connection.execute(query).first()
    return Subject(row.name, bytes(row.key), row.pseudonym) if row else None


def by_pseudonym(connection: Connection, tenant: str, pseudonyms: Iterable[str]) -> dict[str, Subject]:
    """Return the subjects behind pseudonyms, as far as their keys are there."""
    wanted = sorted(set(pseudonyms))
    found = {}
    for start in range(0, len(wanted), _CHUNK):
        query = select(subject.c.name, subject.c.key, subject.c.pseudonym).where(
            subject.c.tenant == tenant, subject.c.pseudonym.in_(wanted[start : start + _CHUNK])
        )
        found.update(
            {row.pseudonym: Subject(row.name, bytes(row.key), row.pseudonym) for row in connection.execute(query)}
        )
    return found


def erase(connection: Connection, tenant: str, name: str) -> str | None:
    """Delete the key of a subject; return the pseudonym that is left of it, None when there was no key."""
    present = find(connection, tenant, name)
    if present is None:
        return None
    connection.execute(delete(subject).where(subject.c.tenant == tenant, subject.c.name == present.name))
    connection.execute(insert(erased).values(tenant=tenant, pseudonym=present.pseudonym))
    connection.execute(
        update(store).where(store.c.tenant == tenant).values(subject_generation=store.c.subject_generation + 1)
    )
    return present.pseudonym
