"""`policy-engine certs`: certificates for development."""

from __future__ import annotations

from pathlib import Path

import click

from policy_engine.certificates import make_development_certificates
from policy_engine.cli.output import fail
from policy_engine.cli.stored import plainly

_HOSTS = ("localhost", "127.0.0.1", "::1")
_HOW = """\
an authority, a server and a client in `{at}`, valid for {days} days; the keys are for your eyes only

serve with TLS:
  export POLICY_TLS_CERTIFICATE={at}/server.pem POLICY_TLS_KEY={at}/server-key.pem
  policy-engine serve
  curl --cacert {at}/ca.pem https://{host}:5000/livez

let in clients with a certificate alone:
  export POLICY_TLS_CLIENT_CA={at}/ca.pem
  policy-engine serve
  curl --cacert {at}/ca.pem --cert {at}/client.pem --key {at}/client-key.pem https://{host}:5000/livez

for development alone: whoever has {at}/ca-key.pem can be any server and any client\
"""


@click.group()
def certs() -> None:
    """Make certificates for development."""


@certs.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("certs"),
    help="Where to write.  [default: certs]",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    help="A name or an address of the server; can be repeated.  [default: localhost, 127.0.0.1, ::1]",
)
@click.option("--client", default="client", help="The name of the client.  [default: client]")
@click.option("--days", type=click.IntRange(1, 825), default=90, help="How long they are valid.  [default: 90]")
@click.option("--force", is_flag=True, help="Replace what is there.")
def dev(directory: Path, hosts: tuple[str, ...], client: str, days: int, *, force: bool) -> None:
    """Make an authority, a certificate for a server and one for a client, and say how to use them.

    Exit code 2 when there are such files already, or they cannot be written.
    """
    names = hosts or _HOSTS
    try:
        make_development_certificates(directory, hosts=names, client=client, days=days, replace=force)
    except FileExistsError as error:
        fail(f"{error}; `--force` replaces it")
    except OSError as error:
        fail(plainly(error))
    except ValueError:
        fail("a name is not one that can be in a certificate")
    host = f"[{names[0]}]" if ":" in names[0] else names[0]
    click.echo(_HOW.format(at=directory, days=days, host=host))
