"""The rig's PostgreSQL also starts where its wheel lies in a folder that only root may enter."""

from __future__ import annotations

import os

import psycopg
import pytest

from rig import postgres as rig


@pytest.mark.skipif(os.geteuid() != 0, reason="only as root is the server another user than the tests")
def test_the_server_starts_when_its_wheel_lies_where_only_root_may_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig, "_reachable_by_others", lambda path: False)
    seen: list[str] = []
    copied = rig._copied
    monkeypatch.setattr(rig, "_copied", lambda home, to: seen.append(str(to)) or copied(home, to))
    with rig.running() as server, psycopg.connect(server.database()) as connection:
        (row,) = connection.execute("SHOW data_directory").fetchall()
        assert row[0].startswith(os.path.dirname(seen[0]))
    assert not os.path.exists(os.path.dirname(seen[0]))
