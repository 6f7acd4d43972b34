"""How a session begins: mining.subscribe (with resume), mining.configure, mining.authorize. Order of replies as
firmware needs it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from native.sharelog import LogFull
from native.work import EXTRANONCE2_SIZE, VERSION_MASK
from pool.records import Identity, SavedSession
from pool.stratum import hints, messages
from pool.stratum.accounts import Options, UserError, identify, read_password
from pool.stratum.devices import device_of
from pool.stratum.messages import Request
from pool.stratum.resume import Remembered
from pool.stratum.session import Session, clean_agent, fresh_id
from pool.stratum.texts import Reason

log = logging.getLogger(__name__)

USERS_AT_MOST = 16  # native's limit of users a connection
LOOK_UP_S = 2.0  # longest that a session waits for what is stored of it
UNAUTHORISED_TEXT = "Unauthorized worker"

# --- subscribe


def subscribe(session: Session, request: Request) -> None:
    """[], [agent], [agent, session id, host, port]. A second subscribe gets the first one's answer."""
    agent, presented = request.param(0), request.param(1)
    if isinstance(agent, str) and not session.agent:
        session.agent = clean_agent(agent)
        session.device = device_of(session.agent)
    if session.subscribed:
        _subscribed(session, request)
        return
    if isinstance(presented, str) and 0 < len(presented) <= 64:
        hub = session.hub
        owner = hub.by_id.get(presented)
        if owner is not None:
            owner.link.evict()  # the device is back before we noticed that it went
        entry = hub.memory.by_id(presented)
        if entry is not None:
            _resume(session, entry)
        elif hub.load_session is not None and not hub.memory.complete:
            session.link.wait_for(_look_up(session, request, hub.load_session(presented)))
            return
    _subscribed(session, request)


async def _look_up(session: Session, request: Request, loading: Awaitable[SavedSession | None]) -> None:
    saved = await _loaded(loading)
    if saved is not None and saved.session_id not in session.hub.by_id:
        _resume(session, Remembered(saved))
    _subscribed(session, request)


async def _loaded(loading: Awaitable[SavedSession | None]) -> SavedSession | None:
    """What the store remembers, or None when it is slow or down: a miner without history mines, one that waits does
    not."""
    try:
        async with asyncio.timeout(LOOK_UP_S):
            return await loading
    except Exception as error:  # the store is handed down: what it may raise is not known here, and none of it matters
        log.warning("a stored session cannot be loaded: %s", error or type(error).__name__)
        return None


def _resume(session: Session, entry: Remembered) -> None:
    """Become the earlier session: its id, difficulty, version mask and, if nobody has it, its extranonce1."""
    hub, saved = session.hub, entry.saved
    session.session_id = saved.session_id
    hub.by_id[saved.session_id] = session
    session.history = saved
    if saved.version_mask:
        session.channel.version_mask = saved.version_mask & VERSION_MASK
    extranonce1 = bytes.fromhex(saved.extranonce1_hex)
    if hub.extranonces.claim(extranonce1):
        hub.extranonces.release(session.extranonce1, hub.monotonic())
        session.extranonce1 = extranonce1
        session.channel.set_extranonce1(extranonce1)
        # Jobs up to this one were worked on under the same extranonce1.
        session.last_job_id = entry.last_job_id


def _subscribed(session: Session, request: Request) -> None:
    if not session.session_id:
        fresh_id(session)
    first, session.subscribed = not session.subscribed, True
    session_id = session.session_id.encode("ascii")
    # ESP-Miner's way back from the fallback pool looks for "mining.notify" in the first segment that comes.
    session.say(
        messages.result(
            request,
            b'[[["mining.set_difficulty","%b"],["mining.notify","%b"]],"%b",%d]'
            % (session_id, session_id, session.extranonce1.hex().encode("ascii"), EXTRANONCE2_SIZE),
        )
    )
    if first and session.ready:
        session.supply.send(session)


# --- configure (BIP310)


def configure(session: Session, request: Request) -> None:
    """[[extension, ...], {"extension.option": value}]: each extension is answered, unknown ones with false."""
    names, given = request.param(0), request.param(1)
    if not isinstance(names, list):
        session.say(messages.error(request, messages.OTHER, "Extensions must be an array"))
        return
    options: dict[str, object] = given if isinstance(given, dict) else {}
    answers: list[bytes] = []
    for name in dict.fromkeys(name for name in names[:32] if isinstance(name, str)):
        if name == "version-rolling":
            answers += _version_rolling(session, options)
        elif name == "minimum-difficulty":
            answers.append(b'"minimum-difficulty":' + _yes(hints.minimum(session, options.get(f"{name}.value"))))
        elif name == "subscribe-extranonce":
            session.xnsub = True
            answers.append(b'"subscribe-extranonce":true')
        elif name == "info":
            _info(session, options)
            answers.append(b'"info":true')
        else:
            answers.append(messages.text(name[:64]) + b":false")
    session.say(messages.result(request, b"{" + b",".join(answers) + b"}"))


def _yes(value: bool) -> bytes:
    return b"true" if value else b"false"


def _version_rolling(session: Session, options: dict[str, object]) -> list[bytes]:
    asked = options.get("version-rolling.mask", "ffffffff")
    least = options.get("version-rolling.min-bit-count", 0)
    try:
        mask = int(asked, 16) & VERSION_MASK if isinstance(asked, str) and len(asked) <= 8 else 0
    except ValueError:
        mask = 0
    if mask <= 0 or (isinstance(least, int) and mask.bit_count() < least):
        return [b'"version-rolling":false']
    session.channel.version_mask = mask
    return [b'"version-rolling":true', b'"version-rolling.mask":"%08x"' % mask]


def _info(session: Session, options: dict[str, object]) -> None:
    """The device's own words: they stand in when it gave no user agent."""
    parts = [options.get(f"info.{key}") for key in ("hw-version", "sw-version")]
    words = "/".join(part for part in parts if isinstance(part, str))
    if words and not session.agent:
        session.agent = clean_agent(words)
        session.device = device_of(session.agent)


# --- authorize


def authorize(session: Session, request: Request) -> None:
    """[user, password]. The reply, set_difficulty and the first notify leave in one write."""
    session.tried = True
    user, options = request.param(0), read_password(request.param(1))
    try:
        identity = identify(user if isinstance(user, str) else "", session.hub.network, options.lightning)
        _check(session, identity)
    except UserError as error:
        _refuse(session, request, error.reason)
        return
    assert isinstance(user, str)
    if session.identity is None and session.pace is None and not _recall(session, identity):
        hub = session.hub
        if hub.load_session is not None and not hub.memory.complete:
            loading = hub.load_session((identity.account, identity.worker, session.agent))
            session.link.wait_for(_load_history(session, request, user, identity, options, loading))
            return
    _accept(session, request, user, identity, options)


def _check(session: Session, identity: Identity) -> None:
    """Rules of the port. UserError."""
    if session.port.mode == "solo":
        if identity.kind != "address":
            raise UserError(Reason.BAD_ADDRESS, "a block found in solo mode pays an address")
        if session.identity is not None and identity.account != session.account:
            raise UserError(Reason.ONE_ADDRESS)


def _recall(session: Session, identity: Identity) -> bool:
    """Find the history of this device in memory; a resumed session brought its own."""
    saved = session.history
    if saved is not None and (saved.account, saved.worker) == (identity.account, identity.worker):
        return True
    entry = session.hub.memory.by_device(identity.account, identity.worker, session.agent)
    session.history = entry.saved if entry is not None else None
    return entry is not None


async def _load_history(
    session: Session,
    request: Request,
    user: str,
    identity: Identity,
    options: Options,
    loading: Awaitable[SavedSession | None],
) -> None:
    session.history = await _loaded(loading)
    _accept(session, request, user, identity, options)


def _accept(session: Session, request: Request, user: str, identity: Identity, options: Options) -> None:
    hub, channel, raw = session.hub, session.channel, user.encode("utf-8", "replace")
    if raw not in channel.users and len(channel.users) >= USERS_AT_MOST:
        _refuse(session, request, Reason.TOO_MANY_USERS)
        return
    now_ns = hub.time_ns()
    try:
        account_id = hub.log.account(identity.account, now_ns)
        worker_id = hub.log.worker(account_id, identity.worker, now_ns)
    except LogFull:
        # Without an answer to authorize, and only so, firmware goes on to its fallback pool.
        session.link.close()
        return
    channel.authorize(raw, account_id, worker_id)
    hub.names[account_id, worker_id] = identity  # as many as the log's epoch has workers
    first = session.identity is None
    if first:
        session.identity, session.account = identity, identity.account
        session.log_ids = (account_id, worker_id)
        session.refusal, channel.unauthorised_text = "", UNAUTHORISED_TEXT
        if session.history is not None:
            channel.best_difficulty = max(channel.best_difficulty, session.history.best_difficulty)
    session.say(messages.result(request, b"true"))
    if first or session.identity == identity:
        hints.options(session, options)
    if first and session.subscribed:
        session.supply.send(session)
        if not session.agent:
            # It did not say what it is (cgminer after a failed subscribe): ask once, after everything it waits for.
            session.say(messages.get_version(hints.GET_VERSION_ID))


def _refuse(session: Session, request: Request, reason: Reason) -> None:
    """Say why, keep the connection, and say it again with each share: AxeOS shows nothing but reasons of shares."""
    session.say(messages.error(request, messages.OTHER, reason.text, b"false"))
    if session.identity is None and not session.refusal:
        session.refusal = session.channel.unauthorised_text = reason.text
        if session.subscribed:
            session.supply.send(session)
