"""How one income is split among members: unit-PPLNS (M. Rosenfeld, "Analysis of Bitcoin Pooled Mining Reward
Systems", 2011, section 5; arXiv 1112.4980) in exact integers. Pure: no database, no clock, no float.

A share's score is its work over the network's work of the nBits it was made for: the part of one expected block it
was. Scores are counted in attoblocks (10^-18 of a block). A window of X attoblocks reaches back from the income;
score beyond it earns nothing, the slice on its edge earns in part, and nothing is ever reset at a block. While a
young pool's window holds less than kappa, the part below kappa goes to the reserve and not to whoever happens to be
there first."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

SCALE = 10**18
BASIS_POINTS = 10_000

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class WorkSum:
    """Work of one account in one slice, made for one nBits (and, where subsidies are weighted, under one subsidy)."""

    account: int
    work: int  # exact: sum of 2^256 // (target + 1)
    network_work: int  # of the nBits
    subsidy_sat: int = 0  # of the height it was made for; 0 where policy does not weight


@dataclass(frozen=True, slots=True)
class Window:
    """Score inside the window: per account and subsidy, and in all. `slices` counts those touched, the one on the
    edge included."""

    scores: dict[tuple[int, int], int]
    total: int
    slices: int

    def by_account(self) -> dict[int, int]:
        out: dict[int, int] = {}
        for (account, _), score in self.scores.items():
            out[account] = out.get(account, 0) + score
        return out


@dataclass(frozen=True, slots=True)
class Policy:
    """What the club decided; versioned and effective from a height (pool.ledger.policy). All parts in basis points
    of the income."""

    window: int = SCALE  # X, attoblocks
    kappa: int = SCALE // 20
    fee_bp: int = 0
    reserve_bp: int = 0
    projects_bp: int = 0
    raffle_bp: int = 0
    finder_bp: int = 0
    weight_subsidy: bool = False
    donation_bp: int = 0  # of the part of members who chose nothing
    release_months: int = 0  # of the reserve, 1/this is paid back each month; 0: never

    def __post_init__(self) -> None:
        wrong = [
            f"{name} must be from 0 to {BASIS_POINTS} basis points, got {getattr(self, name)}"
            for name in ("fee_bp", "reserve_bp", "projects_bp", "raffle_bp", "finder_bp", "donation_bp")
            if not 0 <= getattr(self, name) <= BASIS_POINTS
        ]
        parts = self.fee_bp + self.reserve_bp + self.projects_bp + self.raffle_bp + self.finder_bp
        if parts > BASIS_POINTS:
            wrong.append(f"the parts add up to {parts} basis points: more than the whole income")
        if self.window <= 0 or not 0 <= self.kappa <= self.window:
            wrong.append(f"window must be above 0 and kappa from 0 to it, got {self.window} and {self.kappa}")
        if self.release_months < 0:
            wrong.append(f"release_months must not be negative, got {self.release_months}")
        if wrong:
            raise ValueError("; ".join(wrong))


@dataclass(frozen=True, slots=True)
class Split:
    """One income, divided to the last millisatoshi: fee + reserve + projects + raffle + sum(members) +
    sum(donations) = amount."""

    amount_msat: int
    fee_msat: int
    reserve_msat: int  # its basis points and what kappa kept back
    projects_msat: int
    raffle_msat: int
    members_msat: dict[int, int] = field(default_factory=dict)  # after donations, finder bonus included
    donations_msat: dict[int, int] = field(default_factory=dict)  # by the account that gives
    kappa_msat: int = 0  # of the reserve: the part below kappa
    finder_msat: int = 0  # of the members: the bonus

    def total_msat(self) -> int:
        named = self.fee_msat + self.reserve_msat + self.projects_msat + self.raffle_msat
        return named + sum(self.members_msat.values()) + sum(self.donations_msat.values())


def score_of(work: int, network_work: int) -> int:
    """Attoblocks, floored once. A sum of work is scored as a sum: splitting it into slices changes nothing."""
    return work * SCALE // network_work


def largest_remainder(total: int, weights: Sequence[tuple[K, int]]) -> dict[K, int]:
    """`total` divided by weight: floors first, then one more to the largest remainders; ties go to whoever stands
    first in `weights`. Sums to `total` exactly, each within 1 of its exact part. ValueError when weights are
    negative or add up to nothing."""
    whole = sum(weight for _, weight in weights)
    if whole <= 0 or any(weight < 0 for _, weight in weights):
        raise ValueError("weights must not be negative and must add up to more than zero")
    parts = [divmod(total * weight, whole) for _, weight in weights]
    left = total - sum(part for part, _ in parts)
    extra = set(sorted(range(len(parts)), key=lambda i: (-parts[i][1], i))[:left])
    return {key: parts[i][0] + (i in extra) for i, (key, _) in enumerate(weights)}


def window_of(slices: Iterable[Sequence[WorkSum]], window: int) -> Window:
    """Walk `slices` newest first until they hold `window` attoblocks. The slice on the edge counts in part, each
    account's part of it in proportion; older slices are never asked for.

    `pool.ledger.window` reads the same from the database without holding every slice; this is what it must equal."""
    sums: dict[tuple[int, int, int], int] = {}
    walk = Walk(window)
    for entries in slices:
        if walk.room() == 0:
            break
        totals: dict[int, int] = {}
        for entry in entries:
            totals[entry.network_work] = totals.get(entry.network_work, 0) + entry.work
        if not walk.take(totals):
            return make_window(sums, entries, walk.room(), walk.slices + 1)
        for entry in entries:
            key = (entry.account, entry.network_work, entry.subsidy_sat)
            sums[key] = sums.get(key, 0) + entry.work
    return make_window(sums, (), 0, walk.slices)


class Walk:
    """How far a window reaches back. What was taken is scored as one sum per network work, so that neither cutting
    slices nor merging them moves the edge, and no rounding lets the window hold more than it may."""

    def __init__(self, window: int) -> None:
        """`window` in attoblocks."""
        self._window, self._taken = window, dict[int, int]()
        self._score = 0
        self.slices = 0

    def room(self) -> int:
        """Attoblocks that still fit."""
        return self._window - self._score

    def take(self, totals: Mapping[int, int]) -> bool:
        """The next older slice, as work by network work. False, and nothing taken, when it does not fit whole."""
        score = self._score
        for network_work, work in totals.items():
            taken = self._taken.get(network_work, 0)
            score += score_of(taken + work, network_work) - score_of(taken, network_work)
        if score > self._window:
            return False
        for network_work, work in totals.items():
            self._taken[network_work] = self._taken.get(network_work, 0) + work
        self._score = score
        self.slices += 1
        return True


def make_window(
    sums: Mapping[tuple[int, int, int], int], edge: Sequence[WorkSum], room: int, slices: int
) -> Window:
    """From work inside as a whole, by (account, network work, subsidy), and the slice on the edge, of which `room`
    attoblocks count."""
    scores = _part_of(edge, room)
    for (account, network_work, subsidy_sat), work in sums.items():
        mine = score_of(work, network_work)
        if mine:
            scores[account, subsidy_sat] = scores.get((account, subsidy_sat), 0) + mine
    return Window(scores, sum(scores.values()), slices)


def _part_of(entries: Sequence[WorkSum], room: int) -> dict[tuple[int, int], int]:
    own: dict[tuple[int, int], int] = {}
    for entry in entries:
        key = (entry.account, entry.subsidy_sat)
        own[key] = own.get(key, 0) + score_of(entry.work, entry.network_work)
    weights = sorted((key, score) for key, score in own.items() if score)
    return largest_remainder(min(room, sum(score for _, score in weights)), weights) if weights else {}


def split(
    amount_msat: int,
    window: Window,
    policy: Policy,
    *,
    finder: int | None = None,
    donation_bp: Mapping[int, int] | None = None,
    subsidy_sat: int = 0,
) -> Split:
    """Divide one income. `finder` is the account of a block's finder (the bonus goes to the pot when there is
    none); `donation_bp` what each account gives of its part; `subsidy_sat` the present subsidy, the yardstick of
    kappa where policy weights by subsidy. ValueError on a negative amount or a donation outside 0..10,000."""
    if amount_msat < 0:
        raise ValueError(f"an income cannot be negative, got {amount_msat} msat")
    fee, reserve, projects, raffle, bonus = (
        amount_msat * bp // BASIS_POINTS
        for bp in (policy.fee_bp, policy.reserve_bp, policy.projects_bp, policy.raffle_bp, policy.finder_bp)
    )
    if finder is None:
        bonus = 0
    pot = amount_msat - fee - reserve - projects - raffle - bonus
    members, kept = _divide_pot(pot, window, policy, subsidy_sat)
    if finder is not None and bonus:
        members[finder] = members.get(finder, 0) + bonus
    donations = _take_donations(members, donation_bp or {})
    out = Split(
        amount_msat, fee, reserve + kept, projects, raffle, members, donations, kappa_msat=kept, finder_msat=bonus
    )
    assert out.total_msat() == amount_msat
    return out


def _divide_pot(pot: int, window: Window, policy: Policy, subsidy_sat: int) -> tuple[dict[int, int], int]:
    """(members, kept for the reserve). With subsidy weighting a score counts as much as the coins the network paid
    for it."""
    weights: dict[int, int] = {}
    for (account, subsidy), score in window.scores.items():
        weights[account] = weights.get(account, 0) + score * (subsidy if policy.weight_subsidy else 1)
    short = max(policy.kappa - window.total, 0) * (subsidy_sat if policy.weight_subsidy else 1)
    ranked: list[tuple[int | None, int]] = [*sorted(weights.items()), (None, short)]
    if sum(weight for _, weight in ranked) == 0:
        return {}, pot
    parts = largest_remainder(pot, ranked)
    kept = parts.pop(None)
    return {account: part for account, part in parts.items() if account is not None and part}, kept


def _take_donations(members: dict[int, int], donation_bp: Mapping[int, int]) -> dict[int, int]:
    donations: dict[int, int] = {}
    for account, bp in donation_bp.items():
        if not 0 <= bp <= BASIS_POINTS:
            raise ValueError(f"donation of account {account} must be from 0 to {BASIS_POINTS} basis points, got {bp}")
        given = members.get(account, 0) * bp // BASIS_POINTS
        if given:
            donations[account] = given
            members[account] -= given
    return donations
