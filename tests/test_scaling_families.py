"""The curve families: closed forms against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.scaling_worlds import in_capital_units
from scaling import families
from scaling.families import SIZE, Family
from scaling.profit import ParametricProfit, SegmentProfit
from scaling.synthetic import draw_curve


def _draws(family: Family, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array([in_capital_units(draw_curve(rng, family, float(10 ** rng.uniform(3, 6)))) for _ in range(count)])


@pytest.mark.parametrize("family", list(Family))
def test_the_closed_saturation_point_is_where_the_marginal_meets_the_hurdle(family: Family) -> None:
    """Figure 19: residual <= 1e-12 over 2,000 draws of each family."""
    theta = _draws(family, 2000, 19)
    hurdle = np.random.default_rng(20).uniform(0.0, 0.3, 2000)
    at = families.saturation(family, theta, hurdle)
    known = np.isfinite(at)
    assert known.mean() > 0.4
    residual = np.abs(families.marginal(family, theta[known], at[known]) - hurdle[known])
    assert residual.max() <= 1e-12
    assert (families.marginal_slope(family, theta[known], at[known]) <= 1e-18).all(), (
        "a maximum of profit, not a minimum"
    )


@pytest.mark.parametrize("family", list(Family))
def test_no_saturation_point_means_the_marginal_never_falls_through_the_hurdle(family: Family) -> None:
    theta = _draws(family, 200, 21)
    at = families.saturation(family, theta, 0.05)
    for row in np.flatnonzero(~np.isfinite(at)):
        c = np.geomspace(1e-3, 1e9, 20_001)
        marginal = families.marginal(family, theta[row], c)
        falls = (marginal[:-1] >= 0.05) & (marginal[1:] < 0.05)
        assert not falls.any(), (family, theta[row])


@pytest.mark.parametrize("family", list(Family))
def test_jacobians_and_marginals_are_the_derivatives_they_claim_to_be(family: Family) -> None:
    rng = np.random.default_rng(23)
    c = np.array([0.3, 0.7])
    for _ in range(50):
        theta = np.array(draw_curve(rng, family).theta)
        step = 1e-6 * c
        up, down = c + step, c - step
        rise = up * families.efficiency(family, theta, up) - down * families.efficiency(family, theta, down)
        numeric = rise / (2 * step)
        assert np.allclose(families.marginal(family, theta, c), numeric, rtol=1e-6, atol=1e-8)
        for k in range(SIZE[family]):
            higher, lower = theta.copy(), theta.copy()
            move = 1e-6 * max(abs(theta[k]), 1e-9)
            higher[k] += move
            lower[k] -= move
            by_hand = (families.efficiency(family, higher, c) - families.efficiency(family, lower, c)) / (2 * move)
            assert np.allclose(families.jacobian(family, theta, c)[:, k], by_hand, rtol=1e-4, atol=1e-7)
            by_hand = (families.marginal(family, higher, c) - families.marginal(family, lower, c)) / (2 * move)
            assert np.allclose(families.marginal_jacobian(family, theta, c)[:, k], by_hand, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("family", list(Family))
def test_parameters_in_capital_units_draw_the_same_curve(family: Family) -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        curve = draw_curve(rng, family, float(10 ** rng.uniform(2, 7)))
        c = curve.scale * np.linspace(0.01, 2, 9)
        assert np.allclose(curve.efficiency(c), families.efficiency(family, in_capital_units(curve), c), rtol=1e-12)


_theta = st.tuples(*[st.floats(-2, 2, allow_nan=False)] * 3)


@given(family=st.sampled_from(list(Family)), theta=_theta, floor=st.floats(-1, 1), price=st.floats(-1, 2))
def test_the_best_amount_beats_every_admissible_amount_of_a_fine_grid(
    family: Family, theta: tuple[float, float, float], floor: float, price: float
) -> None:
    """Any parameters at all, also rising and convex ones: the closed-form maximiser is never beaten, and admissible."""
    row = np.array([theta])
    if family is Family.EXPONENTIAL:
        row = np.abs(row) * np.array([1, 1, 0]) + row * np.array([0, 0, 1]) + np.array([1e-6, 1e-3, 0])
    profit = ParametricProfit.of(np.array([int(family)]), row, np.array([3.0]), floor)
    c, gain = profit.best(np.array([price]))
    grid = np.linspace(0.0, 3.0, 3001)
    e = families.efficiency(family, row[0], grid)
    inside = (grid >= profit.low[0]) & (grid <= profit.high[0])
    best = np.where(inside, grid * e - price * grid, -np.inf).max(initial=0.0)
    assert gain[0] >= best - 1e-9
    if c[0] > 0:
        assert profit.low[0] <= c[0] <= profit.high[0]
        assert families.efficiency(family, row[0], c)[0] >= floor - 1e-9 * max(1.0, abs(floor)) - 1e-7


@given(st.data())
def test_a_piecewise_curve_is_maximised_exactly_over_its_admissible_parts(data: st.DataObject) -> None:
    """Knots anywhere, E through them rising or falling, a floor that cuts the domain into several intervals, a
    ticket."""
    width = data.draw(st.integers(2, 7))
    knots = np.cumsum([0.0, *data.draw(st.lists(st.floats(0.01, 3), min_size=width, max_size=width))])
    e = np.array(data.draw(st.lists(st.floats(-1, 1), min_size=width + 1, max_size=width + 1)))
    floor, ticket, price = data.draw(st.floats(-1, 1)), data.draw(st.floats(0, 3)), data.draw(st.floats(-0.5, 1))
    profit = SegmentProfit.of(knots[None], e[None], floor, ticket)
    c, gain = profit.best(np.array([price]))
    grid = np.linspace(0, knots[-1], 4001)
    on_grid = np.interp(grid, knots, e)
    inside = (on_grid >= floor) & (grid >= ticket) & (grid > 0)
    best = np.where(inside, grid * on_grid - price * grid, -np.inf).max(initial=0.0)
    assert gain[0] >= best - 1e-9
    if c[0] > 0:
        assert c[0] >= ticket
        assert np.interp(c[0], knots, e) >= floor - 1e-9
        assert profit.value(c)[0] - price * c[0] == pytest.approx(gain[0], abs=1e-9)
