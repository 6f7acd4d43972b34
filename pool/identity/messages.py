"""The one-time message that a member signs: bound to pool, host, account, action, values, nonce and expiry.

One text in Spanish and English at once. The pool's own words hold ASCII only (no accents): several signing devices show
nothing but a hash of any other text. Every value is one printable line, so none can pretend to be another field.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from pool.identity.refusals import ProofRefused

LONGEST_VALUE = 256
NONCE_BYTES = 16
K1_BYTES = 32  # LUD-04
LIFETIME_S = 15 * 60
_HEX = re.compile(r"[0-9a-fA-F]+")

#: action -> (Spanish, English), ASCII. What a member can sign; programs use the names.
ACTIONS: dict[str, tuple[str, str]] = {
    "destination.change": ("Cambiar el destino de los pagos", "Change the payout destination"),
    "destination.cancel": ("Anular el cambio de destino", "Cancel the change of destination"),
    "wallet.link": ("Enlazar una cartera Lightning", "Link a Lightning wallet"),
    "settings.change": ("Cambiar un ajuste", "Change a setting"),
    "login": ("Entrar", "Log in"),
}


@dataclass(frozen=True, slots=True)
class Challenge:
    """A one-time message as stored. `kind` "message": to be signed by the account's address; "lnurl": the nonce is
    LUD-04's k1, signed by a wallet's linking key."""

    nonce_hex: str
    kind: str
    pool_name: str
    host: str
    account: str
    action: str
    old_value: str  # "" when there is none
    value: str
    issued_at_s: int
    expires_at_s: int

    @property
    def text(self) -> str:
        """What is signed, lines separated by LF, without one at the end."""
        es, en = ACTIONS[self.action]
        until = datetime.fromtimestamp(self.expires_at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return "\n".join(
            (
                f"Bolsa / Pool: {self.pool_name}",
                f"Sitio / Host: {self.host}",
                f"Cuenta / Account: {self.account}",
                f"{es} / {en}",
                f"Antes / Before: {self.old_value or '-'}",
                f"Nuevo / New: {self.value or '-'}",
                f"Clave / Nonce: {self.nonce_hex}",
                f"Caduca / Expires: {until}",
            )
        )

    @property
    def spellings(self) -> tuple[str, ...]:
        """The text as wallets hand it over: some write CRLF, some end the last line. All say the same."""
        text = self.text
        return text, text.replace("\n", "\r\n"), text + "\n", text.replace("\n", "\r\n") + "\r\n"


def one_line(text: str, what: str) -> str:
    """`text` when it is printable, one line and short enough; ProofRefused names what is not."""
    if len(text) > LONGEST_VALUE:
        raise ProofRefused("value", f"{what}: {len(text)} characters, at most {LONGEST_VALUE}")
    if not text.isprintable() or text != text.strip():
        raise ProofRefused("value", f"{what}: printable characters of one line, no space around")
    return text


def read_nonce(text: str, size: int = NONCE_BYTES) -> str:
    """A nonce of `size` bytes in lower-case hex; ProofRefused "unknown" for anything else, which was never issued."""
    if len(text) != 2 * size or not _HEX.fullmatch(text):
        raise ProofRefused("unknown")
    return text.lower()


def check_action(action: str) -> str:
    if action not in ACTIONS:
        raise ProofRefused("other_action", f"no action {action[:40]!r}")
    return action


def same(a: str, b: str) -> bool:
    """Equality in constant time."""
    return hmac.compare_digest(a.encode("utf-8", "replace"), b.encode("utf-8", "replace"))


def check_binding(
    challenge: Challenge, *, pool_name: str, host: str, account: str, action: str, value: str | None, now_s: int
) -> None:
    """That the challenge was made for exactly this; ProofRefused names the first difference. `value` None: the one in
    the challenge is what counts."""
    if not (same(challenge.host, host) and same(challenge.pool_name, pool_name)):
        raise ProofRefused("other_host")
    if not same(challenge.account, account):
        raise ProofRefused("other_account")
    if not same(challenge.action, action):
        raise ProofRefused("other_action")
    if value is not None and not same(challenge.value, value):
        raise ProofRefused("other_value")
    if now_s >= challenge.expires_at_s:
        raise ProofRefused("expired")
