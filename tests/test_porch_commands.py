"""The command line as an operator meets it: real processes, words and exit codes."""

from __future__ import annotations

import argparse
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def pool(*args: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("POOL_")}
    return subprocess.run(
        [sys.executable, "-m", "pool", *args],
        cwd=cwd,
        env=clean | {"PYTHONPATH": str(ROOT)} | (env or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_version_says_what_runs(tmp_path: Path) -> None:
    done = pool("version", cwd=tmp_path)
    assert done.returncode == 0
    assert "MicroMiningSocialPool" in done.stdout
    assert "SHA-256 by" in done.stdout


def test_wrong_use_is_exit_code_2(tmp_path: Path) -> None:
    assert pool("frobnicate", cwd=tmp_path).returncode == 2
    assert pool(cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("command", [("ledger", "verify"), ("ledger", "export")])
def test_looking_into_a_ledger_that_was_never_begun_is_answered_in_words(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    done = pool(*command, cwd=tmp_path)
    assert done.returncode == 1
    assert "never started" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.sqlite")), "looking makes nothing"


def test_config_check_says_the_fee_in_both_languages(tmp_path: Path) -> None:
    done = pool("config", "check", cwd=tmp_path, env={"POOL__FEES__FEE_BP": "100"})
    assert done.returncode == 0
    assert "Comisión efectiva 2 %: recibes el 98 % de cada bloque." in done.stderr
    assert "Effective fee 2 %: you keep 98 % of each block." in done.stderr


@pytest.mark.parametrize(
    "command",
    [("config", "check"), ("db", "upgrade"), ("keys", "show"), ("serve",), ("run",)],
    ids=" ".join,
)
def test_a_wrong_configuration_stops_any_command_with_every_mistake_and_exit_code_2(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "pool.toml").write_text(
        '[stratum]\nprt = 1\n[fees]\nfee_bp = 5000\n[coinbase]\npayout_address = "bc1qq"\n'
    )
    done = pool(*command, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("The configuration has 3 mistakes:")
    for words in ("did you mean port?", "[fees] take 51 %", "[coinbase] payout_address is wrong"):
        assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pool.toml"]


def test_config_show_masks_secrets_and_tells_origins(tmp_path: Path) -> None:
    (tmp_path / "pool.toml").write_text('[[node]]\nuser = "u"\npassword = "hunter2"\n')
    env = {"POOL__STORE__URL": "postgresql://pool:hunter3@db/pool", "POOL__STRATUM__PORT": "0"}
    done = pool("config", "show", "--json", cwd=tmp_path, env=env)
    assert done.returncode == 0
    assert "hunter" not in done.stdout + done.stderr
    rows = {row["key"]: (row["value"], row["origin"]) for row in json.loads(done.stdout)}
    assert rows["node.0.password"] == ('"********"', "file pool.toml")
    assert rows["store.url"] == ('"postgresql://pool:********@db/pool"', "env POOL__STORE__URL")
    assert rows["stratum.port"] == ("0", "env POOL__STRATUM__PORT")
    assert rows["stratum.host"][1] == "default"
    changed = pool("config", "show", "--changed", cwd=tmp_path, env=env).stdout.splitlines()
    assert [line.split(" ")[0] for line in changed] == ["node.0.user", "node.0.password", "stratum.port", "store.url"]


def test_the_configuration_file_is_named_by_option_then_environment_then_found_here(tmp_path: Path) -> None:
    for name, port in (("pool.toml", 1), ("env.toml", 2), ("option.toml", 3)):
        (tmp_path / name).write_text(f"[stratum]\nport = {port}\n")

    def port_of(*args: str, env: dict[str, str] | None = None) -> str:
        return pool("config", "show", "--changed", *args, cwd=tmp_path, env=env).stdout.split("#")[0].strip()

    assert port_of() == "stratum.port = 1"
    assert port_of(env={"POOL_CONFIG": "env.toml"}) == "stratum.port = 2"
    assert port_of("--config", "option.toml", env={"POOL_CONFIG": "env.toml"}) == "stratum.port = 3"
    assert pool("config", "check", "--config", "gone.toml", cwd=tmp_path).returncode == 2


def test_init_writes_a_private_commented_file_and_keys_and_never_twice(tmp_path: Path) -> None:
    done = pool("init", "--set", "pool.name=Salón", "--set", "stratum.port=4444", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    file, keys = tmp_path / "pool.toml", tmp_path / "data" / "keys" / "keys.json"
    assert 'name = "Salón"' in file.read_text()
    assert "port = 4444" in file.read_text()
    assert "# Text in the coinbase" in file.read_text()
    assert [path.stat().st_mode & 0o777 for path in (file, keys)] == [0o600, 0o600]
    before = file.read_text(), keys.read_text()
    again = pool("init", cwd=tmp_path)
    assert again.returncode == 2
    assert "not touched" in again.stderr
    assert (file.read_text(), keys.read_text()) == before
    assert pool("config", "check", cwd=tmp_path).returncode == 0


def test_init_for_mainnet_says_what_is_still_missing(tmp_path: Path) -> None:
    done = pool("init", "--set", "pool.network=mainnet", cwd=tmp_path)
    assert done.returncode == 2
    assert "needs at least one node" in done.stderr
    assert "payout_address is missing" in done.stderr
    assert (tmp_path / "pool.toml").exists()


def test_init_refuses_a_key_it_does_not_know_before_it_writes_anything(tmp_path: Path) -> None:
    done = pool("init", "--set", "pool.nam=x", cwd=tmp_path)
    assert done.returncode != 0
    assert "pool.nam" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_init_asks_on_a_terminal_only_what_matters(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pool", "init"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    with os.fdopen(leader, "r+b", buffering=0) as terminal:
        terminal.write(b"Mi club\n\ndev\n")
        assert process.wait(60) == 0
        shown = terminal.read(4000).decode()
    assert "Nombre del pool" in shown
    text = (tmp_path / "pool.toml").read_text()
    assert 'name = "Mi club"' in text
    assert 'network = "dev"' in text
    assert "# language" in text


def test_keys_are_shown_backed_up_rotated_and_restored(tmp_path: Path) -> None:
    assert pool("keys", "show", cwd=tmp_path).returncode == 1  # none yet, and showing makes none
    assert pool("init", cwd=tmp_path).returncode == 0
    first = json.loads(pool("keys", "show", cwd=tmp_path).stdout)
    assert [key["algorithm"] for key in first] == ["ed25519"]
    assert pool("keys", "backup", "backup.json", cwd=tmp_path).returncode == 0
    assert pool("keys", "backup", "backup.json", cwd=tmp_path).returncode == 1
    rotated = json.loads(pool("keys", "rotate", cwd=tmp_path).stdout)
    assert rotated[0]["public_hex"] == first[0]["public_hex"]
    assert len(rotated) == 2
    assert pool("keys", "restore", "backup.json", cwd=tmp_path).returncode == 1  # never over keys that are there
    (tmp_path / "data" / "keys" / "keys.json").unlink()
    assert json.loads(pool("keys", "restore", "backup.json", cwd=tmp_path).stdout) == first
    private = json.loads((tmp_path / "backup.json").read_text())["private_hex"]
    assert private not in pool("keys", "show", cwd=tmp_path).stdout


def test_db_upgrade_makes_the_tables_and_a_second_one_finds_nothing_to_do(tmp_path: Path) -> None:
    first = pool("db", "upgrade", cwd=tmp_path)
    assert (first.returncode, "ran 0001" in first.stdout) == (0, True)
    second = pool("db", "upgrade", cwd=tmp_path)
    assert (second.returncode, "nothing to do" in second.stdout) == (0, True)


def test_what_the_operator_must_act_on_is_said_in_words_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    done = pool("db", "upgrade", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "data" in done.stderr


def test_a_failure_of_any_kind_is_told_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from pool.cli import main
    from pool.commands import db
    from pool.commands.common import load_config

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POOL__NODE__0__USER", "u")
    monkeypatch.setenv("POOL__NODE__0__PASSWORD", "hunter2-Zq9")
    for kind in (RuntimeError, OSError):

        def run(args: argparse.Namespace, kind: type[Exception] = kind) -> int:
            password = load_config(args).node[0].password
            assert password is not None
            raise kind(f"cannot log in with {password.reveal()}")

        monkeypatch.setattr(db, "run", run)
        assert main(["db", "upgrade"]) == 1
        said = capsys.readouterr().err
        assert "cannot log in with ********" in said
        assert "hunter2-Zq9" not in said
        assert ("Traceback" in said) == (kind is RuntimeError)


def test_every_command_explains_itself() -> None:
    from pool.cli import parser_with
    from pool.commands import NAMES

    modules = {name: __import__(f"pool.commands.{name}", fromlist=[name]) for name in NAMES}
    text = parser_with(modules).format_help()
    for name, module in modules.items():
        assert name in text
        assert module.HELP
        assert module.__doc__
