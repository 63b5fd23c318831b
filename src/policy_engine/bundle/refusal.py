"""Why a bundle is refused: every reason has a code."""

from __future__ import annotations

from collections.abc import Sequence

from policy_engine.model.diagnostic import Diagnostic
from policy_engine.model.errors import PolicyEngineError

REFUSALS: dict[str, str] = {
    "malformed": "it is not a bundle, or not in the one form that a bundle has",
    "unsigned": "it carries no signature",
    "no_keys": "it is signed, but no key is trusted here",
    "unknown_key": "no signature is by a key that is trusted here",
    "bad_signature": "a signature that names a trusted key is not by it: the manifest or the signature was altered",
    "too_few_signatures": "fewer trusted keys than the threshold signed it",
    "other_name": "it is a bundle of another name",
    "missing_file": "a file that the manifest names is not there",
    "extra_file": "a file is there that the manifest does not name",
    "altered_file": "a file is not the one that was signed",
    "expired": "its time is over",
    "replayed": "it is not newer than the bundle that was accepted last",
    "invalid_policies": "the policies in it cannot be used",
    "wrong_digest": "the policies in it do not have the digest that the manifest names",
    "invalid_functions": "its policy functions cannot be used, or policies name some that it does not hold",
}
"""Every code and what it means."""


MAX_DETAIL = 500


class BundleError(PolicyEngineError, ValueError):
    """A bundle is refused; nothing of it is used.

    Attributes:
        code: One of REFUSALS.
        detail: What is wrong.
        errors: The faults of its policies, with their places.
    """

    def __init__(self, code: str, detail: str, errors: Sequence[Diagnostic] = ()) -> None:
        detail = _shown(detail)
        super().__init__(f"the bundle is refused ({code}): {detail}")
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)


def _shown(detail: str) -> str:
    """Return a text that may quote what nobody has signed, bounded, and without what would command a terminal."""
    bounded = f"{detail[:MAX_DETAIL]}..." if len(detail) > MAX_DETAIL else detail
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in bounded)
