"""`policy-engine validate`: is a policy file all right?"""

from __future__ import annotations

from pathlib import Path

import click

from policy_engine.cli.output import DENIED, fail, print_diagnostics, print_json
from policy_engine.language.document import parse_document
from policy_engine.language.report import Report, report_on


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="Count warnings as faults.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def validate(file: Path, *, strict: bool, as_json: bool) -> None:
    """Validate a policy FILE: every fault with its place, and what is dubious.

    Exit code 0 when the file can be loaded, 1 when it cannot, 2 when it cannot be read.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        fail(f"cannot read `{file}`: {error.strerror}")
    report = report_on(lambda: parse_document(content), strict=strict)
    if as_json:
        print_json(report)
    else:
        print_diagnostics("error", report.errors, "red")
        print_diagnostics("warning", report.warnings, "yellow")
        click.echo(f"{file}: {_verdict(report)}")
    raise SystemExit(0 if report.valid else DENIED)


def _verdict(report: Report) -> str:
    if report.errors:
        return f"refused: {len(report.errors)} errors"
    counted = f"{report.policies} policies, {report.rules} rules, {len(report.warnings)} warnings"
    return f"valid: {counted}" if report.valid else f"refused by --strict: {counted}"
