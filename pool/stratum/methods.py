"""Which line is for whom: requests to their rooms, everything unknown to an error. Never silence, never a disconnect
for asking.
"""

from __future__ import annotations

from collections.abc import Callable

from pool.stratum import messages
from pool.stratum.handshake import authorize, configure, subscribe
from pool.stratum.hints import GET_VERSION_ID, suggest_difficulty, suggest_target
from pool.stratum.messages import Answer, Request
from pool.stratum.session import Session, clean_agent

JUNK_AT_MOST = 10


def hear(session: Session, line: bytes) -> None:
    """Answer one line that the channel left to us, in its turn."""
    session.hub.totals.lines += 1
    message = messages.read(line)
    if isinstance(message, Request):
        METHODS.get(message.method, unknown)(session, message)
    elif isinstance(message, Answer):
        _hear_answer(session, message)
    else:
        session.say(messages.error(message, messages.OTHER, message.why))
        session.junk += message.foreign
        if message.foreign and (session.junk > JUNK_AT_MOST or not session.subscribed):
            session.link.close()  # a browser, a scanner, a mistyped port: no miner begins like this


def _hear_answer(session: Session, answer: Answer) -> None:
    """To client.get_version, the only thing we ask. Nothing without a method gets a reply: firmware would book it as
    a share's.
    """
    if answer.id_json == b"%d" % GET_VERSION_ID and isinstance(answer.result, str) and not session.agent:
        session.agent = clean_agent(answer.result)


def submit(session: Session, request: Request) -> None:
    """A share in an unusual form (spaces in odd places, escapes, long ids): parsed here, judged by the same judge."""
    params = request.params
    texts = [param for param in params[:5] if isinstance(param, str)]
    version = params[5] if len(params) > 5 else None
    if len(texts) < 5 or not (version is None or isinstance(version, str)):
        texts, version = [""] * 5, None  # an empty nonce is malformed: counted and answered like any other
    user, job_id, extranonce2, ntime, nonce = texts
    session.channel.submit(request.id_json, user, job_id, extranonce2, ntime, nonce, version, session.hub.time_ns())


def extranonce_subscribe(session: Session, request: Request) -> None:
    """Noted, and always granted: ESP-Miner 2.9 to 2.12 book the reply as a share's."""
    session.xnsub = True
    session.say(messages.result(request, b"true"))


def ping(session: Session, request: Request) -> None:
    session.say(messages.result(request, b'"pong"'))


def pong(_session: Session, _request: Request) -> None:
    """ESP-Miner's answer to a ping is a request named pong: it wants no reply."""


def not_supported(session: Session, request: Request) -> None:
    session.say(messages.error(request, messages.OTHER, "Not supported"))


def unknown(session: Session, request: Request) -> None:
    session.say(messages.error(request, messages.OTHER, "Unknown method"))


METHODS: dict[str, Callable[[Session, Request], None]] = {
    "mining.subscribe": subscribe,
    "mining.configure": configure,
    "mining.authorize": authorize,
    "mining.submit": submit,
    "mining.suggest_difficulty": suggest_difficulty,
    "mining.suggest_target": suggest_target,
    "mining.extranonce.subscribe": extranonce_subscribe,
    "mining.get_transactions": not_supported,
    "mining.get_txnhashes": not_supported,
    "mining.multi_version": not_supported,
    "mining.ping": ping,
    "mining.pong": pong,
    "pong": pong,
}
