"""The key that signs is made once, kept from others, and replaced without losing the public ones."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from policy_engine.model.errors import StateError
from policy_engine.signing import PublicKey, new_key, pre_auth_encoding, read_public_key
from policy_engine.store.keys import PRIVATE, KeyDirectory


def test_the_first_use_makes_a_key_that_only_the_owner_reads(tmp_path: Path) -> None:
    directory = KeyDirectory(tmp_path / "keys")
    with pytest.raises(StateError, match="cannot use the audit key"):
        directory.current()
    key = directory.make()
    assert directory.make().public == directory.current().public == key.public
    assert KeyDirectory(tmp_path / "keys").current().public == key.public
    assert (tmp_path / "keys" / PRIVATE).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert directory.trusted() == [key.public]
    assert len(list((tmp_path / "keys").iterdir())) == 2


def test_many_who_come_first_get_the_same_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: KeyDirectory(tmp_path / "keys").make().public, range(16)))
    assert len(set(made)) == 1
    assert KeyDirectory(tmp_path / "keys").trusted() == made[:1]


def test_a_signature_holds_for_its_key_type_and_payload_alone(tmp_path: Path) -> None:
    key, other = KeyDirectory(tmp_path).make(), new_key()
    signature = key.sign("type", b"payload")
    assert key.public.verifies("type", b"payload", signature)
    assert not key.public.verifies("types", b"payload", signature)
    assert not key.public.verifies("type", b"payloads", signature)
    assert not other.public.verifies("type", b"payload", signature)
    assert not key.public.verifies("type", b"payload", signature[:-1])
    assert not PublicKey.of(b"short").verifies("type", b"payload", signature)


def test_another_key_is_put_in_use_and_the_old_public_one_stays(tmp_path: Path) -> None:
    directory = KeyDirectory(tmp_path)
    old, new = directory.make(), new_key()
    directory.rotate(new)
    assert directory.current().public == new.public
    assert set(directory.trusted()) == {old.public, new.public}
    assert KeyDirectory(tmp_path).current().public == new.public


def test_what_is_no_key_is_told(tmp_path: Path) -> None:
    directory = KeyDirectory(tmp_path)
    directory.make()
    path = tmp_path / PRIVATE
    path.chmod(0o640)
    with pytest.raises(StateError, match="can be read by others"):
        KeyDirectory(tmp_path).current()
    path.chmod(0o600)
    path.write_bytes(b"no key")
    with pytest.raises(StateError, match="holds no private key"):
        directory.current()
    elliptic = generate_private_key(SECP256R1())
    path.write_bytes(elliptic.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(StateError, match="is not an Ed25519 key"):
        directory.current()


def test_what_is_no_public_key_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.pem"
    with pytest.raises(StateError, match="cannot read"):
        read_public_key(path)
    path.write_bytes(b"no key")
    with pytest.raises(StateError, match="holds no public key"):
        read_public_key(path)
    public = generate_private_key(SECP256R1()).public_key()
    path.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(StateError, match="is not an Ed25519 key"):
        read_public_key(path)


def test_a_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StateError, match="cannot use the audit key"):
        KeyDirectory(tmp_path / "file" / "keys").current()
    with pytest.raises(StateError, match="cannot make an audit key"):
        KeyDirectory(tmp_path / "file" / "keys").make()
    with pytest.raises(StateError, match="cannot write the audit key"):
        KeyDirectory(tmp_path / "file" / "keys").rotate(new_key())


def test_what_is_signed_is_unambiguous() -> None:
    assert pre_auth_encoding("a/b", b"hello world") == b"DSSEv1 3 a/b 11 hello world"
    assert pre_auth_encoding("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "
