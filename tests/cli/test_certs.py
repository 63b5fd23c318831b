"""`policy-engine certs dev`: makes files, says how to use them, and replaces nothing unasked."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from policy_engine.cli.main import main


def test_dev(tmp_path: Path) -> None:
    made = tmp_path / "certs"
    command = ["certs", "dev", "--dir", str(made), "--host", "::1", "--client", "fl-server", "--days", "3"]
    first = CliRunner().invoke(main, command)
    assert first.exit_code == 0, first.output
    assert f"--cacert {made}/ca.pem --cert {made}/client.pem" in first.output
    assert "https://[::1]:5000" in first.output
    before = (made / "server.pem").read_bytes()
    again = CliRunner().invoke(main, command)
    assert again.exit_code == 2
    assert "`--force` replaces it" in again.output
    assert (made / "server.pem").read_bytes() == before
    assert CliRunner().invoke(main, [*command, "--force"]).exit_code == 0
    assert (made / "server.pem").read_bytes() != before


def test_what_cannot_be_made(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for place, host in ((file / "certs", "localhost"), (tmp_path / "certs", "ö.example")):
        refused = CliRunner().invoke(main, ["certs", "dev", "--dir", str(place), "--host", host])
        assert (refused.exit_code, "Traceback" in refused.output) == (2, False), refused.output
        assert not place.is_dir()
