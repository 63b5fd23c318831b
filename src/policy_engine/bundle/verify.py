"""Whether a bundle is to be believed: who signed it, is it whole, is it still good, is it the next one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

import msgspec

from policy_engine.bundle.archive import Bundle
from policy_engine.bundle.envelope import PAYLOAD_TYPE, Envelope, Signature
from policy_engine.bundle.manifest import Manifest, file_hash, read_manifest
from policy_engine.bundle.refusal import BundleError
from policy_engine.signing import PublicKey


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """Whose bundles are believed.

    Attributes:
        keys: Those that may sign.
        threshold: How many different ones of them have to, at least 1.
        name: The only name that a bundle may have; None for any.
    """

    keys: tuple[PublicKey, ...]
    threshold: int = 1
    name: str | None = None


class Last(NamedTuple):
    """The bundle of a name that was accepted last."""

    version: int
    digest: str


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that is to be believed.

    Attributes:
        manifest: What was signed.
        digest: `sha256:` and the hash of the manifest as it was signed, which names the bundle.
        signers: The ids of the trusted keys that signed, sorted.
        files: Path -> content, each as it was signed.
        is_new: Whether it is another one than the last that was accepted.
    """

    manifest: Manifest
    digest: str
    signers: tuple[str, ...]
    files: Mapping[str, bytes]
    is_new: bool


def verify(bundle: Bundle, trust: Trust, *, now: datetime, last: Last | None = None) -> Verified:
    """Return what a bundle holds if it is to be believed; its manifest is not read before its signatures are checked.

    Args:
        bundle: As it was received.
        trust: Whose signatures count.
        now: The time by which it may have expired. The bundle that was accepted last does not count as expired.
        last: What was accepted last of this name; None when nothing was, or when it does not matter.

    Raises:
        BundleError: It is not to be believed; `code` says why.
    """
    signers, payload = check_signatures(bundle.envelope, trust)
    manifest = read_manifest(payload)
    if trust.name is not None and manifest.name != trust.name:
        raise BundleError("other_name", f"it is called `{manifest.name}`, and `{trust.name}` is expected")
    check_files(manifest, bundle.files)
    digest = f"sha256:{sha256(payload).hexdigest()}"
    is_new = last is None or (manifest.version, digest) != last
    if is_new:
        _check_fresh(manifest, now, last)
    return Verified(manifest=manifest, digest=digest, signers=signers, files=bundle.files, is_new=is_new)


def check_signatures(envelope: Envelope | None, trust: Trust) -> tuple[tuple[str, ...], bytes]:
    """Return the ids of the trusted keys that signed, and what they signed.

    Raises:
        BundleError: They are too few.
    """
    if envelope is None or not envelope.signatures:
        raise BundleError("unsigned", "it carries no signature")
    if not trust.keys:
        raise BundleError("no_keys", "it is signed, but no key is trusted here")
    signed = {key.raw: key for each in envelope.signatures for key in _signers(each, envelope.payload, trust)}
    if not signed:
        named = ", ".join(f"`{each.key_id}`" for each in envelope.signatures)
        raise BundleError("unknown_key", f"it is signed by {named}, none of them trusted here")
    if len(signed) < trust.threshold:
        raise BundleError("too_few_signatures", f"{len(signed)} trusted keys signed it, {trust.threshold} have to")
    return tuple(sorted(key.key_id for key in signed.values())), envelope.payload


def _signers(signature: Signature, payload: bytes, trust: Trust) -> list[PublicKey]:
    """Return the trusted keys that made a signature; the id that it names only says which ones to try."""
    candidates = [key for key in trust.keys if signature.key_id in {"", key.key_id}]
    found = [key for key in candidates if key.verifies(PAYLOAD_TYPE, payload, signature.signature)]
    if candidates and signature.key_id and not found:
        raise BundleError("bad_signature", f"the signature that names key `{signature.key_id}` is not by it")
    return found


def check_files(manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Refuse files that are not exactly those of a manifest.

    Raises:
        BundleError: One is missing, too much, or another one.
    """
    for path in sorted(manifest.files.keys() - files.keys()):
        raise BundleError("missing_file", f"`{path}` is not there")
    for path in sorted(files.keys() - manifest.files.keys()):
        raise BundleError("extra_file", f"`{path[:80]}` is not in the manifest")
    for path, wanted in sorted(manifest.files.items()):
        if file_hash(files[path]) != wanted:
            raise BundleError("altered_file", f"`{path}` is not the file that was signed")


def _check_fresh(manifest: Manifest, now: datetime, last: Last | None) -> None:
    if manifest.expires <= now:
        raise BundleError(
            "expired", f"version {manifest.version} was good until {manifest.expires:%Y-%m-%d %H:%M:%S} UTC"
        )
    if last is not None and manifest.version <= last.version:
        same = "another bundle of that version" if manifest.version == last.version else f"version {last.version}"
        raise BundleError("replayed", f"it has version {manifest.version}, and {same} was accepted before")
