"""From template and payees to native Jobs: what a template's jobs share is made once, a job more is a counter more."""

from __future__ import annotations

from dataclasses import dataclass

from native.hashing import merkle_branches
from native.work import VERSION_MASK, Job
from pool.chain.coinbase import Coinbase, checked_commitment
from pool.chain.types import Output, Template, TemplateError, Tip, Transactions

#: Core refuses blocks over 7200 s ahead of its clock; the margin covers clocks that differ and slow sends.
NTIME_AHEAD_S = 7000
DEFAULT_VERSION = 0x20000000


@dataclass(frozen=True, slots=True)
class Prepared:
    """A template checked, with what every job on it needs: Merkle branches, version, time bounds, commitment."""

    template: Template
    branches: tuple[bytes, ...]
    commitment: bytes | None  # output script
    version: int  # without bits that miners may roll
    ntime_min: int
    ntime_max: int

    def ntime(self, elapsed_s: int) -> int:
        """The node's time when the template was made plus `elapsed_s`, within what a block may carry."""
        return min(max(self.template.curtime_s + elapsed_s, self.ntime_min), self.ntime_max)


@dataclass(frozen=True, slots=True)
class JobTag:
    """What a Job's `tag` tells the pool: where it came from and, with its coinbase, whom a block found on it pays."""

    prepared: Prepared
    coinbase: Coinbase
    mode: str
    account: str  # "" when the job is shared
    made_at_ns: int

    @property
    def outputs(self) -> tuple[Output, ...]:
        return self.coinbase.outputs


def prepare(template: Template) -> Prepared:
    """Check a template and make what its jobs share. TemplateError when it must not be mined, saying why."""
    if template.vbrequired & VERSION_MASK:
        # Miners roll these bits; a block with one of them cleared would be invalid, and nobody could tell before.
        raise TemplateError(
            f"the node requires version bits {template.vbrequired & VERSION_MASK:08x}, which miners roll: cannot mine"
        )
    if template.mintime_s > template.curtime_s + NTIME_AHEAD_S:
        raise TemplateError(
            f"the node's clock is {template.mintime_s - template.curtime_s} s behind the time a block must carry"
        )
    txids = template.transactions.txids
    joined = merkle_branches(txids)
    return Prepared(
        template=template,
        branches=tuple(joined[at : at + 32] for at in range(0, len(joined), 32)),
        commitment=checked_commitment(template),
        version=template.version & ~VERSION_MASK,
        ntime_min=template.mintime_s,
        ntime_max=max(template.curtime_s + NTIME_AHEAD_S, template.mintime_s),
    )


def make_job(job_id: int, tag: JobTag, elapsed_s: int = 0) -> Job:
    """A Job with this id as its coinbase's counter. Transactions and branches are shared, not copied."""
    prepared, template = tag.prepared, tag.prepared.template
    return Job(
        job_id=job_id,
        coinb1=tag.coinbase.coinb1(job_id),
        coinb2=tag.coinbase.coinb2,
        branches=prepared.branches,
        prevhash=template.prevhash,
        version=prepared.version,
        nbits=template.nbits,
        ntime=prepared.ntime(elapsed_s),
        ntime_min=prepared.ntime_min,
        ntime_max=prepared.ntime_max,
        height=template.height,
        transactions=template.transactions.data,
        tx_count=template.transactions.count,
        witness_commitment=tag.coinbase.has_witness,
        tag=tag,
    )


def tag_of(job: Job) -> JobTag:
    """The tag of a Job made here."""
    if not isinstance(job.tag, JobTag):
        raise TypeError(f"job {job.job_id_hex} was not made by pool.chain.jobs")
    return job.tag


def empty_first(tip: Tip, version: int, now_s: int) -> Template | None:
    """A subsidy-only template on a tip just seen, to bridge the time until the full one.

    Its value is the subsidy alone, by the network's halving (R10); no transactions, so no witness commitment. None
    where nBits may change, and where the node does not tell the tip's median time (btcd: 0), which the block must pass.
    """
    height = tip.height + 1
    if not tip.network.nbits_foretold(height) or tip.mediantime_s <= 0:
        return None
    mintime_s = tip.mediantime_s + 1
    return Template(
        network=tip.network,
        height=height,
        prevhash=tip.hash,
        prevhash_hex=tip.hash_hex,
        version=version,
        nbits=tip.nbits,
        curtime_s=max(now_s, mintime_s),
        mintime_s=mintime_s,
        coinbase_value_sat=tip.network.subsidy_sat(height),
        transactions=Transactions(),
        witness_commitment=None,
        weight_limit=4_000_000,
        sigop_limit=80_000,
        rules=(),
        vbrequired=0,
        received_at_ns=tip.received_at_ns,
        complete=False,
    )
