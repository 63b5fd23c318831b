"""The command `policy-engine` and what its subcommands share."""

from __future__ import annotations

import sys

import click

from policy_engine import __version__
from policy_engine.cli.check import check, explain
from policy_engine.cli.serve import serve
from policy_engine.cli.validate import validate


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="policy-engine")
def main() -> None:
    """Decide, for a federation, who may do what: load policies, answer checks, and say why.

    \b
    First steps:
      policy-engine serve                       the service on http://127.0.0.1:5000
      policy-engine validate policies.json      is this file all right?
      policy-engine check --type network_security --context '{"protocol": "tcp", "dst_port": 8080}'
      policy-engine explain --type fl_security --context @request.json

    Exit codes: 0 all right (check: allowed), 1 not (check: denied), 2 the command could not be carried out.
    """  # noqa: D301 - \b is click's mark for text that keeps its lines


for command in (serve, validate, check, explain):
    main.add_command(command)

if __name__ == "__main__":
    sys.exit(main())
