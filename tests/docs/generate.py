"""Write the tables of docs/ that repeat what the code knows: `python -m tests.docs.generate` from the root."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from flask import Flask

from policy_engine.http.app import BLUEPRINTS
from policy_engine.http.permissions import PERMISSIONS
from policy_engine.identity.permission import MEANINGS, Permission
from policy_engine.identity.role import ADMIN, ROLES
from policy_engine.language.vocabulary.actions import ACTIONS
from policy_engine.language.vocabulary.types import BUILT_IN
from policy_engine.model.alias import ALIASES
from policy_engine.model.event import EVENT_TYPES
from policy_engine.model.fact import FACTS
from policy_engine.model.policy import Effect

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "CHANGELOG.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(r"(<!-- generated: (?P<name>\S+) -->\n).*?(?=<!-- end -->)", re.DOTALL)

_EFFECTS = {
    Effect.ALLOW: "allows",
    Effect.DENY: "denies",
    Effect.RESTRICTIVE: "restrictive duty: permits with a *required* obligation",
    Effect.DUTY: "duty: permits with an obligation",
    Effect.OBSERVE: "observes: never touches the answer",
}


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *(list(row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _code(words: Iterable[str]) -> str:
    return " ".join(f"`{word}`" for word in words) or "-"


def actions() -> str:
    """Every action word beside its verb and effect."""
    words: dict[str, list[str]] = {}
    for action in ACTIONS.values():
        words.setdefault(action.verb, []).append(action.word)
    rows = [
        (f"`{verb}`", _code(word for word in words[verb] if word != verb), _EFFECTS[ACTIONS[verb].effect])
        for verb in words
    ]
    return _table(("verb", "other words for it", "effect"), rows)


def types() -> str:
    """Every built-in type."""
    rows = [
        (
            f"`{spec.name}`",
            spec.combining.value,
            "allow" if spec.default else "deny",
            _code(spec.required),
            spec.description,
        )
        for spec in BUILT_IN.values()
    ]
    return _table(("type", "combining", "default", "required", "decides"), rows)


def facts() -> str:
    """Every fact of the engine."""
    rows = [
        (f"`{fact.name}`", fact.type, "yes" if fact.reserved else "no", fact.description) for fact in FACTS.values()
    ]
    return _table(("fact", "type", "reserved", "is"), rows)


def aliases() -> str:
    """Every attribute with its other spellings."""
    spellings: dict[str, list[str]] = {}
    for variant, name in ALIASES.items():
        spellings.setdefault(name, []).append(variant)
    return _table(("attribute", "also spelled"), [(f"`{name}`", _code(found)) for name, found in spellings.items()])


def events() -> str:
    """Every type of event."""
    return _table(("event_type", "when"), [(f"`{name}`", meaning) for name, meaning in EVENT_TYPES.items()])


def roles() -> str:
    """Every role with what it allows."""
    rows = [(f"`{role}`", _code(sorted(allowed))) for role, allowed in ROLES.items() if role != ADMIN]
    return _table(("role", "permissions"), [*rows, (f"`{ADMIN}`", "all of them")])


def permissions() -> str:
    """Every permission with what it lets somebody do, and who has it."""
    rows = [
        (f"`{permission}`", meaning, _code(role for role, allowed in ROLES.items() if permission in allowed))
        for permission, meaning in MEANINGS.items()
    ]
    return _table(("permission", "lets somebody", "roles"), rows)


def protected() -> str:
    """Every route with the permission that it needs."""
    found = {permission: _routes(permission) for permission in MEANINGS}
    rows = [(f"`{permission}`", _code(routes)) for permission, routes in found.items() if routes]
    open_to_all = _code(_routes(None))
    return _table(("permission", "routes"), [*rows, ("none, but no credential that is not valid", open_to_all)])


def _routes(permission: Permission | None) -> list[str]:
    """Return the routes that need a permission, as they are written elsewhere."""
    app = Flask("routes", static_folder=None)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    found = [
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
        if rule.endpoint in PERMISSIONS and PERMISSIONS[rule.endpoint] is permission
    ]
    hot = [f"POST {path}" for path, needed in PERMISSIONS.items() if path.startswith("/") and needed is permission]
    return sorted([*found, *hot])


BLOCKS: dict[str, Callable[[], str]] = {
    "actions": actions,
    "types": types,
    "facts": facts,
    "aliases": aliases,
    "events": events,
    "roles": roles,
    "permissions": permissions,
    "routes": protected,
}
"""Name of a block -> its content."""


def rendered(text: str) -> str:
    """Return a page with its generated blocks as the code has them now."""
    return _BLOCK.sub(lambda found: found[1] + BLOCKS[found["name"]](), text)


if __name__ == "__main__":
    for page in PAGES:
        path = ROOT / page
        path.write_text(rendered(path.read_text(encoding="utf-8")), encoding="utf-8")
