"""The state table of bundles: which are believed, and why the others are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

import msgspec
import pytest
from tests.bundle.making import ANN, BEN, EVE, NOW, bundle, policies, trusting

from policy_engine.bundle.archive import Bundle, pack, unpack
from policy_engine.bundle.build import build, sign
from policy_engine.bundle.contents import read_contents, read_signed
from policy_engine.bundle.envelope import PAYLOAD_TYPE, Envelope, Signature
from policy_engine.bundle.refusal import REFUSALS, BundleError
from policy_engine.bundle.verify import Last, Trust, Verified, verify
from policy_engine.signing import SigningKey, pre_auth_encoding

FUNCTION = b"def check(context):\n    return {'allowed': True, 'reason': 'so'}\n"
TWO = {"policies.json": policies(), "functions/check.py": FUNCTION}


def resigned(made: Bundle, *signatures: Signature) -> Bundle:
    assert made.envelope is not None
    return Bundle(files=made.files, envelope=msgspec.structs.replace(made.envelope, signatures=signatures))


def signature(made: Bundle, key: SigningKey, *, key_id: str | None = None) -> Signature:
    assert made.envelope is not None
    return Signature(
        key_id=key.public.key_id if key_id is None else key_id, signature=key.sign(PAYLOAD_TYPE, made.envelope.payload)
    )


def altered_manifest(made: Bundle, find: bytes, put: bytes) -> Bundle:
    assert made.envelope is not None
    assert find in made.envelope.payload
    payload = made.envelope.payload.replace(find, put)
    return Bundle(files=made.files, envelope=Envelope(payload=payload, signatures=made.envelope.signatures))


class Row(NamedTuple):
    made: Callable[[], Bundle]
    code: str | None
    trust: Trust = trusting(ANN, BEN)
    last: Last | None = None


LAST = Last(3, "sha256:" + "0" * 64)

TABLE: dict[str, Row] = {
    "signed, key trusted": Row(lambda: bundle(ANN), None),
    "signed by two of two": Row(lambda: bundle(ANN, BEN), None, trusting(ANN, BEN, threshold=2)),
    "signed by a trusted key and a stranger": Row(lambda: bundle(ANN, EVE), None),
    "newer than the last": Row(lambda: bundle(ANN, version=4), None, last=LAST),
    "much newer than the last": Row(lambda: bundle(ANN, version=400), None, last=LAST),
    "a signature without a hint": Row(lambda: resigned(bundle(), signature(bundle(), ANN, key_id="")), None),
    "with a function": Row(lambda: bundle(ANN, files=TWO), None),
    "never signed, key trusted": Row(lambda: Bundle(files={"policies.json": policies()}), "unsigned"),
    "signatures taken off": Row(bundle, "unsigned"),
    "never signed, no key trusted": Row(bundle, "unsigned", trusting()),
    "signed, no key trusted": Row(lambda: bundle(ANN), "no_keys", trusting()),
    "signed by strangers": Row(lambda: bundle(EVE), "unknown_key"),
    "a stranger that claims to be trusted": Row(
        lambda: resigned(bundle(), signature(bundle(), EVE, key_id=ANN.public.key_id)), "bad_signature"
    ),
    "a stranger without a hint": Row(lambda: resigned(bundle(), signature(bundle(), EVE, key_id="")), "unknown_key"),
    "one of two": Row(lambda: bundle(ANN), "too_few_signatures", trusting(ANN, BEN, threshold=2)),
    "one key twice": Row(
        lambda: resigned(bundle(), signature(bundle(), ANN), signature(bundle(), ANN)),
        "too_few_signatures",
        trusting(ANN, BEN, threshold=2),
    ),
    "one key twice, once without a hint": Row(
        lambda: resigned(bundle(), signature(bundle(), ANN), signature(bundle(), ANN, key_id="")),
        "too_few_signatures",
        trusting(ANN, BEN, threshold=2),
    ),
    "a key that is trusted twice": Row(lambda: bundle(ANN), "too_few_signatures", trusting(ANN, ANN, threshold=2)),
    "one of two, and a stranger": Row(lambda: bundle(ANN, EVE), "too_few_signatures", trusting(ANN, BEN, threshold=2)),
    "one of two, the other forged": Row(
        lambda: resigned(bundle(), signature(bundle(), ANN), signature(bundle(), EVE, key_id=BEN.public.key_id)),
        "bad_signature",
        trusting(ANN, BEN, threshold=2),
    ),
    "the signature of another manifest": Row(
        lambda: resigned(bundle(version=2), signature(bundle(), ANN)), "bad_signature"
    ),
    "a later expiry": Row(lambda: altered_manifest(bundle(ANN), b"2030-07-01", b"2039-07-01"), "bad_signature"),
    "a higher version": Row(lambda: altered_manifest(bundle(ANN), b'"version":1', b'"version":9'), "bad_signature"),
    "another file": Row(
        lambda: Bundle(files={"policies.json": policies(22)}, envelope=bundle(ANN).envelope), "altered_file"
    ),
    "1.0 in the place of 1": Row(  # the same canonical JSON, but not the same to a condition
        lambda: Bundle(
            files={"policies.json": policies(metadata={"x": 1.0})},
            envelope=bundle(ANN, files={"policies.json": policies(metadata={"x": 1})}).envelope,
        ),
        "altered_file",
    ),
    "a space more": Row(
        lambda: Bundle(files={"policies.json": policies() + b"\n"}, envelope=bundle(ANN).envelope), "altered_file"
    ),
    "a file missing": Row(
        lambda: Bundle(files={"policies.json": policies()}, envelope=bundle(ANN, files=TWO).envelope), "missing_file"
    ),
    "no file at all": Row(lambda: Bundle(files={}, envelope=bundle(ANN).envelope), "missing_file"),
    "a file more": Row(lambda: Bundle(files=TWO, envelope=bundle(ANN).envelope), "extra_file"),
    "expired": Row(lambda: bundle(ANN, days=-1), "expired"),
    "expires now": Row(lambda: bundle(ANN, days=0), "expired"),
    "of another name": Row(lambda: bundle(ANN, name="staging"), "other_name"),
    "older than the last": Row(lambda: bundle(ANN, version=2), "replayed", last=LAST),
    "another one of the same version": Row(lambda: bundle(ANN, version=3), "replayed", last=LAST),
}


def outcome(row: Row) -> str | None:
    try:
        verify(row.made(), row.trust, now=NOW, last=row.last)
    except BundleError as error:
        return error.code
    return None


@pytest.mark.parametrize("state", TABLE)
def test_state(state: str) -> None:
    row = TABLE[state]
    assert outcome(row) == row.code
    if row.code is not None:
        assert row.code in REFUSALS


def believed(made: Bundle, **more: Last) -> Verified:
    return verify(made, trusting(ANN, BEN), now=NOW, last=more.get("last"))


def test_what_is_known_of_a_bundle() -> None:
    found = believed(bundle(ANN, BEN, EVE, version=7))
    assert found.signers == tuple(sorted((ANN.public.key_id, BEN.public.key_id)))
    assert (found.manifest.name, found.manifest.version) == ("policies", 7)
    assert found.manifest.expires == NOW + timedelta(days=30)
    assert found.is_new
    contents = read_signed(found.manifest, found.files)
    assert list(contents.document.policy_set.policies) == ["web"]
    assert contents.digest == found.manifest.digest


def test_the_last_one_again_is_not_new_even_when_it_has_expired() -> None:
    made = bundle(ANN, version=3, days=1)
    first = believed(made)
    again = verify(made, trusting(ANN), now=NOW + timedelta(days=2), last=Last(3, first.digest))
    assert not again.is_new
    assert again.digest == first.digest


def test_one_more_signature_leaves_the_name_of_a_bundle() -> None:
    made = bundle(ANN)
    assert believed(sign(made, BEN)).digest == believed(made).digest


def test_signing_again_replaces_the_signature() -> None:
    once = bundle(ANN)
    assert sign(once, ANN) == once


def test_nobody_signs_what_is_not_whole() -> None:
    made = bundle(ANN)
    with pytest.raises(BundleError) as caught:
        sign(Bundle(files={"policies.json": policies(22)}, envelope=made.envelope), BEN)
    assert caught.value.code == "altered_file"


def test_a_manifest_with_another_digest_is_not_signed_and_not_used() -> None:
    made = altered_manifest(bundle(), b'"digest":"sha256:', b'"digest":"sha256:' + b"0" * 64 + b'","x":"')
    with pytest.raises(BundleError) as caught:
        sign(made, ANN)
    assert caught.value.code == "malformed"
    first = bundle()
    assert first.envelope is not None
    start = first.envelope.payload.index(b"sha256:") + 7
    digest = first.envelope.payload[start : start + 64]
    forged = resigned(altered_manifest(first, digest, b"0" * 64))
    with pytest.raises(BundleError) as caught:
        sign(forged, ANN)
    assert caught.value.code == "wrong_digest"
    found = believed(resigned(forged, signature(forged, ANN)))
    with pytest.raises(BundleError) as caught:
        read_signed(found.manifest, found.files)
    assert caught.value.code == "wrong_digest"


def test_policies_that_cannot_be_used_are_not_built() -> None:
    with pytest.raises(BundleError) as caught:
        bundle(files={"policies.json": b'{"policies": {"a": {"type": 3}}}'})
    assert caught.value.code == "invalid_policies"
    assert {error.pointer for error in caught.value.errors} >= {"/policies/a/type"}


def test_functions_that_cannot_be_used_are_not_built() -> None:
    with pytest.raises(BundleError) as caught:
        bundle(files={"policies.json": policies(), "functions/f.py": b"def f(context):\n    return (\n"})
    assert caught.value.code == "invalid_functions"
    assert caught.value.errors[0].pointer.startswith("/f.py")


def judged(**call: str) -> bytes:
    return json.dumps({"policies": {"judge": {"type": "fl_client_start", "name": "judge", **call}}}).encode()


@pytest.mark.parametrize(
    ("call", "pointer"),
    [
        ({"function_id": "ff"}, "/policies/judge/function_id"),
        ({"function_code": "def f(context):\n    return (\n"}, "/policies/judge/function_code"),
    ],
)
def test_policies_without_their_functions_are_neither_built_nor_used(call: dict[str, str], pointer: str) -> None:
    files = {"policies.json": judged(**call), "functions/f.py": b"def f(context):\n    return True\n"}
    for attempt in (lambda: bundle(files=files), lambda: read_contents(files)):
        with pytest.raises(BundleError) as caught:
            attempt()
        assert caught.value.code == "invalid_functions"
        assert [error.pointer for error in caught.value.errors] == [pointer]
    read_contents({**files, "policies.json": judged(function_id="f")})


@pytest.mark.parametrize(
    "path", ["", "x", "../policies.json", "/etc/passwd", "functions/", "functions/../x.py", "a/b.py"]
)
@pytest.mark.parametrize(
    "other", ["functions/.x.py", "functions/a/b.py", "functions/x.sh", "functions/_x.py", "functions/x.py\n"]
)
def test_a_bundle_holds_policies_and_functions_only(path: str, other: str) -> None:
    for wrong in (path, other):
        with pytest.raises(BundleError) as caught:
            bundle(files={"policies.json": policies(), wrong: b""})
        assert caught.value.code == "malformed"
    with pytest.raises(BundleError):
        bundle(files={"functions/x.py": b""})


@pytest.mark.parametrize("change", [{"name": "a b"}, {"name": ""}, {"version": 0}, {"version": 2**53}])
def test_what_a_bundle_cannot_be_called(change: dict[str, object]) -> None:
    with pytest.raises(BundleError):
        build(
            {"policies.json": policies()},
            **{"name": "x", "version": 1, "created": NOW, "expires": NOW, **change},  # type: ignore[arg-type]
        )


def test_dsse_signs_the_type_and_the_payload_behind_their_lengths() -> None:
    assert pre_auth_encoding("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_the_form_of_a_bundle() -> None:
    document = json.loads(pack(bundle(ANN)))
    assert document.keys() == {"files", "manifest"}
    assert document["manifest"].keys() == {"payload", "payloadType", "signatures"}
    assert [each.keys() for each in document["manifest"]["signatures"]] == [{"keyid", "sig"}]
    assert unpack(pack(bundle(ANN))) == bundle(ANN)
