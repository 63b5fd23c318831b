"""`policy-engine check` and `explain`: decide one request without a server."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from policy_engine.cli.output import DENIED, fail, print_diagnostics, print_json
from policy_engine.config import load_settings
from policy_engine.functions.files import is_function_file, read_functions
from policy_engine.functions.monty import MontySandbox
from policy_engine.functions.runtime import FunctionRuntime
from policy_engine.language import json_text
from policy_engine.language.document import parse_document
from policy_engine.model.decision import Decision
from policy_engine.model.errors import InvalidPolicyError, InvalidRequestError, SettingsError
from policy_engine.model.function import StoredFunction
from policy_engine.model.trace import RuleTrace
from policy_engine.pdp import PolicyEngine

_MARKS = {"applied": "+", "error": "!", "not_applied": "-", "skipped": "~", "not_reached": " "}


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the decision as JSON."),
        click.option("--at", help="Decide as if it were another time, such as 2026-01-01T12:00:00Z."),
        click.option("--policy-file", type=click.Path(), help="The policy file.  [default: as for serve]"),
        click.option(
            "--context", required=True, help="The request's attributes: JSON, @FILE, or - for standard input."
        ),
        click.option("--type", "policy_type", required=True, help="The policy type, such as network_security."),
    ):
        command = option(command)
    return command


@click.command()
@_options
def check(policy_type: str, context: str, policy_file: str | None, at: str | None, *, as_json: bool) -> None:
    """Decide one request.

    Exit code 0 when it is allowed, 1 when it is denied, 2 when nothing could be decided.
    """
    decision = _decide(policy_type, context, policy_file, at, explain=False)
    if as_json:
        print_json(decision)
    else:
        _print_decision(decision)
    raise SystemExit(0 if decision.allowed else DENIED)


@click.command()
@_options
def explain(policy_type: str, context: str, policy_file: str | None, at: str | None, *, as_json: bool) -> None:
    """Decide one request and show every rule: whether it applied, and which clause or condition settled that.

    Exit codes as for check.
    """
    decision = _decide(policy_type, context, policy_file, at, explain=True)
    if as_json:
        print_json(decision)
    else:
        for trace in decision.explanation or ():
            _print_trace(trace)
        _print_decision(decision)
    raise SystemExit(0 if decision.allowed else DENIED)


def _decide(policy_type: str, context: str, policy_file: str | None, at: str | None, *, explain: bool) -> Decision:
    runtime = FunctionRuntime(MontySandbox(1), at_once=1)
    try:
        settings = load_settings(os.environ, {"policy_file": policy_file}).settings
        document = parse_document(settings.policy_path.read_bytes())
        policy_set = msgspec.structs.replace(document.policy_set, functions=_functions(settings.policy_functions_dir))
        engine = PolicyEngine(policy_set, functions=runtime.resolve, components=settings.components, zone=settings.zone)
        return engine.check(policy_type, read_context(context), at=at, explain=explain)
    except InvalidPolicyError as error:
        print_diagnostics("error", error.errors, "red")
        fail("the policy file is refused, or the directory of functions")
    except (InvalidRequestError, SettingsError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot read `{error.filename}`: {error.strerror}")
    finally:
        runtime.close()


def _functions(directory: str) -> dict[str, StoredFunction]:
    listed = Path(directory).iterdir() if directory else ()
    return read_functions({file.name: file.read_bytes() for file in listed if is_function_file(file.name)})


def read_context(given: str) -> Any:
    """Return the value of a JSON text, of a file or of standard input; end the command when there is none."""
    if given == "-":
        content = sys.stdin.buffer.read()
    elif given.startswith("@"):
        content = Path(given[1:]).read_bytes()
    else:
        content = os.fsencode(given)
    try:
        return json_text.parse(content)
    except InvalidPolicyError as error:
        source = f" in `{given[1:]}`" if given.startswith("@") else ""
        fail(f"the context{source} is refused: {error}")


def _print_decision(decision: Decision) -> None:
    colour = "green" if decision.allowed else "red"
    click.echo(f"{click.style(decision.decision, fg=colour, bold=True)} ({decision.reason_code}): {decision.reason}")
    if decision.parameters:
        click.echo(f"  parameters: {', '.join(f'{key}={value}' for key, value in decision.parameters.items())}")
    for obligation in decision.obligations:
        need = "required" if obligation.required else "wanted"
        click.echo(f"  obligation: {obligation.verb} ({need}) by {obligation.id}")
    for error in decision.errors:
        place = f"{error.policy_id}#{error.rule_index}" if error.policy_id else "request"
        click.echo(f"  error in {place}: {error.kind} {error.attribute or ''}".rstrip())


def _print_trace(trace: RuleTrace) -> None:
    number = "" if trace.rule_index is None else f"#{trace.rule_index}"
    decisive = "  <- decides" if trace.decisive else ""
    shadow = " [shadow]" if trace.mode == "shadow" else ""
    click.echo(
        f"{_MARKS[trace.status]} {trace.policy_id}{number}{shadow} {trace.action}: {trace.description}{decisive}"
    )
    for clause in trace.clauses:
        if trace.status != "not_reached":
            click.echo(f"      {clause.key}: {clause.expected!r} ~ {clause.actual!r}: {clause.result}")
    if trace.condition is not None and trace.status != "not_reached":
        reads = ", ".join(f"{name}={value!r}" for name, value in trace.condition.reads.items())
        click.echo(f"      {trace.condition.source} [{reads}]: {trace.condition.result}")
