"""Found blocks on disk: one file each, there before any node hears of it, until the chain has decided for good."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from native.hashing import header_hash
from pool.records import BlockFound

log = logging.getLogger(__name__)

SETTLED = "settled.jsonl"  # one line per block that needs no more care
KEPT = "kept"  # bodies of blocks that ended off the chain: somebody may want to know why
_FIELDS = [field.name for field in dataclasses.fields(BlockFound) if field.name != "block"]


@dataclass(frozen=True, slots=True)
class Mark:
    """What was known about a block when its state last changed; the chain is asked again anyhow."""

    state: str
    reason: str
    held_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    found: BlockFound
    mark: Mark | None


class Journal:
    """A directory of found blocks. Not shared between processes. Every write is on the disk when the call returns."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / KEPT).mkdir(exist_ok=True)
        self.directory = directory
        self.settled: set[str] = self._read_settled()

    def write(self, found: BlockFound) -> None:
        """Keep a block: a line of JSON about it, then its hex as submitblock takes it. OSError if the disk refuses."""
        about = {name: getattr(found, name) for name in _FIELDS}
        self._replace(self._body(found.height, found.hash_hex), json.dumps(about) + "\n" + found.block.hex() + "\n")

    def mark(self, found: BlockFound, mark: Mark) -> None:
        text = json.dumps(dataclasses.asdict(mark))
        self._replace(self._body(found.height, found.hash_hex).with_suffix(".state"), text + "\n")

    def settle(self, found: BlockFound, mark: Mark, *, keep_body: bool) -> None:
        """No more care needed: a line of history stays, the body only when the chain does not hold it."""
        about = {name: getattr(found, name) for name in _FIELDS} | {"state": mark.state, "reason": mark.reason}
        with (self.directory / SETTLED).open("a", encoding="utf-8") as history:
            history.write(json.dumps(about) + "\n")
            history.flush()
            os.fsync(history.fileno())
        self.settled.add(found.hash_hex)
        body = self._body(found.height, found.hash_hex)
        if keep_body:
            os.replace(body, self.directory / KEPT / body.name)
        else:
            body.unlink(missing_ok=True)
        body.with_suffix(".state").unlink(missing_ok=True)
        self._sync_directory()

    def load(self) -> list[Entry]:
        """Every block still in need of care, oldest first. A file that cannot be read is left alone and logged."""
        entries: list[Entry] = []
        for path in sorted(self.directory.glob("*.block")):
            try:
                found = _read_body(path)
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.error("found block %s cannot be read, submit it by hand: %s", path, error)
                continue
            if found.hash_hex in self.settled:  # the process ended between history line and removal
                path.unlink()
                path.with_suffix(".state").unlink(missing_ok=True)
                continue
            entries.append(Entry(found, _read_mark(path.with_suffix(".state"))))
        for torn in self.directory.glob("*.tmp"):
            log.error("found block %s was never written whole", torn)
        return entries

    def _body(self, height: int, hash_hex: str) -> Path:
        return self.directory / f"{height:08d}-{hash_hex}.block"

    def _replace(self, path: Path, text: str) -> None:
        temporary = path.with_suffix(path.suffix + ".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        self._sync_directory()

    def _sync_directory(self) -> None:
        """Without this the file's name may not survive a power cut although its bytes do."""
        handle = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _read_settled(self) -> set[str]:
        history = self.directory / SETTLED
        settled: set[str] = set()
        if history.exists():
            for line in history.read_text(encoding="utf-8").splitlines():
                try:
                    settled.add(str(json.loads(line)["hash_hex"]))
                except (ValueError, KeyError, TypeError):
                    log.warning("torn line in %s: %.100s", history, line)
        return settled


def _read_body(path: Path) -> BlockFound:
    about_line, block_hex = path.read_text(encoding="utf-8").split("\n")[:2]
    found = BlockFound(block=bytes.fromhex(block_hex), **json.loads(about_line))
    if header_hash(found.block[:80])[::-1].hex() != found.hash_hex:
        raise ValueError("the bytes do not hash to the block's name")
    return found


def _read_mark(path: Path) -> Mark | None:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Mark(str(raw["state"]), str(raw["reason"]), tuple(str(name) for name in raw["held_by"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s cannot be read (%s): the chain will tell", path, error)
        return None
