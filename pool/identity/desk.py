"""The identity room's public side: `Identity`, what web and payout ask of it. Its owner process is its only writer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, select

from pool.address import AddressError, parse_address
from pool.identity import challenges, changes, depositbook, lnurlauth
from pool.identity.challenges import Limits
from pool.identity.changes import Event, Evidence
from pool.identity.depositbook import Wanted
from pool.identity.destinations import Change, parse_destination
from pool.identity.messages import Challenge, check_action, check_binding, one_line, read_nonce
from pool.identity.refusals import ProofRefused
from pool.identity.signatures import verify_signature
from pool.store import Store
from pool.store.sessions import accounts

#: What a linked wallet may do for an account that is a bitcoin address; for a Lightning account it may do all.
WALLET_ACTIONS = ("login", "settings.change")


@dataclass(frozen=True, slots=True)
class Proof:
    """What a member has just proven, once; its effect on this room is committed already. Actions "login" and
    "settings.change" have none here: the caller acts on them."""

    account: str
    action: str
    value: str
    method: str  # "bip322" | "signmessage" | "lnurl" | "deposit"
    key_hex: str  # of the wallet, with "lnurl"; else ""
    change: Change | None  # of the destination


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an account is paid by its own choice ("" when it made none), and the change that waits."""

    destination: str
    pending: Change | None


class Identity:
    """Proofs of who a member is, and the destinations that only a proof can change.

    `host` is the name under which members see the pool and wallets derive their keys: fixed for ever. `clock` gives
    unix seconds. `balance_msat(connection, account)` and `deposits_arrived(connection, deposit_id)` are asked inside
    this room's transaction, so that what they say still holds when it commits. Every method that refuses raises
    ProofRefused, with words for the member in both languages; StoreUnavailableError as everywhere.
    """

    def __init__(
        self,
        store: Store,
        *,
        pool_name: str,
        host: str,
        network: str,
        clock: Callable[[], int],
        balance_msat: Callable[[Connection, str], int],
        deposits_arrived: Callable[[Connection, int], bool],
        limits: Limits | None = None,
    ) -> None:
        self._store, self._clock, self._network = store, clock, network
        self._pool_name, self._host = one_line(pool_name, "pool name"), one_line(host.lower(), "host")
        self._balance_msat, self._deposits_arrived = balance_msat, deposits_arrived
        self._limits = limits or Limits()

    # --- asking
    async def ask(self, account: str, action: str, value: str = "", *, client: str = "") -> Challenge:
        """A message for the account's address to sign; its `.text` is shown to the member.

        `value`: the new destination; for a cancellation leave it empty, it is the pending one. `client`: who asks, as
        a salted hash, for the limits."""
        return await self._store.write(self._ask, "message", account, action, value, client)

    async def ask_wallet(
        self, account: str, action: str, value: str = "", *, callback: str, client: str = ""
    ) -> tuple[Challenge, str]:
        """An LNURL-auth request and the URL behind its QR code (`lnurlauth.encode_lnurl` writes it for wallets)."""
        if lnurlauth.auth_host(callback) != self._host:
            raise ValueError(f"linking keys belong to {self._host}: the callback must be there")
        challenge = await self._store.write(self._ask, "lnurl", account, action, value, client)
        return challenge, lnurlauth.auth_url(callback, challenge.nonce_hex, action)

    def _ask(self, connection: Connection, kind: str, account: str, action: str, value: str, client: str) -> Challenge:
        account = self._account(connection, account)
        old, new = self._values(connection, account, check_action(action), value)
        return challenges.issue(
            connection,
            kind=kind,
            pool_name=self._pool_name,
            host=self._host,
            account=account,
            action=action,
            old_value=old,
            value=new,
            client=one_line(client, "client"),
            limits=self._limits,
            now_s=self._clock(),
        )

    def _canonical(self, account: str) -> str:
        if "@" in account:
            return parse_destination(account, self._network).text
        try:
            return parse_address(account, self._network).text
        except AddressError as error:
            raise ProofRefused("account", str(error)) from None

    def _account(self, connection: Connection, account: str) -> str:
        """The canonical name of an account that has mined here: tables grow with miners, not with whoever asks."""
        name = self._canonical(account)
        if connection.execute(select(accounts.c.id).where(accounts.c.name == name)).one_or_none() is None:
            raise ProofRefused("stranger")
        return name

    def _values(self, connection: Connection, account: str, action: str, value: str) -> tuple[str, str]:
        """(old value, new value) as the message names them."""
        if action == "destination.change":
            new = parse_destination(value, self._network).text
            old = changes.current(connection, account)
            if new == old:
                raise ProofRefused("same")
            return old, new
        if action == "destination.cancel":
            waiting = changes.waiting(connection, account)
            if waiting is None or (value and value != waiting.destination):
                raise ProofRefused("nothing_pending")
            return waiting.old_destination, waiting.destination
        return "", one_line(value, "value")

    # --- proving
    async def prove(self, nonce_hex: str, *, account: str, action: str, value: str, signature: str) -> Proof:
        """Redeem a signed message that was made for exactly this account, action and value, and apply it."""
        nonce = await self._known(read_nonce(nonce_hex), "message")

        def step(connection: Connection) -> Proof | ProofRefused:
            now_s, name = self._clock(), self._canonical(account)

            def verify(challenge: Challenge) -> tuple[str, str]:
                return self._verify_spellings(challenge, signature), ""

            done = challenges.redeem(
                connection,
                nonce,
                "message",
                lambda challenge: self._bound(challenge, name, action, value, now_s),
                verify,
                limits=self._limits,
                now_s=now_s,
            )
            if done.challenge is None:
                return done.refused or ProofRefused("unknown")
            evidence = Evidence(done.challenge.text, signature.strip())
            return self._apply(connection, done.challenge, done.method, "", evidence, now_s)

        return _or_raise(await self._store.write(step))

    async def _known(self, nonce_hex: str, kind: str) -> str:
        if not await self._store.read(challenges.known, nonce_hex, kind):
            raise ProofRefused("unknown")
        return nonce_hex

    def _bound(self, challenge: Challenge, account: str, action: str, value: str, now_s: int) -> None:
        if action == "destination.change":
            value = parse_destination(value, self._network).text
        check_binding(
            challenge,
            pool_name=self._pool_name,
            host=self._host,
            account=account,
            action=action,
            value=value,
            now_s=now_s,
        )

    def _verify_spellings(self, challenge: Challenge, signature: str) -> str:
        first: ProofRefused | None = None
        for text in challenge.spellings:
            try:
                return verify_signature(challenge.account, self._network, text, signature)
            except ProofRefused as refused:
                first = first or refused
                if refused.code != "wrong_signature":
                    break
        assert first is not None
        raise first

    async def wallet_answered(self, k1_hex: str, sig_hex: str, key_hex: str) -> Proof:
        """What the wallet sends to the callback (LUD-04). A request to link only shows the key: the link is made when
        the account's owner proves "wallet.link" with that key as its value."""
        k1 = await self._known(lnurlauth.read_k1(k1_hex), "lnurl")

        def step(connection: Connection) -> Proof | ProofRefused:
            now_s = self._clock()

            def verify(challenge: Challenge) -> tuple[str, str]:
                return "lnurl", lnurlauth.verify_answer(challenge.nonce_hex, sig_hex, key_hex)

            done = challenges.redeem(
                connection,
                k1,
                "lnurl",
                lambda c: self._bound(c, c.account, c.action, c.value, now_s),
                verify,
                limits=self._limits,
                now_s=now_s,
            )
            if done.challenge is None:
                return done.refused or ProofRefused("unknown")
            return self._apply_wallet(connection, done.challenge, done.key_hex, sig_hex, now_s)

        return _or_raise(await self._store.write(step))

    def _apply_wallet(
        self, connection: Connection, challenge: Challenge, key_hex: str, sig_hex: str, now_s: int
    ) -> Proof | ProofRefused:
        if challenge.action == "wallet.link":
            return Proof(challenge.account, challenge.action, challenge.value, "lnurl", key_hex, None)
        if changes.linked_account(connection, self._host, key_hex) != challenge.account:
            return ProofRefused("not_linked")  # returned: this k1 is spent all the same
        if "@" not in challenge.account and challenge.action not in WALLET_ACTIONS:
            return ProofRefused("proof_kind", "an address signs for this itself")
        evidence = Evidence(f"{challenge.text}\nLNURL-auth key: {key_hex}", sig_hex)
        return self._apply(connection, challenge, "lnurl", key_hex, evidence, now_s)

    async def wallet_key(self, k1_hex: str) -> str | None:
        """For the page that shows the QR code: the key that answered; None: nobody yet."""
        return await self._store.read(challenges.wallet_key, lnurlauth.read_k1(k1_hex))

    def _apply(
        self,
        connection: Connection,
        proven: Challenge,
        method: str,
        key_hex: str,
        evidence: Evidence,
        now_s: int,
    ) -> Proof:
        account, value, change = proven.account, proven.value, None
        if proven.action == "destination.change":
            balance = self._balance_msat(connection, account)
            change = changes.request_change(
                connection, account, proven.old_value, value, evidence, balance_msat=balance, now_s=now_s
            )
        elif proven.action == "destination.cancel":
            change = changes.cancel(connection, account, value, evidence, now_s)
        elif proven.action == "wallet.link":
            if not challenges.wallet_shown(connection, self._host, account, value, now_s):
                raise ProofRefused("not_linked", "the wallet has not answered for this account")
            changes.link(connection, self._host, value, account, evidence, now_s)
        elif proven.action == "settings.change":
            changes.note(connection, account, "settings.proven", evidence, now_s)
        return Proof(account, proven.action, value, method, key_hex, change)

    # --- micro-deposits
    async def begin_deposit(self, account: str, action: str, value: str = "") -> int:
        """Start the proof of a Lightning account by two small payments; its id. They appear in `deposits_wanted`."""

        def step(connection: Connection) -> int:
            name = self._account(connection, account)
            if "@" not in name:
                raise ProofRefused("proof_kind", "an address signs for itself")
            new = self._values(connection, name, check_action(action), value)[1]
            return depositbook.begin(connection, name, action, new, limits=self._limits, now_s=self._clock())

        return await self._store.write(step)

    async def deposits_wanted(self) -> list[Wanted]:
        """For the payer alone: what has not arrived yet, to which Lightning address. It pays each id's two once."""

        def step(connection: Connection) -> list[Wanted]:
            open_now = depositbook.wanted(connection, self._clock())
            return [one for one in open_now if not self._deposits_arrived(connection, one.id)]

        return await self._store.read(step)

    async def prove_deposit(
        self, number: int, *, account: str, action: str, value: str, first_sat: int, second_sat: int
    ) -> Proof:
        """Redeem the two amounts, in either order, and apply what they prove."""
        name = self._canonical(account)
        wanted_value = parse_destination(value, self._network).text if action == "destination.change" else value

        def bound(connection: Connection, lock: bool) -> depositbook.Stored:
            stored = depositbook.load(connection, number, lock=lock)
            return depositbook.check_binding(stored, name, action, wanted_value)

        def step(connection: Connection) -> Proof | ProofRefused:
            now_s, stored = self._clock(), bound(connection, lock=True)
            both = self._deposits_arrived(connection, number)
            refused = depositbook.answer(connection, stored, first_sat, second_sat, both, now_s)
            if refused is not None:
                return refused
            old = changes.current(connection, name)
            proven = Challenge("", "message", self._pool_name, self._host, name, action, old, stored.value, 0, 0)
            evidence = Evidence(f"deposit {number}: {action} {stored.value}")
            return self._apply(connection, proven, "deposit", "", evidence, now_s)

        await self._store.read(bound, lock=False)  # made-up claims cost the writer nothing
        return _or_raise(await self._store.write(step))

    # --- reading, and what the owner does by the clock
    async def standing(self, account: str) -> Standing:
        """Where the account is paid, and what waits. A change counts only once `activate_due` made it active."""

        def step(connection: Connection) -> Standing:
            name = self._canonical(account)
            return Standing(changes.current(connection, name), changes.waiting(connection, name))

        return await self._store.read(step)

    async def history(self, account: str) -> list[Change]:
        """The account's changes, newest first."""
        return await self._store.read(changes.history, self._canonical(account))

    async def events(self, *, after_id: int = 0, account: str | None = None, limit: int = 100) -> list[Event]:
        """The journal, oldest first; lines with a notice are to be told to the member's channels."""
        return await self._store.read(changes.events, after_id=after_id, account=account, limit=limit)

    async def activate_due(self) -> list[Change]:
        """Make changes active whose delay is over: by the owner, every minute or so."""
        return await self._store.write(changes.activate_due, self._clock())

    async def sweep(self) -> int:
        """Drop what ended long ago, by the owner, every hour or so; how many rows."""

        def step(connection: Connection) -> int:
            now_s = self._clock()
            return challenges.sweep(connection, now_s) + depositbook.sweep(connection, now_s)

        return await self._store.write(step)


def _or_raise(done: Proof | ProofRefused) -> Proof:
    """A refusal that the store had to remember (a try spent) is raised only after the commit."""
    if isinstance(done, ProofRefused):
        raise done
    return done
