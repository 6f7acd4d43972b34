"""What can be wrong with a question to the scaling engine; each error names the value and says what would be right."""

from __future__ import annotations


class ScalingError(Exception):
    """Base of everything this package raises on purpose."""


class InvalidRecord(ScalingError, ValueError):
    """A symbol, capital, efficiency, metric or time stamp that cannot be an observation."""


class InvalidQuery(ScalingError, ValueError):
    """A capital, budget, cap, ticket, threshold or option that cannot be asked for."""


class NotEnoughData(ScalingError, ValueError):
    """Too few records, or all at one capital: no curve can be told from them."""


class Infeasible(ScalingError):
    """No allocation satisfies the constraints given (for example a required position above the budget)."""


class StoreError(ScalingError):
    """The database refused or holds something this version cannot read."""
