"""Sentences a member or operator reads about an allocation or a model, in Spanish and English."""

from __future__ import annotations

from collections.abc import Mapping

_REASONS: dict[str, tuple[str, str]] = {
    "price": (
        "su última unidad rinde {marginal:.4g}, igual que en los demás (precio sombra {price:.4g})",
        "its last unit earns {marginal:.4g}, as everywhere else (shadow price {price:.4g})",
    ),
    "jump": (
        "cantidad entera por escalones: con menos quedaría peor y el presupuesto no da para más (rinde {marginal:.4g})",
        "its curve has steps: less would earn less, the budget leaves no more (earns {marginal:.4g} at the margin)",
    ),
    "saturated": (
        "saturado: la siguiente unidad rendiría menos que el umbral {hurdle:.4g}; no se fuerza más capital",
        "saturated: the next unit would earn less than the hurdle {hurdle:.4g}; nothing is forced past that",
    ),
    "at_cap": ("en su tope de {limit:,.2f}", "at its cap of {limit:,.2f}"),
    "at_trust": (
        "en su región de confianza: {limit:,.2f}, {times:.3g} veces el mayor capital observado ({c_max:,.2f})",
        "at its trust region: {limit:,.2f}, {times:.3g} times the largest observed capital ({c_max:,.2f})",
    ),
    "at_ramp": (
        "en su rampa: {limit:,.2f} como mucho en esta revisión (antes tenía {previous:,.2f})",
        "at its ramp: at most {limit:,.2f} in this review (it held {previous:,.2f})",
    ),
    "at_no_extrapolation": (
        "en el mayor capital observado ({limit:,.2f}): los datos no dicen qué hay más allá",
        "at the largest observed capital ({limit:,.2f}): the data cannot tell what lies beyond",
    ),
    "at_first_ticket": (
        "primer ticket de {limit:,.2f}: aún sin registros propios, solo datos de mercado",
        "a first ticket of {limit:,.2f}: no records of its own yet, only market data",
    ),
    "at_min_efficiency": (
        "con más capital su eficiencia prudente caería bajo el mínimo {floor:.4g}",
        "with more capital its cautious efficiency would fall under the minimum {floor:.4g}",
    ),
    "at_ticket": ("en su ticket mínimo de {limit:,.2f}", "at its minimum ticket of {limit:,.2f}"),
    "group": (
        "limitado por el tope de su grupo (una unidad más de grupo valdría {group_price:.4g})",
        "limited by its group's cap (one more unit for the group would be worth {group_price:.4g})",
    ),
    "risk": (
        "limitado por el presupuesto de riesgo (precio del riesgo {risk_price:.4g})",
        "limited by the risk budget (price of risk {risk_price:.4g})",
    ),
    "not_worth": (
        "nada: su mejor unidad rinde {best:.4g}, menos que el precio {price:.4g}",
        "nothing: its best return per unit is {best:.4g}, below the price {price:.4g}",
    ),
    "no_room": (
        "nada: necesitaría al menos {least:,.2f} de una vez y el presupuesto no lo deja sin quitar a otros mejores",
        "nothing: it would need at least {least:,.2f} at once, which the budget leaves only by taking from better ones",
    ),
    "below_minimum": (
        "nada: su eficiencia prudente no llega al mínimo {floor:.4g} en ningún capital (mejor {best:.4g})",
        "nothing: its cautious efficiency reaches the minimum {floor:.4g} at no capital (best {best:.4g})",
    ),
    "ticket_too_large": (
        "nada: el ticket mínimo {ticket:,.2f} supera lo que puede llevar ({limit:,.2f})",
        "nothing: the minimum ticket {ticket:,.2f} exceeds what it can carry ({limit:,.2f})",
    ),
    "no_data": (
        "nada: {records:.0f} registros; hacen falta al menos {needed:.0f}, con capitales distintos",
        "nothing: {records:.0f} records; at least {needed:.0f} are needed, at different capitals",
    ),
}


def reason_text(code: str, figures: Mapping[str, float], language: str) -> str:
    """The sentence of a reason code with its figures."""
    spanish, english = _REASONS[code]
    return (spanish if language == "es" else english).format(**figures)


STATUS_ES = {
    "full": "completo",
    "provisional": "provisional",
    "prior": "solo mercado",
    "insufficient": "datos insuficientes",
}
MODEL_ES = {
    "linear": "lineal",
    "polynomial": "polinomial",
    "exponential": "exponencial",
    "sqrt": "raíz cuadrada",
    "none": "ninguno",
}
