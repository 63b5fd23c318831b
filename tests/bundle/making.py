"""Bundles to test with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from policy_engine.bundle.archive import Bundle, pack
from policy_engine.bundle.build import build, sign
from policy_engine.bundle.verify import Trust
from policy_engine.signing import SigningKey, new_key

NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)
ANN, BEN, EVE = new_key(), new_key(), new_key()
NAME = "policies"


def policies(port: int = 80, **more: Any) -> bytes:
    """A policy file that allows one port."""
    rule = {"action": "allow", "description": "web", "match": {"protocol": "tcp", "dst_port": port}}
    web = {"name": "web", "type": "network_security", "rules": [rule], **more}
    return json.dumps({"version": 1, "policies": {"web": web}}, indent=1).encode()


def bundle(
    *signers: SigningKey,
    files: Mapping[str, bytes] | None = None,
    name: str = NAME,
    version: int = 1,
    now: datetime = NOW,
    days: float = 30,
) -> Bundle:
    """A bundle that was signed by keys."""
    made = build(
        {"policies.json": policies()} if files is None else files,
        name=name,
        version=version,
        created=now,
        expires=now + timedelta(days=days),
    )
    for key in signers:
        made = sign(made, key)
    return made


def present(*signers: SigningKey, port: int = 80, version: int = 1, days: float = 30, name: str = NAME) -> bytes:
    """A bundle that is good by the clock on the wall, as bytes; signed by ANN where nobody is named."""
    files = {"policies.json": policies(port)}
    return pack(bundle(*signers or (ANN,), files=files, name=name, version=version, now=datetime.now(UTC), days=days))


def public_key(directory: Path, key: SigningKey = ANN) -> str:
    """The path of a file with the public half of a key."""
    path = directory / f"{key.public.key_id}.pub.pem"
    path.write_bytes(key.public.pem())
    return str(path)


def trusting(*keys: SigningKey, threshold: int = 1, name: str | None = NAME) -> Trust:
    return Trust(keys=tuple(key.public for key in keys), threshold=threshold, name=name)
