"""The three ways a function can lie on disk."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.cases.places import policy_file

from policy_engine.functions.files import is_function_file, read_functions
from policy_engine.functions.function import function_document, read_function
from policy_engine.model.errors import InvalidPolicyError

CODE = "def judge(context):\n    return {'allowed': True}\n"


def as_json(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def refused(files: dict[str, bytes]) -> list[tuple[str, str]]:
    with pytest.raises(InvalidPolicyError) as caught:
        read_functions(files)
    return [(fault.pointer, fault.detail) for fault in caught.value.errors]


def test_a_description_with_the_source_in_it() -> None:
    functions = read_functions({"a.json": as_json(function_id="judge", name="The Judge", code=CODE)})
    assert list(functions) == ["judge"]
    assert (functions["judge"].name, functions["judge"].entry) == ("The Judge", "judge")


def test_a_description_beside_the_source() -> None:
    described = {"description": "d", "metadata": {"inputs": ["x"]}}
    functions = read_functions({"a.json": as_json(id="j", **described), "a.py": CODE.encode()})
    assert (functions["j"].code, functions["j"].inputs) == (CODE, ("x",))
    assert functions["j"].document == {"function_id": "j", **described, "code": CODE}


def test_a_source_alone_and_a_description_without_an_id_are_named_by_their_file() -> None:
    functions = read_functions({"a.py": b"\xef\xbb\xbf" + CODE.encode(), "b.json": as_json(code=CODE)})
    assert {key: item.name for key, item in functions.items()} == {"a": "a", "b": "b"}


def test_other_files_are_passed_over() -> None:
    assert read_functions({"README.md": b"x", ".a.py": b"(", "_private.py": b"(", "notes": b""}) == {}
    assert is_function_file("a.b.py")


def test_the_real_function_is_read_whole() -> None:
    real = policy_file("flopynet/model_size_policy.json")
    functions = read_functions({real.name: real.read_bytes()})
    function = functions["model_size_check"]
    assert function.entry == "check_model_size"
    assert function.metadata["tags"] == ["model_size", "client_validation"]
    assert function.document["hash"].startswith("7e8f23")
    assert function_document(function)["id"] == "model_size_check"


@pytest.mark.parametrize(
    ("files", "place", "detail"),
    [
        ({"a.json": b"[1"}, "/a.json", "not valid JSON"),
        ({"a.json": b"[1]"}, "/a.json", "expected a function"),
        ({"a.json": b'{"code": "x", "code": "y"}'}, "/a.json/code", "more than once"),
        ({"a.json": b"{}"}, "/a.json", "field `code` is missing"),
        ({"a.json": as_json(code=" ")}, "/a.json/code", "the source is empty"),
        ({"a.json": as_json(code=5)}, "/a.json/code", "expected a string"),
        ({"a.json": as_json(code=CODE, extra=1)}, "/a.json/extra", "unknown field `extra`"),
        ({"a.json": as_json(code=CODE, id="x y")}, "/a.json/id", "is not an id"),
        ({"x y.py": CODE.encode()}, "/x y.py/function_id", "is not an id"),
        ({"a.json": as_json(code=CODE, id="a", function_id="b")}, "/a.json/id", "differ"),
        ({"a.json": as_json(code=CODE, metadata=[])}, "/a.json/metadata", "expected an object"),
        ({"a.json": as_json(code=CODE, metadata={"entry": "a b"})}, "/a.json/metadata/entry", "expected the name"),
        ({"a.json": as_json(code=CODE, metadata={"entry": "none"})}, "/a.json/code", "there is no function `none`"),
        ({"a.json": as_json(code=CODE, metadata={"inputs": "x"})}, "/a.json/metadata/inputs", "expected an array"),
        ({"a.json": as_json(code=CODE, metadata={"inputs": ["a..b"]})}, "/a.json/metadata/inputs/0", "attribute such"),
        (
            {"a.json": as_json(code=CODE, metadata={"inputs": ["n", "source_ip"]})},
            "/a.json/metadata/inputs/1",
            'no context has an attribute `"source_ip"`',
        ),
        ({"a.json": as_json(code=CODE), "a.py": CODE.encode()}, "/a.json/code", "one is enough"),
        ({"a.json": as_json(code="def f(context): return x")}, "/a.json/code", "line 1 column 24: name `x`"),
        ({"a.json": b"{}", "a.py": b"def f(context): return x"}, "/a.py", "line 1 column 24: name `x`"),
        ({"a.py": b"def f(context): return x"}, "/a.py", "name `x`"),
        ({"a.py": b"\xff"}, "/a.py", "not UTF-8"),
        ({"a.py": CODE.encode(), "b.json": as_json(id="a", code=CODE)}, "/b.json", "is taken already by /a.py"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(files: dict[str, bytes], place: str, detail: str) -> None:
    ((found, text),) = refused(files)
    assert found == place
    assert detail in text


def test_every_fault_of_every_file_is_told() -> None:
    assert [place for place, _ in refused({"a.json": b"{", "b.py": b"def", "c.json": b"{}"})] == [
        "/a.json",
        "/b.py",
        "/c.json",
    ]


def test_a_function_that_is_meant_by_its_id_has_that_id() -> None:
    assert read_function({"code": CODE}, function_id="a").id == "a"
    with pytest.raises(InvalidPolicyError, match="differs from"):
        read_function({"function_id": "b", "code": CODE}, function_id="a")
    with pytest.raises(InvalidPolicyError, match="`function_id` is missing"):
        read_function({"code": CODE})


def test_what_answers_depend_on_is_in_the_digest() -> None:
    plain = read_function({"id": "a", "code": CODE})
    assert plain.digest == read_function({"id": "b", "name": "n", "code": CODE}).digest
    assert plain.digest != read_function({"id": "a", "code": CODE + "#"}).digest
    assert plain.digest != read_function({"id": "a", "code": CODE, "metadata": {"inputs": ["x"]}}).digest
