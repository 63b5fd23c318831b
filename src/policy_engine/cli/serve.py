"""`policy-engine serve`: run the service."""

from __future__ import annotations

import logging
import os
import socket
from typing import Any

import click

from policy_engine.cli.output import fail, print_diagnostics
from policy_engine.config import LOG_LEVELS, Settings, load_settings
from policy_engine.logs import configure_logging
from policy_engine.model.errors import InvalidPolicyError, SettingsError, StateError
from policy_engine.service import PolicyService


@click.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1; HOST]")
@click.option("--port", type=int, help="Port to listen on.  [default: 5000; POLICY_PORT]")
@click.option("--metrics-port", type=int, help="Port for probes, 0 for none.  [default: 9091; METRICS_PORT]")
@click.option(
    "--policy-file", type=click.Path(), help="The policy file.  [default: config/policies/policies.json; POLICY_FILE]"
)
@click.option("--config", "config_file", type=click.Path(), help="The JSON config file.  [POLICY_CONFIG]")
@click.option("--data-dir", type=click.Path(), help="Where state is kept.  [default: data; POLICY_DATA_DIR]")
@click.option("--threads", type=int, help="Threads that serve requests.  [default: 3; POLICY_THREADS]")
@click.option("--log-level", type=click.Choice(LOG_LEVELS, case_sensitive=False), help="[default: INFO; LOG_LEVEL]")
@click.option(
    "--write-back/--no-write-back", "file_write_back", default=None, help="Write API changes to the policy file."
)
@click.option(
    "--file-wins/--no-file-wins", default=None, help="Let a changed file replace changes made through the API."
)
def serve(config_file: str | None, **flags: Any) -> None:
    """Run the service.

    Every flag is also a setting in the config file and an environment variable (in brackets); flags win over the
    environment, the environment over the file. On anything but a loopback address, changes need POLICY_ADMIN_KEY.

    Exit code 2 when the service cannot start: because of a setting, the policy file, the data directory or a port.
    """
    try:
        loaded = load_settings(os.environ, flags, config_file=config_file)
        settings = loaded.settings
        for port in filter(None, (settings.port, settings.metrics_port)):
            _check_port(settings.host, port)
        configure_logging(settings)
        _try_out(settings)
    except (SettingsError, StateError) as error:
        fail(str(error))
    except InvalidPolicyError as error:
        print_diagnostics("error", error.errors, "red")
        fail(f"the policy file `{settings.policy_path}` is refused")
    except OSError as error:
        fail(str(error))
    for warning in loaded.warnings:
        click.echo(f"policy-engine: {warning}", err=True)
    from policy_engine.http.server import serve as run  # noqa: PLC0415 - other commands need no web server

    run(settings)


def _try_out(settings: Settings) -> None:
    """Do once, silently, what the worker will do: what keeps it from starting is better said here."""
    logging.disable(logging.CRITICAL)
    try:
        PolicyService(settings)
    finally:
        logging.disable(logging.NOTSET)


def _check_port(host: str, port: int) -> None:
    """Find out that an address is taken before a worker does."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from error
