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

_CLI: dict[str, tuple[str, str]] = {
    "capital": ("Capital", "Capital"),
    "efficiency": ("Eficiencia", "Efficiency"),
    "band": ("Intervalo", "Interval"),
    "confidence": ("Confianza", "Confidence"),
    "marginal": ("Marginal", "Marginal"),
    "model": ("Modelo", "Model"),
    "notes": ("Notas", "Notes"),
    "symbol": ("Símbolo", "Symbol"),
    "share": ("Parte", "Share"),
    "reason": ("Por qué", "Why"),
    "status": ("Estado", "Status"),
    "records": ("Registros", "Records"),
    "mean_error": ("Error medio", "Mean error"),
    "max_error": ("Error máximo", "Maximum error"),
    "noise": ("Ruido de un registro", "Noise of one record"),
    "regime": ("Régimen", "Regime"),
    "changed": ("cambió en el registro {record}", "changed at record {record}"),
    "steady": ("sin cambios", "steady"),
    "figure": ("Medida", "Figure"),
    "result": ("Valor", "Value"),
    "weight": ("Peso", "Weight"),
    "aicc": ("AICc", "AICc"),
    "identifiable": ("Identificable", "Identifiable"),
    "parameters": ("Parámetros", "Parameters"),
    "yes": ("sí", "yes"),
    "no": ("no", "no"),
    "point": ("Punto", "Point"),
    "point_efficiency": ("Eficiencia al 80 % de la mejor", "Efficiency at 80 % of its best"),
    "point_saturation": ("Saturación (marginal = umbral)", "Saturation (marginal = hurdle)"),
    "point_capacity": ("Capacidad (marginal = 0)", "Capacity (marginal = 0)"),
    "not_reached": ("no se alcanza en cuatro veces lo observado", "not reached within four times the records"),
    "extrapolated": ("fuera de lo observado", "beyond the records"),
    "drifted": ("el régimen cambió", "the regime changed"),
    "status_provisional": ("provisional: pocos registros", "provisional: few records"),
    "status_prior": ("solo datos de mercado", "market data only"),
    "predict_title": ("Eficiencia prevista de {symbol}", "Predicted efficiency of {symbol}"),
    "optimize_title": ("Asignación de capital", "Capital allocation"),
    "analyze_title": ("Modelo de {symbol}", "Model of {symbol}"),
    "models_title": ("Modelos comparados", "Models compared"),
    "points_title": ("Puntos de saturación", "Saturation points"),
    "symbols_title": ("Símbolos con registros", "Symbols with records"),
    "total": (
        "Total {total:,.2f}; colocado {placed:,.2f}; sin asignar {unallocated:,.2f} (nada se fuerza más allá)",
        "Total {total:,.2f}; placed {placed:,.2f}; unallocated {unallocated:,.2f} (nothing is forced)",
    ),
    "value": (
        "Valor prudente {value:,.2f}; esperado {expected:,.2f}; precio sombra {price:.4f}",
        "Cautious value {value:,.2f}; expected {expected:,.2f}; shadow price {price:.4f}",
    ),
    "proof": (
        "Ningún otro reparto puede pasar de {bound:,.2f} (diferencia certificada {gap:.1e})",
        "No other allocation can exceed {bound:,.2f} (certified gap {gap:.1e})",
    ),
    "bootstrap": (
        "Bootstrap ({replicates} réplicas): saturación en [{low}, {high}], alcanzada en el {reached:.0%}",
        "Bootstrap ({replicates} replicates): saturation in [{low}, {high}], reached in {reached:.0%}",
    ),
    "backtest": (
        "Prueba hacia delante: {count} predicciones, error mediano {error:.4f}, dentro de su intervalo {coverage:.0%}",
        "Walk forward: {count} predictions, median error {error:.4f}, inside their interval {coverage:.0%}",
    ),
    "saved": ("Gráfico guardado en {path}", "Plot saved to {path}"),
    "bootstrapping": ("Bootstrap", "Bootstrap"),
    "importing": ("Importando", "Importing"),
    "imported": (
        "{fresh} registros nuevos, {known} ya conocidos: {symbols}",
        "{fresh} new records, {known} known before: {symbols}",
    ),
    "no_data": (
        "Sin datos suficientes de {symbol} en {db} ({records} registros; hacen falta 5 con capitales distintos).\n"
        "Importe los suyos:   python {program} importar registros.csv\n"
        "o pruebe con datos de demostración:   python {program} demo",
        "Not enough data for {symbol} in {db} ({records} records; 5 at different capitals are needed).\n"
        "Import yours:   python {program} import records.csv\n"
        "or try invented ones:   python {program} demo",
    ),
    "error": ("Error", "Error"),
}


def cli_text(key: str, language: str, **figures: object) -> str:
    """A sentence or heading of the command line in `es` or `en`."""
    spanish, english = _CLI[key]
    return (spanish if language == "es" else english).format(**figures)
