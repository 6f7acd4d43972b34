"""The work desk: turns tips and templates into published jobs, and says whether there is work at all."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from native.work import Job, JobTable
from pool.address import AddressError, parse_address
from pool.chain.coinbase import (
    FIRMWARE,
    Coinbase,
    CoinbaseError,
    FirmwareClass,
    Member,
    Style,
    build,
    pay_direct,
    pay_pool,
    pay_solo,
    proof_script,
    room,
)
from pool.chain.jobs import DEFAULT_VERSION, JobTag, Prepared, empty_first, make_job, prepare, tag_of
from pool.chain.types import Network, NodeState, Output, Template, TemplateError, Tip
from pool.config import CoinbaseSection, StratumSection

log = logging.getLogger(__name__)

#: A full template mostly follows its tip faster than this; then a job without transactions would only cost a notify.
EMPTY_AFTER_S = 0.05
TEMPLATE_LOSS_S = 60.0
#: Slots of the job table: in `solo` each account has its own job every 30 s, kept for ten minutes.
JOB_SLOTS = 65536
LEFT_TIPS_KEPT = 64


@dataclass(frozen=True, slots=True)
class WorkState:
    """Whether there is work, in words for miners."""

    ok: bool
    reason: str  # "" when ok
    since_s: float  # wall clock


@dataclass(frozen=True, slots=True)
class Payees:
    """Whom coinbases pay: plain callables handed down by the porch, asked once per template and mode."""

    pool_script: Callable[[], bytes]  # the pool's own output: fresh per block, or fixed
    members: Callable[[], tuple[Sequence[Member], int]] = lambda: ((), 0)  # `direct`: members and the total score
    proof_root: Callable[[], bytes | None] = lambda: None  # 32 bytes every job shall commit to
    solo_fee_bp: int = 0


@dataclass(frozen=True, slots=True)
class DirectRule:
    """`direct`: how much room members' outputs get."""

    firmware: FirmwareClass = FIRMWARE["axeos"]
    coinb2_bytes: int = 384
    smallest_sat: int = 10_000


class WorkDesk:
    """Hears the follower (it is its WorkSink), publishes jobs into `jobs`, tells listeners; `run` is its clock.

    Modes: "ledger", "direct" (or "direct:<firmware class>" for outputs that such devices take) and "solo". Everything
    happens on the loop's thread.
    """

    def __init__(
        self,
        network: Network,
        payees: Payees,
        *,
        main_mode: str = "ledger",
        style: Style | None = None,
        direct: DirectRule | None = None,
        refresh_s: float = 30.0,
        job_lifetime_s: float = 600.0,
        empty_after_s: float = EMPTY_AFTER_S,
        template_loss_s: float = TEMPLATE_LOSS_S,
        slots: int = JOB_SLOTS,
        boot_s: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.jobs = JobTable(slots, boot_s)
        self.state = WorkState(False, "waiting for the node", time.time())
        self._network, self._payees, self._main_mode = network, payees, main_mode
        self._style, self._direct = style or Style(), direct or DirectRule()
        self._refresh_s, self._lifetime_s = refresh_s, job_lifetime_s
        self._empty_after_s, self._template_loss_s = empty_after_s, template_loss_s
        self._monotonic = monotonic
        self._listeners: list[Callable[[bool], None]] = []
        self._node = NodeState(False, "waiting for the node", time.time())
        self._prepared: Prepared | None = None
        self._template_fault = ""  # why the newest template cannot be mined
        self._coinbase_fault = ""  # why the main mode has no job
        self._newest: dict[tuple[str, str], Job] = {}  # of the present generation, by mode and account
        self._refused: set[tuple[str, str]] = set()  # of the present generation: no coinbase for them
        self._generations: deque[tuple[float, int]] = deque()  # when each began, and the first job id that is not older
        self._told_prevhash = b""
        self._untold = False
        self._template_s = float("-inf")  # when the last full template came
        self._prepared_s = 0.0  # when the present one came
        self._published_s = 0.0
        self._version = DEFAULT_VERSION
        self._bridge: tuple[float, Tip] | None = None  # at which time to send out an empty job, on which tip
        self._left: OrderedDict[bytes, None] = OrderedDict()  # tips that were left, newest last
        self._woken = asyncio.Event()

    @classmethod
    def from_config(
        cls,
        network: Network,
        payees: Payees,
        coinbase: CoinbaseSection,
        stratum: StratumSection,
        *,
        boot_s: int | None = None,
    ) -> WorkDesk:
        """`boot_s`: where job ids begin; the share log's epoch, which no two starts share (the clock may repeat)."""
        return cls(
            network,
            payees,
            main_mode=coinbase.mode,
            style=Style(coinbase.tag.encode("ascii"), coinbase.bip54),
            direct=DirectRule(FIRMWARE["axeos-to-2.15"], coinbase.direct_max_bytes, coinbase.direct_min_sat),
            refresh_s=stratum.refresh_s,
            job_lifetime_s=stratum.job_lifetime_s,
            boot_s=boot_s,
        )

    # --- what stratum asks (architecture: Work)

    def job_for(self, mode: str, account: str) -> Job | None:
        """Newest job of a mode; in "solo" the account's own (a bitcoin address of this network). None: no work now."""
        if not self.state.ok or self._prepared is None or self._prepared.template.prevhash != self.jobs.tip:
            return None
        key = (mode, account if mode == "solo" else "")
        job = self._newest.get(key)
        if job is None and key not in self._refused:
            try:
                job = self._newest[key] = self._make(*key)
            except (CoinbaseError, AddressError) as error:
                self._refused.add(key)
                log.warning("no job in mode %s for %s: %s", mode, account or "the pool", error)
        return job

    def variant(self, job: Job) -> Job:
        """The same template and outputs under a fresh id, which is a fresh coinbase counter: new header space."""
        return self._publish(tag_of(job))

    def listen(self, callback: Callable[[bool], None]) -> None:
        """`callback` is called after each publish; True when the previous block is another than at the last call."""
        self._listeners.append(callback)

    # --- what the follower tells (types.WorkSink)

    def on_tip(self, tip: Tip) -> None:
        before = self.jobs.tip
        if tip.hash == before:
            return
        self._move_to(tip.hash)
        if self._prepared is None or self._prepared.template.prevhash != tip.hash:
            self._bridge = (self._monotonic() + self._empty_after_s, tip)
            self._woken.set()

    def on_template(self, template: Template) -> None:
        prevhash = template.prevhash
        if prevhash != self.jobs.tip:
            if prevhash in self._left:
                log.info("late template on block %s, which is not the tip any more", template.prevhash_hex)
                return
            self._move_to(prevhash)
        try:
            prepared = prepare(template)
        except TemplateError as error:
            log.error("template at height %d cannot be mined: %s", template.height, error)
            self._template_fault = str(error)
            self._refresh_state()
            return
        self._template_fault = ""
        self._version = template.version
        self._template_s = self._monotonic()
        self._begin(prepared)

    def on_node_state(self, state: NodeState) -> None:
        self._node = state
        self._refresh_state()

    def _move_to(self, prevhash: bytes) -> None:
        if self.jobs.tip:
            self._left[self.jobs.tip] = None
            self._left.move_to_end(self.jobs.tip)
        while len(self._left) > LEFT_TIPS_KEPT:
            self._left.popitem(last=False)
        self.jobs.set_tip(prevhash)
        self._bridge = None

    # --- the clock

    async def run(self) -> None:
        """Empty jobs when due, a fresh job each refresh_s, old jobs retired, the state kept true. Until cancelled."""
        while True:
            self._woken.clear()
            self.tick()
            try:
                async with asyncio.timeout(self._pause_s()):
                    await self._woken.wait()
            except TimeoutError:
                continue

    def tick(self) -> None:
        """What is due now."""
        now_s = self._monotonic()
        if self._bridge is not None and now_s >= self._bridge[0]:
            tip, self._bridge = self._bridge[1], None
            self._send_empty(tip)
        self._refresh_state()
        prepared = self._prepared
        if prepared is not None and self.state.ok and now_s - self._published_s >= self._refresh_s:
            self._begin(prepared)
        self._retire(now_s)

    def _pause_s(self) -> float:
        pause_s = min(1.0, self._refresh_s)
        if self._bridge is not None:
            pause_s = min(pause_s, max(self._bridge[0] - self._monotonic(), 0.0))
        return pause_s

    def _send_empty(self, tip: Tip) -> None:
        if not self._node.ok:
            return  # in initial download, or lagging: the tip races on, and its work would be dead
        template = empty_first(tip, self._version, int(time.time()))
        if template is not None:
            self._begin(prepare(template))

    def _retire(self, now_s: float) -> None:
        """A job may be sent out until the next generation begins; from then on it stays for its lifetime, stale or not:
        a block found on it must still be put together."""
        while len(self._generations) > 1 and now_s - self._generations[1][0] >= self._lifetime_s:
            self._generations.popleft()
            self.jobs.retire_before(self._generations[0][1])

    # --- publishing

    def _begin(self, prepared: Prepared) -> None:
        """A new generation of jobs: from a new template, or from the same with later time and fresh counters."""
        now_s = self._monotonic()
        if prepared is not self._prepared:
            self._prepared, self._prepared_s = prepared, now_s
        self._bridge = None
        self._published_s = now_s
        self._newest.clear()
        self._refused.clear()
        self._coinbase_fault = ""
        self._generations.append((now_s, self.jobs.next_id()))
        if self._main_mode != "solo":
            try:
                self._newest[self._main_mode, ""] = self._make(self._main_mode, "")
            except CoinbaseError as error:
                log.error("no coinbase at height %d: %s", prepared.template.height, error)
                self._coinbase_fault = str(error)
        self._untold = True
        self._refresh_state()
        self._tell()

    def _refresh_state(self) -> None:
        reason = self._reason()
        if (not reason, reason) != (self.state.ok, self.state.reason):
            self.state = WorkState(not reason, reason, time.time())
        self._tell()

    def _reason(self) -> str:
        if not self._node.ok:
            return self._node.reason or "the node is not ready"
        if self._coinbase_fault:
            return self._coinbase_fault
        if self._prepared is None:
            return self._template_fault or "waiting for the first block template"
        if self._template_fault and self._prepared.template.prevhash != self.jobs.tip:
            return self._template_fault
        if self._monotonic() - self._template_s > self._template_loss_s:
            return self._template_fault or "the node gives no block templates"
        return ""

    def _tell(self) -> None:
        """Listeners hear of a generation once, when there is work to hand out."""
        if not self._untold or not self.state.ok or self._prepared is None:
            return
        self._untold = False
        prevhash = self._prepared.template.prevhash
        changed, self._told_prevhash = prevhash != self._told_prevhash, prevhash
        for callback in self._listeners:
            callback(changed)

    def _make(self, mode: str, account: str) -> Job:
        prepared = self._prepared
        assert prepared is not None
        return self._publish(JobTag(prepared, self._coinbase(prepared, mode, account), mode, account, time.time_ns()))

    def _publish(self, tag: JobTag) -> Job:
        elapsed_s = int(self._monotonic() - self._prepared_s) if tag.prepared is self._prepared else 0
        job = make_job(self.jobs.next_id(), tag, elapsed_s)
        self.jobs.publish(job)
        return job

    # --- coinbases

    def _coinbase(self, prepared: Prepared, mode: str, account: str) -> Coinbase:
        root = self._payees.proof_root()
        proof = proof_script(root) if root is not None else None
        outputs = self._outputs(prepared, mode, account, proof)
        return build(prepared.template, outputs, self._style, prepared.commitment, proof)

    def _outputs(self, prepared: Prepared, mode: str, account: str, proof: bytes | None) -> tuple[Output, ...]:
        template, pool_script = prepared.template, self._payees.pool_script()
        if mode == "ledger":
            return pay_pool(template.coinbase_value_sat, pool_script)
        if mode == "solo":
            miner = Output(parse_address(account, self._network.address_network).script, 0, account)
            return pay_solo(template.coinbase_value_sat, miner, pool_script, self._payees.solo_fee_bp)
        kind, _, firmware_name = mode.partition(":")
        if kind != "direct" or (firmware_name and firmware_name not in FIRMWARE):
            raise CoinbaseError(f"no mode {mode!r}")
        members, total_score = self._payees.members()
        rule = self._direct
        firmware = FIRMWARE[firmware_name] if firmware_name else rule.firmware
        unpaid = [script for script in (proof, prepared.commitment) if script is not None]
        space = room(template, self._style, unpaid, firmware, rule.coinb2_bytes)
        return pay_direct(template.coinbase_value_sat, members, total_score, pool_script, space, rule.smallest_sat)
