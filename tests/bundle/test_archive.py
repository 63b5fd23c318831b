"""Bundles that were damaged: refused with a reason, or the same as before, and never anything else."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import rfc8785
from tests.bundle.making import ANN, BEN, NOW, bundle, policies, trusting

from policy_engine.bundle.archive import MAX_BYTES, Bundle, pack, unpack
from policy_engine.bundle.contents import read_signed
from policy_engine.bundle.refusal import REFUSALS, BundleError
from policy_engine.bundle.strict import load
from policy_engine.bundle.verify import Verified, verify
from policy_engine.language import json_text

FUNCTION = "def check(context):\n    return {'allowed': True, 'reason': 'sö'}\n".encode()
SIGNED = pack(bundle(ANN, BEN, files={"policies.json": policies(), "functions/check.py": FUNCTION}))
TRUST = trusting(ANN, BEN, threshold=2)
SCRAPS = [
    *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\xff", b"\x00", b"null", b"true", b"1e999", b"-", b"9" * 400),
    *(b"\\ud800", b"\xef\xbb\xbf", b"NaN", b"=", b"A", b"\n", b" ", b"1.0", b"[" * 5000, b'{"a":' * 5000, b"../"),
    *(b'"files":{},', b'"keyid":"",', b'"functions/x.py":"",', b'"signatures":[],', b'"payload":"",'),
]


def believed(content: bytes) -> Verified:
    found = verify(unpack(content), TRUST, now=NOW)
    read_signed(found.manifest, found.files)
    return found


def outcome(content: bytes) -> str | None:
    """The code of the refusal; None when it is believed."""
    try:
        believed(content)
    except BundleError as error:
        return error.code
    return None


def refused(content: bytes) -> str:
    code = outcome(content)
    assert code is not None
    return code


def test_every_altered_byte_is_refused() -> None:
    believed(SIGNED)
    drawn = random.Random(7)
    codes: Counter[str] = Counter()
    for at, byte in enumerate(SIGNED):
        for other in {byte ^ 1, byte ^ 0x20, byte ^ 0x80, drawn.randrange(256)} - {byte}:
            codes[refused(SIGNED[:at] + bytes([other]) + SIGNED[at + 1 :])] += 1
    assert codes.keys() >= {"malformed", "altered_file", "bad_signature", "too_few_signatures"}


def test_every_missing_and_every_extra_byte_is_refused() -> None:
    for at in range(len(SIGNED)):
        refused(SIGNED[:at] + SIGNED[at + 1 :]) if SIGNED[at] != SIGNED[at - 1] else None
        refused(SIGNED[:at])
        refused(SIGNED[:at] + b" " + SIGNED[at:])
    refused(SIGNED + b"\n")


def damage(drawn: random.Random, content: bytes) -> bytes:
    for _ in range(drawn.randint(1, 3)):
        at = drawn.randrange(len(content) + 1)
        start = drawn.randrange(len(content) + 1)
        content = drawn.choice(
            [
                content[:at] + drawn.choice(SCRAPS) + content[at:],
                content[:at] + content[at + drawn.randint(1, 60) :],
                content[:at] + bytes([drawn.randrange(256)]) + content[at + 1 :],
                content[:at] + content[start : start + drawn.randint(1, 300)] + content[at:],
                content[:at] + drawn.choice(SCRAPS) + content[at + drawn.randint(1, 8) :],
            ]
        )
    return content


def test_random_damage_is_refused_with_a_reason() -> None:
    drawn = random.Random(20300601)
    codes: Counter[str | None] = Counter()
    for _ in range(10_000):
        content = damage(drawn, SIGNED)
        code = outcome(content)
        assert (code is None) == (content == SIGNED)
        codes[code] += 1
    assert codes[None] < 100
    assert codes.keys() - {None} <= REFUSALS.keys()


def test_damage_that_a_signer_signed_is_refused_with_a_reason() -> None:
    """Whoever signs may be careless: what is behind the signatures is read as strictly."""
    drawn = random.Random(5)
    made = bundle()
    assert made.envelope is not None
    codes: Counter[str | None] = Counter()
    for _ in range(2_000):
        payload = damage(drawn, made.envelope.payload)
        envelope = type(made.envelope)(payload=payload, signatures=()).signed_by(ANN).signed_by(BEN)
        codes[outcome(pack(Bundle(files=made.files, envelope=envelope)))] += 1
    assert codes.keys() - {None} <= {
        "malformed",
        "missing_file",
        "altered_file",
        "wrong_digest",
        "other_name",
        "expired",
    }


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{}", b"[]", b"null", b'"x"', b"1", b"\xff", b"{" * 100_000, b"PK\x03\x04", policies()),
        b'{"files":{},"files":{}}',
        b'{"files":{"policies.json":"\\ud800"}}',
        b'{"files":[]}',
        b'{"files":{},"manifest":{}}',
        b'{"files":{},"manifest":{"payload":"","payloadType":"x","signatures":[]}}',
        b'{"files":{}}' + b" " * MAX_BYTES,
    ],
    ids=lambda content: repr(content[:40]),
)
def test_what_is_no_bundle(content: bytes) -> None:
    assert refused(content) in {"malformed", "unsigned"}


def test_a_refusal_does_not_repeat_all_of_a_long_bundle() -> None:
    with pytest.raises(BundleError) as caught:
        unpack(b'{"' + b"x" * 1_000_000 + b'":1}')
    assert len(str(caught.value)) < 1000


HOSTILE = [b"\x1b[31m", b"\\u001b[31m", b"\\nX", b"\\u0000", b"\\u2028", b"\\u202e", b"\xc3\xa9", b"\x7f", b"x" * 129]


@pytest.mark.parametrize("key_id", HOSTILE)
def test_the_hint_of_a_signature_is_printable_and_short(key_id: bytes) -> None:
    ann = ANN.public.key_id.encode()
    with pytest.raises(BundleError) as caught:
        verify(unpack(SIGNED.replace(ann, key_id)), trusting(BEN, threshold=1), now=NOW)
    assert caught.value.code == "malformed"


@pytest.mark.parametrize(
    "content",
    [
        b'{"files":{},"\\u001b[31m\\n":1}',
        b'{"files":{"\\u001b[31m\\n":1}}',
        b'{"files":{},"manifest":{"payload":"","payloadType":"\\u001b[31m\\n","signatures":[]}}',
    ],
)
def test_a_refusal_quotes_nothing_that_commands_a_terminal(content: bytes) -> None:
    with pytest.raises(BundleError) as caught:
        unpack(content)
    assert str(caught.value).isprintable()
    assert str(BundleError("malformed", "a\x1b[31m\nb")).endswith("a\\x1b[31m\\nb")


@pytest.mark.parametrize("around", [b"%s", b'{"files":%s}', b'{"files":{},"manifest":%s}', b'{"files":{"a":%s}}'])
def test_a_long_bundle_of_another_shape_is_refused_by_its_shape(monkeypatch: pytest.MonkeyPatch, around: bytes) -> None:
    """Nothing is read whole and compared that has a shape which a bundle cannot have."""

    def read(*_: object) -> None:
        raise AssertionError("the whole of it is read")

    monkeypatch.setattr(json_text, "parse", read)
    monkeypatch.setattr(rfc8785, "dumps", read)
    with pytest.raises(BundleError, match="got `array`"):
        unpack(around % (b"[" + b"0," * 1_000_000 + b"0]"))


def test_a_bundle_is_written_as_the_standard_says_whatever_its_texts() -> None:
    text = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x11000), 0x1F600, 0x10FFFF)))
    made = Bundle(files={"policies.json": text.encode(), "functions/a.py": b'"\\/\x7f'}, envelope=bundle(ANN).envelope)
    assert unpack(pack(made)) == made
    assert unpack(pack(Bundle(files=made.files))).envelope is None


def test_texts_only() -> None:
    with pytest.raises(BundleError, match=r"`functions/x.py` is not UTF-8 text"):
        pack(Bundle(files={"functions/x.py": b"\xff"}))


def test_canonical_json_only() -> None:
    assert load(b'{"a":1,"b":[]}', "it") == {"a": 1, "b": []}
    for other in (
        b'{"a": 1,"b":[]}',
        b'{"b":[],"a":1}',
        b'{"a":1.0,"b":[]}',
        b'{"a":1,"b":[]}\n',
        b'{"\\u0061":1,"b":[]}',
    ):
        with pytest.raises(BundleError, match="RFC 8785"):
            load(other, "it")
