"""A proof tree of 100,000 members: the tree alone, an epoch as published, one member's file, its check.

    ./mmsp bench proofs [--accounts 100000] [--rounds 5]

Medians of `rounds`. "published" is what the ledger's clock does each hour for one kind of tree: order, leaves, tree and
rows on an SQLite file with synchronous=FULL. "member's file" makes the tree again from the kept leaves."""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from report import finish, table

from pool.ledger import merkle, proofs
from pool.ledger.merkle import SumTree
from pool.store import Store

SECRET = bytes(range(32))
TARGET_S = 1.0


def cpu(work: Callable[[], object], rounds: int) -> float:
    """Median seconds of one core: what a machine with other things to do takes longer for is not ours."""
    taken = []
    for _ in range(rounds):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return statistics.median(taken)


def timed(work: Callable[[], object], rounds: int) -> float:
    """Median seconds."""
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    rng = random.Random(1)
    values = {f"bc1q{rng.getrandbits(190):048x}": rng.randrange(1, 10**12) for _ in range(args.accounts)}
    nodes = [merkle.leaf(1, merkle.account_id(name), bytes(32), value) for name, value in values.items()]
    tree_s = timed(lambda: SumTree(1, nodes, SECRET), args.rounds)
    whole_s = timed(lambda: proofs.tree_of(values, SECRET, 1, "balance"), args.rounds)
    cpu_s = cpu(lambda: proofs.tree_of(values, SECRET, 1, "balance"), args.rounds)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{Path(folder)}/bench.sqlite")
        store.upgrade()
        publish_s = timed(
            lambda: store.write_now(proofs.publish, {"balance": values}, bytes(32), SECRET, 1), args.rounds
        )
        name = next(iter(values))
        file = store.read_now(proofs.member_file, "balance", 1, name, (SECRET,))
        file_s = timed(lambda: store.read_now(proofs.member_file, "balance", 1, name, (SECRET,)), args.rounds)
        store.close()
    text = json.dumps(file)
    check_s = timed(lambda: proofs.verify_file(text), 1000)
    rows = [
        {"what": "tree over ready leaves", "ms": tree_s * 1e3},
        {"what": "order, leaves and tree", "ms": whole_s * 1e3},
        {"what": "the same, of one core", "ms": cpu_s * 1e3},
        {"what": "published (one kind)", "ms": publish_s * 1e3},
        {"what": "one member's file", "ms": file_s * 1e3},
        {"what": "check of a file", "ms": check_s * 1e3},
    ]
    table(f"proofs of {args.accounts:,} accounts", rows)
    figures = {"accounts": args.accounts, "tree_s": tree_s, "whole_s": whole_s, "whole_cpu_s": cpu_s}
    figures |= {"publish_s": publish_s, "file_s": file_s, "check_s": check_s, "target_s": TARGET_S}
    finish("proofs", {**figures, "file_bytes": len(text)})


if __name__ == "__main__":
    main()
