"""`policy-engine functions`: find the faults of policy functions, and try one out, without a service."""

from __future__ import annotations

from pathlib import Path

import click

from policy_engine.cli.check import read_context
from policy_engine.cli.output import DENIED, fail, print_diagnostics, print_json
from policy_engine.functions.files import is_function_file, read_functions
from policy_engine.functions.monty import MontySandbox
from policy_engine.functions.runtime import FunctionRuntime
from policy_engine.model.errors import InvalidPolicyError, InvalidRequestError
from policy_engine.model.function import StoredFunction
from policy_engine.pdp import PolicyEngine


@click.group()
def functions() -> None:
    """Validate policy functions, and try them out in the sandbox."""


@functions.command("validate")
@click.argument("path", type=click.Path(path_type=Path))
def validate(path: Path) -> None:
    """Validate the function of a file, or all of a directory; nothing is run.

    Exit code 0 when all can be loaded, 1 when not, 2 when they cannot be read.
    """
    found = _read(path)
    click.echo(f"{path}: valid: {', '.join(found) or 'no functions'}")


@functions.command("test")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--context", required=True, help="The request's attributes: JSON, @FILE, or - for standard input.")
def run(path: Path, context: str) -> None:
    """Run the function of a file in the sandbox, with a context, and print what it answers.

    Exit code 0 when it allows, 1 when it denies or fails, 2 when it cannot be run.
    """
    found = list(_read(path).values())
    if len(found) != 1:
        fail(f"`{path}` holds {len(found)} functions: name the file of one")
    (function,) = found
    runtime = FunctionRuntime(MontySandbox(1), at_once=1)
    try:
        seen = PolicyEngine.normalised(read_context(context))
        measured = runtime.test(function.code, function.entry, seen, inputs=function.inputs)
    except InvalidRequestError as error:
        fail(str(error))
    finally:
        runtime.close()
    click.echo(measured.output, nl=False, err=True)
    if measured.error is not None:
        line = f" at line {measured.error.line}" if measured.error.line else ""
        click.echo(f"policy-engine: {measured.error.message or measured.error}{line}", err=True)
        raise SystemExit(DENIED)
    print_json(measured.value)
    raise SystemExit(0 if measured.value["allowed"] else DENIED)


def _read(path: Path) -> dict[str, StoredFunction]:
    """Return the functions of a directory, or that of a file and the one beside it that belongs to it."""
    try:
        listed = path.iterdir() if path.is_dir() else path.parent.glob(f"{path.stem}.*")
        files = {file.name: file.read_bytes() for file in listed if is_function_file(file.name)}
        if not path.is_dir() and path.name not in files:
            path.read_bytes()
            fail(f"`{path}` is no file of a function, which ends in `.json` or `.py`")
    except OSError as error:
        fail(f"cannot read `{path}`: {error.strerror}")
    try:
        return read_functions(files)
    except InvalidPolicyError as error:
        print_diagnostics("error", error.errors, "red")
        click.echo(f"{path}: refused: {len(error.errors)} errors")
        raise SystemExit(DENIED) from None
