"""The effective fee in the words of whoever mines (promise P8): exact, in Spanish and English."""

from __future__ import annotations

from fractions import Fraction

from pool.config.sections import FeesSection

_NAMES = {
    "en": ("operator", "reserve", "projects", "raffle", "donation to projects"),
    "es": ("operador", "reserva", "proyectos", "sorteo", "donación a proyectos"),
}
_SENTENCE = {
    "en": "Effective fee {taken}: you keep {kept} of each block.",
    "es": "Comisión efectiva {taken}: recibes el {kept} de cada bloque.",
}


def kept_fraction(fees: FeesSection) -> Fraction:
    """Part of a block that members receive, donation by default taken off as well."""
    before = 10_000 - fees.fee_bp - fees.reserve_bp - fees.projects_bp - fees.raffle_bp
    return Fraction(before * (10_000 - fees.donation_bp), 10_000 * 10_000)


def percent(part: Fraction, language: str) -> str:
    """Exact percentage ("98.5 %"): basis points, and products of two of them, end after six decimals."""
    millionths = part * 100 * 1_000_000
    assert millionths.denominator == 1
    whole, rest = divmod(abs(millionths.numerator), 1_000_000)
    digits = f"{rest:06d}".rstrip("0")
    sign = "-" if part < 0 else ""
    return f"{sign}{whole}{('.' if language == 'en' else ',') + digits if digits else ''} %"


def fee_in_words(fees: FeesSection, language: str) -> str:
    """ "Effective fee 1.5 %: you keep 98.5 % of each block. Operator 0.5 %, reserve 1 %." """
    kept = kept_fraction(fees)
    sentence = _SENTENCE[language].format(taken=percent(1 - kept, language), kept=percent(kept, language))
    parts = [Fraction(bp, 10_000) for bp in (fees.fee_bp, fees.reserve_bp, fees.projects_bp, fees.raffle_bp)]
    parts.append(1 - sum(parts) - kept)
    named = zip(_NAMES[language], parts, strict=True)
    listed = ", ".join(f"{name} {percent(part, language)}" for name, part in named if part)
    return f"{sentence} {listed[0].upper()}{listed[1:]}." if listed else sentence
