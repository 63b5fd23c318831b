"""What the files of a bundle say."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from policy_engine.bundle.manifest import FUNCTIONS, POLICIES, Manifest, check_paths
from policy_engine.bundle.refusal import BundleError
from policy_engine.functions.files import read_functions
from policy_engine.functions.needed import check_functions
from policy_engine.language.canonical import digest
from policy_engine.language.document import Document, parse_document
from policy_engine.model.errors import InvalidPolicyError
from policy_engine.model.function import StoredFunction
from policy_engine.model.policy import PolicySet


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle brings.

    Attributes:
        document: The policies and types.
        functions: The policy functions, by id.
    """

    document: Document
    functions: Mapping[str, StoredFunction]

    @property
    def policy_set(self) -> PolicySet:
        """All of it."""
        return msgspec.structs.replace(self.document.policy_set, functions=self.functions)

    @property
    def digest(self) -> str:
        """The digest that the revision will have."""
        return digest(self.policy_set)


def read_contents(files: Mapping[str, bytes]) -> Contents:
    """Return what files say.

    Raises:
        BundleError: They are not those of a bundle, the policies or functions cannot be used, or policies name
            functions that are not there.
    """
    check_paths(files)
    try:
        document = parse_document(files[POLICIES])
    except InvalidPolicyError as error:
        raise BundleError("invalid_policies", str(error), error.errors) from None
    sources = {path.removeprefix(FUNCTIONS): content for path, content in files.items() if path.startswith(FUNCTIONS)}
    try:
        contents = Contents(document=document, functions=read_functions(sources))
        check_functions(contents.policy_set)
    except InvalidPolicyError as error:
        raise BundleError("invalid_functions", str(error), error.errors) from None
    return contents


def read_signed(manifest: Manifest, files: Mapping[str, bytes]) -> Contents:
    """Return what the files of a bundle that was verified say.

    Raises:
        BundleError: As `read_contents`, or they are not what the manifest says of them.
    """
    contents = read_contents(files)
    if contents.digest != manifest.digest:
        raise BundleError("wrong_digest", f"the policies have the digest `{contents.digest}`, not `{manifest.digest}`")
    return contents
