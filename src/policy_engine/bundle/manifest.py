"""The manifest: what a bundle is called, how long it is good, and the hash of every file in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any

import msgspec

from policy_engine.bundle.refusal import BundleError
from policy_engine.bundle.strict import convert, dump, load

POLICIES = "policies.json"
FUNCTIONS = "functions/"
MAX_FILES = 1000
MAX_VERSION = 2**53 - 1
_WHAT = "the manifest"
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_FUNCTION = re.compile(r"functions/[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.(?:json|py)", re.ASCII)

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
RevisionDigest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is signed.

    Attributes:
        name: Which line of bundles it belongs to.
        version: Rises with every bundle of a name.
        created: In UTC, whole seconds, as `expires`.
        expires: From when on it is not accepted any more.
        digest: The digest of the policies, RFC 8785, which the revision that holds them has too.
        files: Path -> SHA-256 of the bytes, in hexadecimal digits.
    """

    name: Name
    version: Annotated[int, msgspec.Meta(ge=1, le=MAX_VERSION)]
    created: datetime
    expires: datetime
    digest: RevisionDigest
    files: Annotated[dict[str, Sha256], msgspec.Meta(max_length=MAX_FILES)]

    def payload(self) -> bytes:
        """Return the manifest as it is signed: canonical JSON."""
        return dump(
            {**msgspec.structs.asdict(self), "created": _written(self.created), "expires": _written(self.expires)}
        )


def read_manifest(payload: bytes) -> Manifest:
    """Return the manifest in a payload whose signatures were checked.

    Raises:
        BundleError: It is none.
    """
    document = load(payload, _WHAT)
    manifest = convert(_timed(document), Manifest, _WHAT)
    check_paths(manifest.files)
    return manifest


def check_paths(paths: Iterable[str]) -> None:
    """Refuse paths of files that a bundle does not hold.

    Raises:
        BundleError: One is unknown, or there are no policies among them.
    """
    known = set(paths)
    for path in sorted(known):
        if path != POLICIES and not _FUNCTION.fullmatch(path):
            raise BundleError("malformed", f"a bundle holds `{POLICIES}` and files in `{FUNCTIONS}`, not `{path[:80]}`")
    if POLICIES not in known:
        raise BundleError("malformed", f"there is no `{POLICIES}` in the bundle")


def file_hash(content: bytes) -> str:
    """Return the hash that stands for a file."""
    return sha256(content).hexdigest()


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime(_TIME)


def _timed(document: Any) -> Any:
    """Return the document with its times read; those written otherwise than the manifest writes them are refused."""
    if not isinstance(document, dict):
        return document
    return {key: _moment(value) if key in {"created", "expires"} else value for key, value in document.items()}


def _moment(text: Any) -> datetime:
    try:
        moment = datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except (TypeError, ValueError):
        moment = None
    if moment is None or _written(moment) != text:
        raise BundleError("malformed", f"{_WHAT}: a time is written as `2030-12-31T23:59:59Z`")
    return moment
