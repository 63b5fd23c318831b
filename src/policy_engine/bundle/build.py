"""Make a bundle, and sign one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from policy_engine.bundle.archive import Bundle
from policy_engine.bundle.contents import read_contents, read_signed
from policy_engine.bundle.envelope import Envelope
from policy_engine.bundle.manifest import Manifest, file_hash, read_manifest
from policy_engine.bundle.refusal import BundleError
from policy_engine.bundle.strict import convert
from policy_engine.bundle.verify import check_files
from policy_engine.signing import SigningKey


def build(files: Mapping[str, bytes], *, name: str, version: int, created: datetime, expires: datetime) -> Bundle:
    """Return an unsigned bundle of files.

    Args:
        files: Path -> content.
        name: Which line of bundles it belongs to.
        version: Above that of the one before.
        created: With a time zone, as `expires`; fractions of seconds are cut off.
        expires: From when on it is not accepted any more.

    Raises:
        BundleError: The files, the name or the version cannot be those of a bundle.
    """
    manifest = Manifest(
        name=name,
        version=version,
        created=created.replace(microsecond=0),
        expires=expires.replace(microsecond=0),
        digest=read_contents(files).digest,
        files={path: file_hash(content) for path, content in sorted(files.items())},
    )
    convert(msgspec.to_builtins(manifest, builtin_types=(datetime,)), Manifest, "the manifest")
    return Bundle(files=files, envelope=Envelope(payload=manifest.payload(), signatures=()))


def sign(bundle: Bundle, key: SigningKey) -> Bundle:
    """Return the bundle with one more signature, once it is found to be what its manifest says.

    Raises:
        BundleError: It has no manifest, or is not what that says: nobody should sign it.
    """
    if bundle.envelope is None:
        raise BundleError("unsigned", "it has no manifest that could be signed")
    inspect(bundle)
    return Bundle(files=bundle.files, envelope=bundle.envelope.signed_by(key))


def inspect(bundle: Bundle) -> Manifest:
    """Return what the manifest of a bundle says, whoever signed it, once the files are found to be as it says.

    Raises:
        BundleError: It has no manifest, or is not what that says.
    """
    if bundle.envelope is None:
        raise BundleError("unsigned", "it has no manifest")
    manifest = read_manifest(bundle.envelope.payload)
    check_files(manifest, bundle.files)
    read_signed(manifest, bundle.files)
    return manifest
