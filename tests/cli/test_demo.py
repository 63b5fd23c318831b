"""`policy-engine demo federation`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from policy_engine.cli.display import shown
from policy_engine.cli.main import main
from policy_engine.simulation.duel import Duel
from policy_engine.simulation.federation import Scenario

SMALL = ("--clients", "8", "--rounds", "7", "--attackers", "0.25")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["demo", "federation", *arguments])


def test_it_shows_both_and_draws_them(tmp_path: Path) -> None:
    picture = tmp_path / "out.png"
    result = run(*SMALL, "--output", str(picture))
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    lines = result.stdout.splitlines()
    assert lines[0] == "sign_flip, 2 of 8 clients: sends its update negated"
    assert [line.split()[1] for line in lines if line.startswith("round")] == ["1", "5", "7"]
    assert any(line.startswith("accuracy after 7 rounds: ") for line in lines)
    assert "excluded at the end: 2 of 2 attackers, 0 of 6 honest clients" in lines
    assert "honest!" not in result.stdout
    assert lines[-1] == f"picture: {picture}"


def test_the_same_seed_prints_the_same(tmp_path: Path) -> None:
    options = (*SMALL, "--reference", "root", "--attack", "backdoor", "--output", str(tmp_path / "out.png"))
    first, second = run(*options), run(*options)
    assert first.stdout == second.stdout
    assert "backdoor works: " in first.stdout


def test_rounds_that_are_held_are_told(tmp_path: Path) -> None:
    result = run("--clients", "8", "--rounds", "14", "--attackers", "0.75", "--output", str(tmp_path / "out.png"))
    assert result.exit_code == 0
    assert "held: " in result.stdout
    assert "try --reference root" in result.stdout


@pytest.mark.parametrize("library", ["numpy", "sklearn", "matplotlib", "rich"])
def test_a_missing_extra_is_named(library: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    result = run("--output", str(tmp_path / "out.png"))
    assert result.exit_code == 2
    assert f"`{library}` is not installed" in result.stderr
    assert 'pip install "flopynet-policy-engine[demo]"' in result.stderr


def test_a_picture_that_cannot_be_written_is_told_before_anything_is_played(tmp_path: Path) -> None:
    result = run("--output", str(tmp_path / "nowhere" / "out.png"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "nowhere" in result.stderr


def test_help_teaches_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("numpy", "sklearn", "matplotlib", "rich"):
        monkeypatch.setitem(sys.modules, library, None)
    shown = run("--help").stdout
    assert "adaptive_blend" in shown
    assert "--reference" in shown


@pytest.mark.parametrize("options", [("--attack", "none"), ("--attackers", "1"), ("--clients", "2"), ("--rounds", "0")])
def test_wrong_options_are_refused(options: tuple[str, str]) -> None:
    assert run(*options).exit_code == 2


def test_a_terminal_gets_a_live_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    duel = Duel(Scenario(defence="engine_median", attack="sign_flip", clients=8, rounds=4, attackers=0.25))
    with shown(duel) as show:
        for pair in duel.run():
            show(pair)
    printed = capsys.readouterr().out
    assert "accuracy without" in printed
    assert "4/4" in printed
    assert "2 attackers" in printed
