"""The stratum server's life: opens ports, lets connections in, tells them when there is no work, saves sessions,
drains.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from pool.address import load_bitcoinlib
from pool.records import SavedSession, Verdict
from pool.stratum import messages
from pool.stratum.connection import Connection
from pool.stratum.hub import Hub, Port
from pool.stratum.limits import Visitor
from pool.stratum.resume import SaveSessions
from pool.stratum.session import Session
from pool.stratum.sockets import SPARE_FILES, Listener, make_room, raise_file_limit
from pool.stratum.supply import Supply
from pool.stratum.takeover import Handover, Inheritance
from pool.stratum.texts import NO_WORK, Words
from pool.stratum.tls import load_context
from pool.stratum.watch import Watch

log = logging.getLogger(__name__)

GATE_S = 0.1  # how often the gate looks
PATIENCE_S = 5.0  # without work this long, new connections wait in the kernel's queue; then they are refused
LATE_S, CALM_S = 0.25, 0.1  # the loop being late by this much is pressure; below the other it is over
LATE_LOOKS = 20
FULL_AGAIN = 0.97  # a full pool accepts again when it is this full
FAREWELL_S = 1.0  # between show_message and the close
SAVE_S = 1.0  # what a kill -9 may forget of a device that just came
SAVE_ALL_EVERY = 60  # rounds of SAVE_S: hashrate and best share of sessions that nothing else marked
COMPLAIN_S = 60.0
DRAIN_S = 3.0
SLICE = 64  # sessions closed or gathered for the store between two looks at the sockets


class StratumServer:
    """Use: `async with StratumServer(...) as server:` opens; `server.run()` in a task works; leaving drains."""

    def __init__(
        self,
        hub: Hub,
        ports: Sequence[Port],
        *,
        save_sessions: SaveSessions | None = None,
        handover_path: Path | None = None,
        language: str = "en",
    ) -> None:
        self.hub = hub
        self.supply = Supply(hub)
        self.watch = Watch(hub, self.supply)
        self.tls_context: ssl.SSLContext | None = None
        self.taken_over = asyncio.Event()  # another process has our sockets: drain and leave
        self.connections: dict[Connection, None] = {}
        settings = hub.settings
        self.listeners = [
            Listener(port, settings.host, settings.backlog, lambda port=port: Connection(self, hub, port))  # type: ignore[misc]
            for port in ports
        ]
        self._save_sessions, self._language = save_sessions, language
        self._handover = (
            Handover(handover_path, self._sockets, self._handed_over) if handover_path is not None else None
        )
        self._empty = asyncio.Event()  # while draining: the last connection is gone
        self._inherited: Inheritance | None = None
        self._limit = settings.max_connections
        self._full = self._draining = False
        self._no_work_since_s: float | None = None
        self._farewell_said = False
        self._late: deque[float] = deque(maxlen=LATE_LOOKS)
        self._pressure = False
        self._complained: dict[str, float] = {}
        self._saving = asyncio.Lock()

    # --- opening and closing

    async def __aenter__(self) -> StratumServer:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.drain()

    def inherit(self, given: Inheritance | None) -> None:
        """Use the listening sockets of an old process that has let go. Before opening."""
        self._inherited = given

    async def open(self) -> None:
        """Take the ports (OSError names a taken one), load TLS. Connections are accepted as soon as there is work."""
        files = raise_file_limit(self._limit)
        if files < self._limit + SPARE_FILES:
            self._limit = max(1, files - SPARE_FILES)
            log.warning("the system allows %d open files: at most %d connections", files, self._limit)
        make_room(files)
        self.reload_tls()
        # Takes 0.3 s, in which no share would be answered, if the first authorize brings it.
        await asyncio.to_thread(load_bitcoinlib)
        for listener in self.listeners:
            given = self._inherited.sockets.pop(listener.port.name, None) if self._inherited is not None else None
            if given is not None:
                listener.inherit(given)
            try:
                listener.bind()
            except OSError as error:
                for one in self.listeners:
                    one.refuse()
                raise OSError(error.errno, f"stratum port {listener.port.number}: {error.strerror}") from None
        if self._inherited is not None:
            self._inherited.close()  # ports that this configuration does not have
        if self._handover is not None:
            self._handover.open()
        self.hub.work.listen(self.supply.on_work)
        await self._gate(0.0)

    def reload_tls(self) -> None:
        """Read the PEM files (again: SIGHUP). A new pair that cannot be used leaves the old one in place."""
        cert_file, key_file = self.hub.settings.tls_cert_file, self.hub.settings.tls_key_file
        if cert_file is None or key_file is None:
            return
        try:
            self.tls_context = load_context(cert_file, key_file)
        except (OSError, ssl.SSLError) as error:
            if self.tls_context is None:
                raise
            log.error("the TLS certificate cannot be used, the old one stays: %s", error)

    async def run(self) -> None:
        """Work until cancelled. Whatever dies in here takes all of it down."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.supply.run())
            tasks.create_task(self.watch.run())
            tasks.create_task(self._keep_gate())
            tasks.create_task(self._keep_sessions())

    def _sockets(self) -> dict[str, socket.socket]:
        return {one.port.name: one.bound for one in self.listeners if one.bound is not None}

    def _handed_over(self) -> None:
        log.info("another process takes over the listening sockets")
        self._draining = True
        for listener in self.listeners:
            listener.pause()
        self.taken_over.set()

    async def drain(self) -> None:
        """Stop accepting, say goodbye, write out, save sessions. The share log may be closed after this."""
        self._draining = True
        handed_over = self._handover is not None and self._handover.handed_over
        for listener in self.listeners:
            listener.refuse()  # after a take-over this closes only our copy
        # Only when somebody else listens already: a client that came back to a closed port would count a failure.
        await self._close_all(messages.RECONNECT if handed_over else b"")
        if self.connections:
            try:
                async with asyncio.timeout(DRAIN_S):
                    await self._empty.wait()
            except TimeoutError:
                log.info("%d connections did not take their last bytes", len(self.connections))
        for connection in list(self.connections):
            self.left(connection)
            connection.abort()
        await asyncio.sleep(0)
        await self.save()

    def let_go(self) -> None:
        """The last step, after the share log was closed: a process that takes over goes on now."""
        if self._handover is not None:
            self._handover.close()

    async def _close_all(self, last_words: bytes) -> None:
        for number, connection in enumerate(list(self.connections)):
            session = connection.session
            if last_words and session is not None and session.ready and not connection.blocked:
                session.say(last_words)
            if connection.blocked:
                connection.abort()
            else:
                connection.close()
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)

    # --- the gate

    async def _keep_gate(self) -> None:
        swept_s, loop = 0.0, asyncio.get_running_loop()
        while True:
            due_s = loop.time() + GATE_S
            await asyncio.sleep(GATE_S)
            await self._gate(loop.time() - due_s)
            now_s = self.hub.monotonic()
            if now_s - swept_s >= 1.0:
                swept_s = now_s
                self._sweep(now_s)

    async def _gate(self, late_s: float) -> None:
        """Accept, pause or refuse, as work, room and the loop's pressure say."""
        now_s = self.hub.monotonic()
        self._late.append(late_s)
        if sum(late > LATE_S for late in self._late) >= 3:
            self._pressure = True
        elif all(late < CALM_S for late in self._late):
            self._pressure = False
        used = len(self.connections) / self._limit
        self._full = used >= 1.0 or (self._full and used > FULL_AGAIN)
        idle_s = await self._mind_work(now_s)
        for listener in self.listeners:
            if self._draining:
                listener.pause()
            elif idle_s >= PATIENCE_S or self._full:
                listener.refuse()
            elif idle_s > 0.0 or self._pressure:
                listener.pause()
            else:
                await self._accept(listener)

    async def _accept(self, listener: Listener) -> None:
        try:
            await listener.accept()
        except OSError as error:  # somebody took the port while we refused: try again with the next look
            self.complain(f"stratum port {listener.port.number}: {error}")

    async def _mind_work(self, now_s: float) -> float:
        """Seconds without work; after no_work_close_s everybody is told and sent to the fallback pool (P10)."""
        state = self.hub.work.state
        if state.ok:
            if self._no_work_since_s is not None:
                log.info("work again after %.0f s", now_s - self._no_work_since_s)
            self._no_work_since_s, self._farewell_said = None, False
            return 0.0
        if self._no_work_since_s is None:
            log.warning("no work: %s", state.reason)
            self._no_work_since_s = now_s
        idle_s = now_s - self._no_work_since_s
        closing_s = self.hub.settings.no_work_close_s
        if idle_s >= closing_s and not self._farewell_said:
            self._farewell_said = True
            self.tell_all(NO_WORK, reason=state.reason)
        if idle_s >= closing_s + FAREWELL_S and self.connections:
            await self._close_all(b"")
        return max(idle_s, 1e-9)

    def tell_all(self, words: Words, **values: str) -> None:
        """client.show_message to every session that has a user."""
        text = (words.es if self._language == "es" else words.en).format(**values)
        line = messages.show_message(text)
        for session in list(self.hub.sessions):
            if session.ready and not session.link.blocked:
                session.say(line)
                session.link.flush()

    def _sweep(self, now_s: float) -> None:
        """Connections that never said a word."""
        for connection in list(self.connections):
            if connection.session is not None:
                continue
            if now_s - connection.opened_s < self.hub.settings.authorize_within_s:
                continue
            connection.abort()
        self.hub.door.sweep(now_s)

    # --- what connections tell

    def arrived(self, connection: Connection, host: str) -> Visitor | None:
        """Let it in, or not."""
        hub = self.hub
        hub.totals.connections += 1
        if self._draining or len(self.connections) >= self._limit:
            hub.totals.refused += 1
            return None
        visitor = hub.door.enter(host, hub.monotonic())
        if visitor is None:
            hub.totals.refused += 1
            return None
        self.connections[connection] = None
        return visitor

    def began(self, _connection: Connection, session: Session) -> None:
        self.hub.sessions[session] = None

    def left(self, connection: Connection) -> None:
        """It is gone, or as good as: remember it, give back what it held. A second call does nothing."""
        if connection not in self.connections:
            return
        del self.connections[connection]
        hub, session, visitor = self.hub, connection.session, connection.visitor
        now_s = hub.monotonic()
        if session is not None:
            hub.sessions.pop(session, None)
            hub.dirty.pop(session, None)
            session.log_refused()
            saved = session.as_saved()
            if saved is not None:
                hub.memory.remember(saved, session.last_job_id)
            if hub.by_id.get(session.session_id) is session:
                del hub.by_id[session.session_id]
            hub.extranonces.release(session.extranonce1, now_s)
            for verdict, count in enumerate(session.channel.counts):
                hub.totals.gone_counts[verdict] += count
            if session.earning:
                session.visitor.earning -= 1
        if visitor is not None:
            hub.door.leave(visitor, now_s)
        if self._draining and not self.connections:
            self._empty.set()

    def complain(self, what: str) -> None:
        """Into the log, each thing once a minute."""
        now_s = self.hub.monotonic()
        if now_s - self._complained.get(what, float("-inf")) >= COMPLAIN_S:
            if len(self._complained) > 100:
                self._complained.clear()
            self._complained[what] = now_s
            log.warning("%s", what)

    # --- saved sessions (P9)

    async def _keep_sessions(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(SAVE_S)
            turn += 1
            if turn % SAVE_ALL_EVERY == 0:
                self.hub.dirty.update(self.hub.sessions)
            await self.save()

    async def save(self) -> None:
        """Hand what changed to the store. A store that is down must not stop the mining: kept, and tried again."""
        memory, dirty = self.hub.memory, self.hub.dirty
        for number, session in enumerate(list(dirty)):
            dirty.pop(session, None)
            if session not in self.hub.sessions:
                continue  # left meanwhile, and remembered then
            saved = session.as_saved()
            if saved is not None and session.earning:
                memory.remember(saved, session.last_job_id)
            elif saved is not None:
                memory.note(saved)
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        if self._save_sessions is None:
            return
        async with self._saving:
            changed: list[SavedSession] = memory.drain()
            if not changed:
                return
            try:
                await self._save_sessions(changed)
            except Exception as error:
                memory.undrain(changed)
                self.complain(f"sessions cannot be stored: {error}")
            except BaseException:
                memory.undrain(changed)
                raise

    # --- figures

    def counts(self) -> tuple[int, ...]:
        """Shares by verdict since the process began."""
        totals = list(self.hub.totals.gone_counts)
        for session in self.hub.sessions:
            for verdict, count in enumerate(session.channel.counts):
                totals[verdict] += count
        return tuple(totals[: len(Verdict)])
