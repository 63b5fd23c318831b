"""A bundle as one file: canonical JSON that holds the envelope beside the files, as texts.

There is one way to write a bundle. An archive format would bring links, absolute paths, compression bombs and bytes
that nothing covers; of this one, every byte is either signed, hashed, or the only one that may stand there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from policy_engine.bundle.envelope import Envelope, EnvelopeDocument, read_envelope
from policy_engine.bundle.manifest import MAX_FILES
from policy_engine.bundle.refusal import BundleError
from policy_engine.bundle.strict import decode, dump

MAX_BYTES = 16 << 20
"""How long a bundle may be."""

_WHAT = "the bundle"


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle holds, believed or not.

    Attributes:
        files: Path -> content.
        envelope: The manifest with its signatures; None when it was never signed.
    """

    files: Mapping[str, bytes]
    envelope: Envelope | None = None


class _Bundle(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    files: Annotated[dict[str, str], msgspec.Meta(max_length=MAX_FILES)]
    manifest: EnvelopeDocument | None = None


def pack(bundle: Bundle) -> bytes:
    """Return a bundle as bytes, the same for the same bundle.

    Raises:
        BundleError: A file is not UTF-8 text, or it is too much.
    """
    document: dict[str, Any] = {"files": {path: _text(path, content) for path, content in bundle.files.items()}}
    if bundle.envelope is not None:
        document["manifest"] = bundle.envelope.document()
    content = dump(document)
    _check_size(content)
    return content


def unpack(content: bytes) -> Bundle:
    """Return the bundle in bytes; nothing of it is to be believed yet.

    Raises:
        BundleError: It is none, or written otherwise than `pack` writes it.
    """
    _check_size(content)
    read = decode(content, _Bundle, _WHAT)
    envelope = None if read.manifest is None else read_envelope(read.manifest)
    return Bundle(files={path: text.encode() for path, text in read.files.items()}, envelope=envelope)


def _check_size(content: bytes) -> None:
    if len(content) > MAX_BYTES:
        raise BundleError("malformed", f"{_WHAT} is longer than {MAX_BYTES} bytes")


def _text(path: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise BundleError("malformed", f"`{path}` is not UTF-8 text") from None
