"""`policy-engine keygen`, `sign` and `verify`: signed bundles of policies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import click

from policy_engine.bundle import build as making
from policy_engine.bundle.archive import Bundle, pack, unpack
from policy_engine.bundle.contents import Contents, read_signed
from policy_engine.bundle.manifest import POLICIES, Manifest
from policy_engine.bundle.refusal import BundleError
from policy_engine.bundle.strict import dump
from policy_engine.bundle.verify import Last, Trust, Verified
from policy_engine.bundle.verify import verify as check
from policy_engine.bundle_source import MANIFEST_FILE, pack_directory, read_bundle, read_directory
from policy_engine.cli.output import DENIED, fail, print_diagnostics, print_json
from policy_engine.cli.stored import plainly
from policy_engine.language import json_text
from policy_engine.model.errors import InvalidPolicyError, StateError
from policy_engine.signing import PublicKey, new_key, read_private_key, read_public_key, write_new
from policy_engine.store.atomic import write_atomically

DEFAULT_NAME = "policies"
_LINE = "%Y-%m-%d %H:%M:%S UTC"


@click.command()
@click.argument("name")
def keygen(name: str) -> None:
    """Make a key pair to sign bundles with: NAME.pem, which is secret, and NAME.pub.pem.

    \b
      policy-engine keygen ann            ann.pem stays with ann, ann.pub.pem goes to the engines
      policy-engine sign policies.json --version 1 --key ann.pem --output policies.bundle

    An engine believes those whose public keys are named in its setting `bundle_keys`. Files that are there already are
    left alone. Exit code 2 when the pair could not be written.
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    private, public = Path(f"{name}.pem"), Path(f"{name}.pub.pem")
    key = new_key()
    try:
        if public.exists():
            fail(f"`{public}` is there already")
        write_new(private, key.pem(), 0o600)
        write_new(public, key.public.pem(), 0o644)
    except OSError as error:
        fail(plainly(error))
    click.echo(f"key {key.public.key_id}: `{private}` signs, keep it secret; `{public}` verifies, give it to engines")


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--key", "key_file", type=click.Path(path_type=Path), required=True, help="The private key to sign with.")
@click.option("--version", type=int, help="Make a new manifest of this version: above that of the bundle before.")
@click.option("--name", help=f"The name in a new manifest; engines expect one.  [default: {DEFAULT_NAME}]")
@click.option(
    "--expires-in", "days", type=float, help="Days until a new manifest is not accepted any more.  [default: 90]"
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Where the bundle is written.  [default: SOURCE itself; a directory gets a file with the signatures]",
)
def sign(source: Path, key_file: Path, output: Path | None, **manifest: Any) -> None:
    """Sign SOURCE: a policy file, a directory with policies.json and functions, or a bundle.

    With --version a new manifest is made, and its first signature. Without, SOURCE has a manifest already, and gets one
    more signature: so several people sign the same bundle, one after another.

    \b
      policy-engine sign policies.json --version 7 --key ann.pem --output policies.bundle
      policy-engine sign policies.bundle --key ben.pem
      policy-engine verify policies.bundle --key ann.pub.pem --key ben.pub.pem --threshold 2

    What is signed is checked first: the policies have to be usable, and a bundle has to be whole. Exit code 1 when it
    is refused, 2 when the command could not be carried out.
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    if manifest["version"] is None and (manifest["name"] is not None or manifest["days"] is not None):
        fail("--name and --expires-in belong to a new manifest: say its --version")
    try:
        key = read_private_key(key_file)
        found = _read(source)
        if output is None and found.is_policy_file:
            fail(f"`{source}` is a policy file: say where the bundle goes with --output")
        made = found.bundle if manifest["version"] is None else _with_manifest(found.bundle, manifest)
        signed = making.sign(made, key)
        _write(signed, source, output)
    except BundleError as error:
        raise SystemExit(_refused(source, error)) from None
    except (StateError, OSError) as error:
        fail(plainly(error))
    said = making.inspect(signed)
    signatures = signed.envelope.signatures if signed.envelope else ()
    click.echo(f"signed by {key.public.key_id}, in all by {', '.join(each.key_id or '?' for each in signatures)}")
    click.echo(_summary(said))


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--key",
    "key_files",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A public key that is trusted; repeat it.",
)
@click.option(
    "--threshold", type=click.IntRange(1), default=1, show_default=True, help="How many of them have to sign."
)
@click.option("--name", help="The name that the bundle has to have.  [default: any]")
@click.option("--newer-than", type=int, help="The version that was accepted last: an older or equal one is refused.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(source: Path, key_files: tuple[Path, ...], *, as_json: bool, **asked: Any) -> None:
    """Verify SOURCE, a bundle: is it whole, who signed it, is it still good, can its policies be used?

    \b
      policy-engine verify policies.bundle --key ann.pub.pem
      policy-engine verify policies.bundle --key ann.pub.pem --key ben.pub.pem --threshold 2 --newer-than 6

    It is refused for the reasons for which a service with these keys would refuse it. Exit code 0 when it is believed,
    1 when it is refused, 2 when the command could not be carried out.
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    try:
        keys = {read_public_key(path): path for path in key_files}
        trust = Trust(keys=tuple(keys), threshold=asked["threshold"], name=asked["name"])
        last = None if asked["newer_than"] is None else Last(asked["newer_than"], "")
        found = check(unpack(read_bundle(source)), trust, now=datetime.now(UTC), last=last)
        contents = read_signed(found.manifest, found.files)
    except BundleError as error:
        if as_json:
            print_json({"accepted": False, "code": error.code, "detail": error.detail, "errors": error.errors})
            raise SystemExit(DENIED) from None
        raise SystemExit(_refused(source, error)) from None
    except (StateError, OSError) as error:
        fail(plainly(error))
    if as_json:
        print_json(
            {
                "accepted": True,
                "digest": found.digest,
                "signers": found.signers,
                "manifest": found.manifest,
                "functions": sorted(contents.functions),
            }
        )
    else:
        _show(found, contents, keys)


class _Found(NamedTuple):
    """What is to be signed."""

    bundle: Bundle
    is_policy_file: bool = False


def _read(source: Path) -> _Found:
    if source.is_dir():
        files = read_directory(source)
        envelope = files.pop(MANIFEST_FILE, None)
        bundle = Bundle(files=files)
        return _Found(bundle if envelope is None else unpack(pack_directory(source)))
    content = read_bundle(source)
    try:
        value = json_text.parse(content)
    except InvalidPolicyError as error:
        raise BundleError("malformed", str(error)) from None
    if isinstance(value, dict) and "policies" in value:
        return _Found(Bundle(files={POLICIES: content}), is_policy_file=True)
    return _Found(unpack(content))


def _with_manifest(bundle: Bundle, asked: dict[str, Any]) -> Bundle:
    now = datetime.now(UTC)
    days = 90.0 if asked["days"] is None else asked["days"]
    try:
        expires = now + timedelta(days=days)
    except (OverflowError, ValueError):
        fail(f"a bundle cannot expire in {days} days")
    name = DEFAULT_NAME if asked["name"] is None else asked["name"]
    return making.build(bundle.files, name=name, version=asked["version"], created=now, expires=expires)


def _write(bundle: Bundle, source: Path, output: Path | None) -> None:
    if output is None and source.is_dir():
        if bundle.envelope is not None:
            write_atomically(source / MANIFEST_FILE, dump(bundle.envelope.document()))
        return
    write_atomically(output or source, pack(bundle))


def _refused(source: Path, error: BundleError) -> int:
    print_diagnostics("error", error.errors, "red")
    click.echo(f"policy-engine: `{source}` is refused ({error.code}): {error.detail}", err=True)
    return DENIED


def _summary(manifest: Manifest) -> str:
    return (
        f"{manifest.name} version {manifest.version}, good until {manifest.expires:{_LINE}}, policies {manifest.digest}"
    )


def _show(found: Verified, contents: Contents, keys: dict[PublicKey, Path]) -> None:
    click.echo(f"accepted: {_summary(found.manifest)}")
    click.echo(f"bundle {found.digest}, made {found.manifest.created:{_LINE}}")
    for key, path in keys.items():
        click.echo(f"{'signed by' if key.key_id in found.signers else 'not signed by'} {key.key_id} (`{path}`)")
    for name, hashed in sorted(found.manifest.files.items()):
        click.echo(f"holds `{name}` sha256 {hashed}")
    policies = contents.document.policy_set.policies
    click.echo(f"{len(policies)} policies: {', '.join(sorted(policies))}")
    if contents.functions:
        click.echo(f"{len(contents.functions)} functions: {', '.join(sorted(contents.functions))}")
    print_diagnostics("warning", contents.document.warnings, "yellow")
