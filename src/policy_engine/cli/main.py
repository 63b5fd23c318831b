"""The command `policy-engine` and what its subcommands share."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from policy_engine import __version__

COMMANDS = {
    "serve": "policy_engine.cli.serve:serve",
    "validate": "policy_engine.cli.validate:validate",
    "functions": "policy_engine.cli.functions:functions",
    "check": "policy_engine.cli.check:check",
    "explain": "policy_engine.cli.check:explain",
    "export": "policy_engine.cli.policies:export_policies",
    "import": "policy_engine.cli.policies:import_policies",
    "keygen": "policy_engine.cli.bundles:keygen",
    "sign": "policy_engine.cli.bundles:sign",
    "verify": "policy_engine.cli.bundles:verify",
    "backup": "policy_engine.cli.backup:backup",
    "restore": "policy_engine.cli.backup:restore",
    "keys": "policy_engine.cli.keys:keys",
    "audit": "policy_engine.cli.audit:audit",
    "erase": "policy_engine.cli.erase:erase",
    "certs": "policy_engine.cli.certs:certs",
    "demo": "policy_engine.cli.demo:demo",
}
"""Every command and where it is; what a command needs is loaded when it is asked for."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the base class hands it over
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the same
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="policy-engine")
def main() -> None:
    """Decide, for a federation, who may do what: load policies, answer checks, and say why.

    \b
    First steps:
      policy-engine serve                       the service on http://127.0.0.1:5000
      policy-engine validate policies.json      is this file all right?
      policy-engine check --type network_security --context '{"protocol": "tcp", "dst_port": 8080}'
      policy-engine explain --type fl_security --context @request.json
      policy-engine demo federation             what trust does to attackers

    Exit codes: 0 all right (check: allowed), 1 not (check: denied), 2 the command could not be carried out.
    """  # noqa: D301 - \b is click's mark for text that keeps its lines


if __name__ == "__main__":
    sys.exit(main())
