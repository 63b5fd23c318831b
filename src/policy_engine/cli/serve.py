"""`policy-engine serve`: run the service."""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import Any

import click

from policy_engine.cli.output import FAILED, fail, print_diagnostics
from policy_engine.config import LOG_LEVELS, Settings, load_settings
from policy_engine.logs import configure_logging
from policy_engine.model.errors import BusyError, InvalidPolicyError, SettingsError, StateError
from policy_engine.tls import read_tls


@click.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1; HOST]")
@click.option("--port", type=int, help="Port to listen on.  [default: 5000; POLICY_PORT]")
@click.option("--metrics-port", type=int, help="Port for probes, 0 for none.  [default: 9091; METRICS_PORT]")
@click.option(
    "--stream-port", type=int, help="Port for event streams, 0 for none.  [default: 5001; POLICY_STREAM_PORT]"
)
@click.option("--workers", type=int, help="Processes that serve.  [default: 1; POLICY_WORKERS]")
@click.option(
    "--policy-file", type=click.Path(), help="The policy file.  [default: config/policies/policies.json; POLICY_FILE]"
)
@click.option("--config", "config_file", type=click.Path(), help="The JSON config file.  [POLICY_CONFIG]")
@click.option("--data-dir", type=click.Path(), help="Where state is kept.  [default: data; POLICY_DATA_DIR]")
@click.option(
    "--database",
    help="The database as a URL, SQLite or PostgreSQL.  [default: a file in the data directory; POLICY_DATABASE]",
)
@click.option("--threads", type=int, help="Threads that serve requests.  [default: 2; POLICY_THREADS]")
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
    environment, the environment over the file. Changes need a key: the first start makes one that may do everything and
    prints it, once, unless POLICY_ADMIN_KEY or POLICY_ADMIN_KEY_FILE sets one.

    Exit code 2 when the service cannot start: because of a setting, the policy file, the data directory or a port.
    """
    try:
        loaded = load_settings(os.environ, flags, config_file=config_file)
        settings = loaded.settings
        for port in filter(None, (settings.port, settings.metrics_port, settings.stream_port)):
            _check_port(settings.host, port)
        configure_logging(settings)
        read_tls(settings)
    except (SettingsError, OSError) as error:
        fail(str(error))
    _rehearse(settings)
    for warning in loaded.warnings:
        click.echo(f"policy-engine: {warning}", err=True)
    from policy_engine.http.server import serve as run  # noqa: PLC0415 - other commands need no web server

    run(settings)


def _rehearse(settings: Settings) -> None:
    """Do once, silently, what the workers will do: what keeps them from starting is better said here.

    It is done in a process of its own, which takes the memory for it along when it ends.
    """
    child = os.fork()
    if child == 0:
        try:
            _try_out(settings)
        except SystemExit as end:
            sys.stderr.flush()
            os._exit(end.code if isinstance(end.code, int) else FAILED)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise SystemExit(code if code > 0 else FAILED)


def _try_out(settings: Settings) -> None:
    from policy_engine.bundle.refusal import BundleError  # noqa: PLC0415 - this process alone needs it
    from policy_engine.keyring import make_first_key  # noqa: PLC0415
    from policy_engine.service import load_policies  # noqa: PLC0415
    from policy_engine.store.api_keys import ApiKeys  # noqa: PLC0415
    from policy_engine.store.opened import Store  # noqa: PLC0415

    logging.disable(logging.CRITICAL)
    first: str | None = None
    try:
        store = Store(settings.store_options)
        try:
            load_policies(settings, store)
            keys = ApiKeys(store.database, store.options.tenant, store.writer)
            if not settings.admin_key and not keys.place().keys:
                store.start()
                first = make_first_key(keys)
        finally:
            store.stop()
        if first is not None:
            _print_key(settings, first)
    except BundleError as error:
        print_diagnostics("error", error.errors, "red")
        sys.stdout.flush()
        fail(str(error))
    except InvalidPolicyError as error:
        print_diagnostics("error", error.errors, "red")
        sys.stdout.flush()
        fail(f"the policy file `{settings.policy_path}` is refused")
    except (StateError, BusyError, OSError) as error:
        fail(str(error))


_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - where a service that listens everywhere is reached


def _print_key(settings: Settings, key: str) -> None:
    """Tell whoever starts the service its first key: here and never again."""
    click.echo("\nThis is the first start. With this key everything may be changed; it is shown this once:\n")
    click.echo(f"    export POLICY_KEY={key}\n")
    scheme = "https" if settings.tls_certificate else "http"
    host = _LOOPBACK.get(settings.host, f"[{settings.host}]" if ":" in settings.host else settings.host)
    click.echo(f'    curl -H "Authorization: Bearer $POLICY_KEY" {scheme}://{host}:{settings.port}/api/v1/whoami\n')
    sys.stdout.flush()


def _check_port(host: str, port: int) -> None:
    """Find out that an address is taken before a worker does."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from error
