"""What the settings of TLS may be; whatever cannot work is said before anything listens."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from policy_engine.certificates import make_development_certificates
from policy_engine.config import Settings, load_settings
from policy_engine.model.errors import SettingsError
from policy_engine.tls import read_tls


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made")
    make_development_certificates(directory, hosts=("localhost",), client="client", days=30)
    (directory / "text.pem").write_text("no certificate")
    key = load_pem_private_key((directory / "server-key.pem").read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (directory / "locked.pem").write_bytes(locked)
    return directory


def settings(made: Path, **names: str) -> Settings:
    values = {
        f"tls_{name}": value if name in {"client_verify", "min_version"} else str(made / value)
        for name, value in names.items()
    }
    return Settings(**values)  # type: ignore[arg-type]


GOOD = {"certificate": "server.pem", "key": "server-key.pem"}


def test_nothing_set_is_plain_http() -> None:
    assert read_tls(Settings()) is None


@pytest.mark.parametrize(
    ("more", "verify"),
    [
        ({}, "off"),
        ({"client_verify": "off"}, "off"),
        ({"client_ca": "ca.pem"}, "required"),
        ({"client_ca": "ca.pem", "client_verify": "required"}, "required"),
        ({"client_ca": "ca.pem", "client_verify": "optional"}, "optional"),
    ],
)
def test_what_is_asked_of_clients(made: Path, more: dict[str, str], verify: str) -> None:
    tls = read_tls(settings(made, **GOOD, **more))
    assert tls is not None
    assert tls.verify == verify
    assert (tls.client_ca is None) is (verify == "off")
    assert tls.context().verify_mode.name == {
        "off": "CERT_NONE", "optional": "CERT_OPTIONAL", "required": "CERT_REQUIRED"
    }[verify]  # fmt: skip


REFUSED = [
    ({"certificate": "server.pem"}, "tls_certificate", "without `tls_key`"),
    ({"key": "server-key.pem"}, "tls_key", "without `tls_certificate`"),
    ({"client_ca": "ca.pem"}, "tls_client_ca", "without `tls_certificate`"),
    ({"client_verify": "required"}, "tls_client_verify", "without `tls_certificate`"),
    ({**GOOD, "client_verify": "required"}, "tls_client_verify", "needs `tls_client_ca`"),
    ({**GOOD, "client_verify": "optional"}, "tls_client_verify", "needs `tls_client_ca`"),
    ({**GOOD, "client_ca": "ca.pem", "client_verify": "off"}, "tls_client_ca", "would not be used"),
    ({**GOOD, "client_ca": "text.pem"}, "tls_client_ca", "holds no certificate"),
    ({**GOOD, "client_ca": "missing.pem"}, "tls_client_ca", "No such file"),
    ({**GOOD, "certificate": "missing.pem"}, "tls_certificate", "No such file"),
    ({**GOOD, "certificate": "text.pem"}, "tls_certificate", "holds no certificate"),
    ({**GOOD, "key": "missing.pem"}, "tls_key", "No such file"),
    ({**GOOD, "key": "text.pem"}, "tls_key", "no private key"),
    ({**GOOD, "key": "client-key.pem"}, "tls_key", "is not the key of the certificate"),
    ({**GOOD, "key": "locked.pem"}, "tls_key", "encrypted"),
]


@pytest.mark.parametrize(("names", "setting", "detail"), REFUSED)
def test_what_is_refused(made: Path, names: dict[str, str], setting: str, detail: str) -> None:
    with pytest.raises(SettingsError, match=detail) as refused:
        read_tls(settings(made, **names))
    assert refused.value.setting == setting


def test_dates(made: Path) -> None:
    now = datetime.now(UTC)
    tls = read_tls(settings(made, **GOOD), now)
    assert tls is not None
    assert not tls.expires_soon(now)
    assert tls.expires_soon(now + timedelta(days=20))
    for moment, detail in ((now + timedelta(days=31), "expired at"), (now - timedelta(days=1), "is valid from")):
        with pytest.raises(SettingsError, match=detail):
            read_tls(settings(made, **GOOD), moment)


@pytest.mark.parametrize(
    ("variable", "value"), [("POLICY_TLS_MIN_VERSION", "1.1"), ("POLICY_TLS_CLIENT_VERIFY", "maybe")]
)
def test_words_that_are_none(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match="is none of"):
        load_settings({variable: value})


def test_development_certificates(tmp_path: Path) -> None:
    directory = tmp_path / "certs"
    make_development_certificates(directory, hosts=("engine", "10.0.0.1", "::1"), client="fl-server", days=1)
    assert sorted(path.name for path in directory.iterdir()) == sorted(
        ["ca.pem", "ca-key.pem", "server.pem", "server-key.pem", "client.pem", "client-key.pem"]
    )
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
    for name, purpose in (("server", "sslserver"), ("client", "sslclient")):
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", "ca.pem", f"{name}.pem"]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    (directory / "server.pem").unlink()
    with pytest.raises(FileExistsError, match=r"ca\.pem"):
        make_development_certificates(directory, hosts=("engine",), client="client", days=1)
    assert not (directory / "server.pem").exists()
    make_development_certificates(directory, hosts=("engine",), client="client", days=1, replace=True)
    assert all((directory / name).read_bytes() != content for name, content in before.items())


def test_a_secret_file_names_the_database(tmp_path: Path) -> None:
    secret = tmp_path / "database"
    secret.write_text("postgresql://engine:secret@db/policies\n")
    named = {"POLICY_DATABASE_FILE": str(secret)}
    assert load_settings(named).settings.database_url == "postgresql://engine:secret@db/policies"
    flag = load_settings(named, {"database": "sqlite:///other.db"})
    assert (flag.settings.database_url, flag.warnings) == ("sqlite:///other.db", ())
    with pytest.raises(SettingsError, match="which one is meant") as refused:
        load_settings({**named, "POLICY_DATABASE": "postgresql://engine:other@db/policies"})
    assert "other" not in str(refused.value)
    for content in (None, ""):
        secret.unlink() if content is None else secret.write_text(content)
        with pytest.raises(SettingsError, match="`database_file`"):
            load_settings(named)


def test_a_password_among_the_arguments_is_warned_of() -> None:
    (warning,) = load_settings({}, {"database": "postgresql://engine:secret@db/policies"}).warnings
    assert "POLICY_DATABASE_FILE" in warning
    assert "secret" not in warning
    for url in ("postgresql://engine@db/policies", "sqlite:///x.db", "http://[", "x"):
        assert load_settings({}, {"database": url}).warnings == ()
    assert load_settings({"POLICY_DATABASE": "postgresql://engine:secret@db/policies"}).warnings == ()
