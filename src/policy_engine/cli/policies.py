"""`policy-engine export` and `import`: the policies of a store as a policy file, and back."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from policy_engine.activation import Activation, Cause, documents_of
from policy_engine.cli.output import fail, print_diagnostics
from policy_engine.cli.stored import author, find_store, opened, plainly, refuse_own_files, store_options, written
from policy_engine.config import Settings
from policy_engine.language.document import Document, parse_document
from policy_engine.model.errors import InvalidPolicyError, PolicyEngineError
from policy_engine.pap import PolicyAdministration
from policy_engine.pdp import PolicyEngine
from policy_engine.policy_file import NoFile
from policy_engine.store.atomic import write_atomically
from policy_engine.store.opened import Store
from policy_engine.store.options import DEFAULT_TENANT
from policy_engine.store.revisions import RevisionReader
from policy_engine.troubles import Troubles

_STANDARD = "-"


@click.command("export")
@click.argument("file", default=_STANDARD)
@click.option("--revision", type=int, help="The number of an older revision.  [default: the newest]")
@store_options
def export_policies(file: str, revision: int | None, **where: Any) -> None:
    """Write the policies and types of a store to FILE, or to standard output, as a policy file.

    Exit code 2 when that could not be done.
    """
    settings = find_store(where)
    if file != _STANDARD:
        refuse_own_files(settings, Path(file))
    try:
        with opened(settings) as database:
            head, documents = RevisionReader(database, DEFAULT_TENANT).documents(revision)
        content = {"version": head.language_version, "types": documents.types, "policies": documents.policies}
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        if file == _STANDARD:
            click.echo(text, nl=False)
            return
        write_atomically(Path(file), text.encode())
    except (PolicyEngineError, OSError) as error:
        fail(plainly(error))
    click.echo(f"version {head.number}, {len(documents.policies)} policies, written to `{file}`")


@click.command("import")
@click.argument("file")
@click.option("--reason", default="", help="Why; it is kept with the revision.")
@store_options
def import_policies(file: str, reason: str, **where: Any) -> None:
    """Replace the policies and types of a store by those of FILE, or of standard input (-), as one new revision.

    Services that run on the store take them over within a second. A file that changes nothing makes no revision.

    Exit code 1 when the file is refused, 2 when it could not be imported.
    """
    settings = find_store(where)
    try:
        content = sys.stdin.buffer.read() if file == _STANDARD else Path(file).read_bytes()
        document = parse_document(content)
        number, changed = _import(settings, document, Cause(author=author(), reason=reason, source="import"))
    except InvalidPolicyError as error:
        print_diagnostics("error", error.errors, "red")
        click.echo(f"policy-engine: `{file}` is refused", err=True)
        raise SystemExit(1) from None
    except (PolicyEngineError, OSError) as error:
        fail(plainly(error))
    print_diagnostics("warning", document.warnings, "yellow")
    count = len(document.policy_set.policies)
    done = f"{count} policies are in force as version {number}"
    click.echo(done if changed else f"nothing changed: version {number} holds the same {count} policies")


def _import(settings: Settings, document: Document, cause: Cause) -> tuple[int, bool]:
    policy_set = document.policy_set
    with written(settings) as store:
        activation = _activation(store, document, requires_signatures=settings.require_signatures)
        kept = documents_of(activation.policy_set).functions  # a policy file holds none
        wanted = documents_of(policy_set)._replace(functions=kept)
        before = activation.revision.version
        number = PolicyAdministration(activation, NoFile()).replace_all(wanted, cause=cause)
        return number, number != before


def _activation(store: Store, document: Document, *, requires_signatures: bool) -> Activation:
    """Return what brings a revision into the store; there is no service here, so nothing else comes of it."""
    engine = PolicyEngine(document.policy_set, version=0)
    activation = Activation(store.revisions, engine, Troubles(), requires_signatures=requires_signatures)
    if store.revisions.head() is not None:
        activation.load()
    return activation
