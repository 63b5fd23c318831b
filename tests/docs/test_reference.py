"""Whatever a user can name is documented, and nothing else is."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest
from flask import Flask
from tests.docs import pages
from tests.docs.generate import BLOCKS, PAGES, ROOT, rendered
from tests.docs.pages import calls, constant, first_words, named, page, rows, section, source_trees, words

from policy_engine.bundle.refusal import REFUSALS
from policy_engine.cli.main import main
from policy_engine.config import ENVIRONMENT, Settings
from policy_engine.http.app import create_app
from policy_engine.language.document import _DOCUMENT
from policy_engine.language.policy import _POLICY, _RULE
from policy_engine.language.types import _TYPE, ATTRIBUTE_TYPES
from policy_engine.language.vocabulary.actions import ACTIONS
from policy_engine.language.vocabulary.types import BUILT_IN
from policy_engine.model.decision import Decision, Obligation, Observation, RuleError, Violation
from policy_engine.model.event import EVENT_TYPES
from policy_engine.model.fact import FACTS
from policy_engine.service import PolicyService
from policy_engine.troubles import CODES


@pytest.mark.parametrize("name", PAGES)
def test_generated_tables_are_up_to_date(name: str) -> None:
    assert page(name) == rendered(page(name)), "run: .venv/bin/python -m tests.docs.generate"


def test_every_generated_table_is_on_a_page() -> None:
    placed = re.findall(r"<!-- generated: (\S+) -->", "".join(page(name) for name in PAGES))
    assert sorted(placed) == sorted(BLOCKS)


def test_vocabulary() -> None:
    assert set(ACTIONS) <= set(words(page("docs/actions.md")))
    assert set(BUILT_IN) <= first_words(section("docs/types.md", "Types"))
    assert set(FACTS) == first_words(section("docs/types.md", "Facts"))
    assert set(EVENT_TYPES) == first_words(section("docs/operations.md", "Events"))


def test_fields_of_policy_files() -> None:
    assert first_words(section("docs/policies.md", "The file")) == set(_DOCUMENT)
    assert first_words(section("docs/policies.md", "A policy")) == set(_POLICY)
    assert first_words(section("docs/policies.md", "A rule")) == set(_RULE)
    declaring = section("docs/types.md", "Declaring types")
    assert first_words(declaring) == set(_TYPE)
    assert set(ATTRIBUTE_TYPES) <= set(words(declaring))


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    service = PolicyService(Settings(data_dir=str(tmp_path)))
    yield create_app(service)
    service.stop()


def test_routes(app: Flask) -> None:
    served = {
        (method, str(rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    listed = [
        (row[0], words(row[1])[0])
        for row in rows(page("docs/http.md"))
        if row[0] in {"GET", "POST", "PUT", "PATCH", "DELETE"}
    ]
    assert len(listed) == len(set(listed))
    assert set(listed) == served
    described = page("docs/http.md").partition("## In general")[2]
    missing = {path for _, path in served - {("GET", "/")} if f"{path}`" not in described}
    assert not missing, "routes are listed, but not described"


def test_paths_named_anywhere_exist(app: Flask) -> None:
    adapter = app.url_map.bind("localhost")
    for name in PAGES:
        for method, path in re.findall(r"`(GET|POST|PUT|DELETE) (/[^`?]*)", page(name)):
            filled = re.sub(r"<\w+>", "x", re.sub(r"<int:\w+>", "1", path))
            assert adapter.match(filled, method=method), f"{name}: {method} {path}"
        for path in re.findall(r"http://127\.0\.0\.1:5000(/[^\s\"'`?]*)", page(name)):
            assert adapter.allowed_methods(path), f"{name}: {path}"


def test_settings() -> None:
    table = {words(row[0])[0]: row for row in rows(page("docs/settings.md")) if len(row) == 5}
    flags = {
        parameter.name: parameter.opts[0]
        for parameter in _commands()["serve"].params
        if isinstance(parameter, click.Option) and parameter.name not in {"config_file", "help"}
    }
    variables = {name: variable for variable, name in ENVIRONMENT.items()} | {"components": "NODE_IP_*"}
    assert set(table) == set(Settings.__struct_fields__)
    for field in msgspec.structs.fields(Settings):
        _, default, environment, flag, meaning = table[field.name]
        fallback = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
        assert default == _shown_default(fallback), field.name
        assert words(environment) == ([variables[field.name]] if field.name in variables else []), field.name
        assert words(flag) == ([flags[field.name]] if field.name in flags else []), field.name
        assert meaning, field.name
    assert "POLICY_CONFIG" in page("docs/settings.md")


def _shown_default(value: object) -> str:
    if value == "":
        return "empty"
    return f"`{json.dumps(value)}`" if isinstance(value, bool | tuple) else f"`{value}`"


def _commands(group: click.Group = main, before: str = "") -> dict[str, click.Command]:
    """Return every command by its name; those of a group by two words, and the group itself."""
    found: dict[str, click.Command] = {}
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found[f"{before}{name}"] = command
        if isinstance(command, click.Group):
            found |= _commands(command, f"{before}{name} ")
    return found


def test_commands_and_options() -> None:
    text = page("docs/cli.md")
    shared = {word.partition(" ")[0] for word in first_words(section("docs/cli.md", "Where the store is"))}
    commands = _commands()
    headings = {
        *re.findall(r"^## ([a-z-]+)$", text, re.MULTILINE),
        *re.findall(r"^### ([a-z -]+)$", text, re.MULTILINE),
    }
    assert headings == set(commands)
    for name, command in commands.items():
        if isinstance(command, click.Group):
            continue
        listed = {word.partition(" ")[0] for word in first_words(section("docs/cli.md", name))}
        offered = {
            option
            for parameter in command.params
            if isinstance(parameter, click.Option)
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        assert listed == offered - (shared if shared <= offered else set()), name


def test_decisions() -> None:
    table = section("docs/embedding.md", "The decision")
    assert set(Decision.__struct_fields__) <= first_words(table)
    for part in (Obligation, Observation, RuleError, Violation):
        listed = {word for row in rows(table) if words(row[0])[0] == _HOLDER[part] for word in words(row[1])}
        assert set(part.__struct_fields__) <= listed, part


_HOLDER: dict[type, str] = {
    Obligation: "obligations",
    Observation: "observations",
    RuleError: "errors",
    Violation: "violations",
}


def _reason_codes() -> set[str]:
    found = {"default_allow", "default_deny", "function_error", "function_busy"}  # made of parts, or an error's kind
    for tree in source_trees("engine"):
        for call in calls(tree, "Outcome"):
            found |= {code for item in call.keywords if item.arg == "reason_code" and (code := constant(item.value))}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name == "code":
                found |= {code for part in ast.walk(node) if (code := constant(part)) and code.isidentifier()}
    return found


def _kinds() -> set[str]:
    found = {"wrong_type"}
    for tree in source_trees("engine", "language/condition"):
        for call in calls(tree, "EvaluationError", "Fault"):
            found |= {kind for part in call.args[:1] if (kind := constant(part))}
    return found


def test_reason_codes() -> None:
    codes = _reason_codes()
    assert {"rule_allow", "type_undeclared", "missing_attribute", "duty_permit"} <= codes
    assert codes == first_words(section("docs/embedding.md", "Reason codes"))
    assert codes <= set(words(section("docs/decisions.md", "Combining")))


def test_kinds_of_errors() -> None:
    kinds = _kinds()
    assert {"missing", "malformed", "limit"} <= kinds
    assert kinds == first_words(section("docs/embedding.md", "Kinds of errors"))
    assert kinds <= set(words(page("docs/decisions.md")))


def test_readiness_codes() -> None:
    used = set()
    adding = ("activation.py", "file_import.py", "bundle_import.py", "emergency.py", "service.py")
    for place, name in (*((place, "add") for place in adding), ("store", "_told"), ("function_files.py", "_refuse")):
        for tree in source_trees(place):
            used |= {named(call.args[0], tree) for call in calls(tree, name)}
    used -= {None}
    assert used == CODES.keys() == first_words(section("docs/operations.md", "Readiness"))


def test_refusals_of_bundles() -> None:
    used = set()
    for place in ("bundle", "bundle_source.py", "bundle_import.py", "cli"):
        for tree in source_trees(place):
            used |= {named(call.args[0], tree) for call in calls(tree, "BundleError")}
    assert used == REFUSALS.keys() == first_words(section("docs/bundles.md", "What is refused"))


def _imports(place: str) -> set[str]:
    found = set()
    for tree in source_trees(place):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("policy_engine."):
                found.add((node.module or "").split(".")[1])
    return found - {place.removesuffix(".py")}


def test_layout() -> None:
    table = {words(row[0])[0].rstrip("/"): row for row in rows(section("README.md", "Architecture")) if len(row) == 3}
    there = {path.name for path in pages.SOURCE.iterdir()} - {"__init__.py", "__pycache__", "py.typed"}
    assert set(table) == there
    for place, row in table.items():
        assert _imports(place) <= set(words(row[2])), f"{place} imports more than the README lets it"


def test_make_targets() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {target for name in PAGES for target in re.findall(r"(?:^|`)make ([a-z-]+)", page(name), re.MULTILINE)}
    assert {"run", "test", "lint", "bench"} <= named <= targets
