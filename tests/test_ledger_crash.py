"""Killed between any two statements of summing and booking, and started again: the invariants hold, totals are those of
a ledger that was never killed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from rig import postgres as postgres_rig
from rig.ledger_crash import Story, in_a_process, live, outcome, story


def lives(told: Story, url: str, folder: Path, rng: random.Random, statements: int, kills: int) -> int:
    """Kill it so many times at random, let it finish; how often it really died."""
    progress, died = folder / "progress", 0
    for number in range(kills):  # the first anywhere, later ones where a start that has less to do still comes
        died += in_a_process(told, url, progress, rng.randint(1, statements if number == 0 else statements // 3))
    assert not in_a_process(told, url, progress, 0)
    return died


def one_seed(folder: Path, url: str, seed: int, kills: int) -> int:
    folder.mkdir()
    told = story(folder, seed)
    oracle = f"sqlite:///{folder}/oracle.sqlite"
    statements = live(told, oracle, folder / "oracle-progress", 0)
    assert statements > 30
    died = lives(told, url, folder, random.Random(seed), statements, kills)
    assert outcome(url) == outcome(oracle), f"seed {seed}"
    return died


def test_a_ledger_killed_anywhere_ends_with_the_same_totals(tmp_path: Path, seed: int) -> None:
    died = number = 0
    while died < 20:
        number += 1
        died += one_seed(tmp_path / str(number), f"sqlite:///{tmp_path}/{number}.sqlite", seed + number, kills=4)
        assert number < 40, "kills do not kill"
    print(f"{number} stories, killed {died} times")


def test_an_orphan_whose_first_news_died_with_the_process_still_stands_in_the_books(tmp_path: Path) -> None:
    """Seed 469 of the soak: killed while "confirmed" was being booked, and after the start only "orphaned" is told."""
    assert one_seed(tmp_path / "story", f"sqlite:///{tmp_path}/469.sqlite", 469, kills=3) == 3


def test_killed_on_postgresql(postgres: postgres_rig.Postgres, tmp_path: Path, seed: int) -> None:
    died = number = 0
    while died < 8:
        number += 1
        url = postgres.database()
        died += one_seed(tmp_path / str(number), url, seed + number, kills=4)
        postgres.drop(url)
        assert number < 20, "kills do not kill"
    print(f"{number} stories, killed {died} times")


@pytest.mark.soak
def test_a_thousand_seeds(tmp_path: Path, postgres: postgres_rig.Postgres) -> None:
    """Three kills each; nine in ten on SQLite, the others on PostgreSQL."""
    died = 0
    for seed in range(1000):
        folder = tmp_path / str(seed)
        url = postgres.database() if seed % 10 == 0 else f"sqlite:///{tmp_path}/{seed}.sqlite"
        done: Callable[[], None] = (lambda url=url: postgres.drop(url)) if seed % 10 == 0 else (lambda: None)
        died += one_seed(folder, url, seed, kills=3)
        done()
    print(f"1,000 seeds: killed {died} times, all totals equal the oracle's")
    assert died > 1000
