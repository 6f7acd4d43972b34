"""What devices are told (ASCII, at most 63 characters: firmware shows no more) and what it means, in Spanish and
English.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pool.records import ERRORS, Verdict

LONGEST = 63


class Reason(enum.Enum):
    """Why an authorize was refused. The value is the text on the wire; AxeOS explains "Invalid Bitcoin address" in a
    tooltip of its own.
    """

    BAD_ADDRESS = "Invalid Bitcoin address"
    TESTNET_ADDRESS = "Testnet address: this pool mines on another network"
    MAINNET_ADDRESS = "Mainnet address: this pool mines on a test network"
    FUTURE_ADDRESS = "Address type has no rules yet, coins would be lost"
    BAD_LIGHTNING = "Invalid Lightning address"
    NO_USER = "No user name: use your Bitcoin address"
    TOO_LONG = "User name too long"
    TOO_MANY_USERS = "Too many users on one connection"
    ONE_ADDRESS = "One address per connection on this port"

    @property
    def text(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Words:
    """One thing said to people, in both languages."""

    es: str
    en: str


NO_WORK = Words(
    "El pool no tiene trabajo válido ({reason}). Cerramos: tu minero pasará a su pool de reserva.",
    "The pool has no valid work ({reason}). Closing: your miner will go to its fallback pool.",
)
RESTARTING = Words("El pool se reinicia.", "The pool is restarting.")

#: What a member reads about a text that the device showed.
HELP: dict[str, Words] = {
    Reason.BAD_ADDRESS.text: Words(
        "El usuario debe empezar por una dirección de Bitcoin válida (bc1…). Cópiala entera de tu monedero y, "
        "si quieres, añade .nombre al final.",
        "The user name must begin with a valid Bitcoin address (bc1…). Copy all of it from your wallet; "
        "add .name if you like.",
    ),
    Reason.TESTNET_ADDRESS.text: Words(
        "Esa dirección es de una red de pruebas y este pool mina en otra red.",
        "That address belongs to a test network, and this pool mines on another one.",
    ),
    Reason.MAINNET_ADDRESS.text: Words(
        "Esa dirección es de la red principal y este pool mina en una red de pruebas.",
        "That address belongs to the main network, and this pool mines on a test network.",
    ),
    Reason.FUTURE_ADDRESS.text: Words(
        "Ese tipo de dirección todavía no tiene reglas en la red: cualquiera podría llevarse las monedas. "
        "Usa una bc1q… o bc1p….",
        "That address type has no rules on the network yet: anyone could take the coins. Use a bc1q… or bc1p… address.",
    ),
    Reason.BAD_LIGHTNING.text: Words(
        "Una dirección Lightning se escribe nombre@dominio. El nombre del minero va detrás de una barra: "
        "nombre@dominio/minero.",
        "A Lightning address is written name@domain. The worker's name follows a slash: name@domain/worker.",
    ),
    Reason.NO_USER.text: Words(
        "Falta el usuario. Escribe tu dirección de Bitcoin en el campo de usuario del minero.",
        "The user name is missing. Write your Bitcoin address into the miner's user field.",
    ),
    Reason.TOO_LONG.text: Words("El usuario es demasiado largo.", "The user name is too long."),
    Reason.TOO_MANY_USERS.text: Words(
        "Una conexión admite como mucho 16 usuarios.", "One connection takes at most 16 users."
    ),
    Reason.ONE_ADDRESS.text: Words(
        "En este puerto el bloque paga a quien lo encuentra, así que cada conexión mina para una sola dirección.",
        "On this port a block pays its finder, so each connection mines for one address only.",
    ),
    ERRORS[Verdict.MALFORMED][1]: Words(
        "El minero envió una respuesta que no se puede leer: suele ser un fallo de su firmware.",
        "The miner sent a share that cannot be read: usually a firmware bug.",
    ),
    ERRORS[Verdict.JOB_NOT_FOUND][1]: Words(
        "El trabajo ya no existe, por ejemplo tras reconectar. Unos pocos son normales.",
        "The job no longer exists, for example after a reconnect. A few are normal.",
    ),
    ERRORS[Verdict.BAD_EXTRANONCE2][1]: Words(
        "El minero usó un extranonce2 de otra longitud: actualiza su firmware.",
        "The miner used an extranonce2 of another length: update its firmware.",
    ),
    ERRORS[Verdict.UNAUTHORISED][1]: Words(
        "El usuario de la participación no es el que se autorizó.", "The share's user is not one that was authorised."
    ),
    ERRORS[Verdict.BAD_VERSION][1]: Words(
        "El minero cambió bits de la versión que no se le concedieron.",
        "The miner changed version bits that it was not granted.",
    ),
    ERRORS[Verdict.STALE][1]: Words(
        "La participación llegó tarde: ya había un bloque nuevo. Hasta un 0,5 % es normal.",
        "The share came late: there was a new block already. Up to 0.5 % is normal.",
    ),
    ERRORS[Verdict.BAD_NTIME][1]: Words(
        "La hora del bloque está fuera de lo permitido.", "The block time is outside what is allowed."
    ),
    ERRORS[Verdict.LOW_DIFFICULTY][1]: Words(
        "La participación no llega a la dificultad pedida. Un 0,02 % es normal.",
        "The share does not reach the assigned difficulty. 0.02 % is normal.",
    ),
    ERRORS[Verdict.DUPLICATE][1]: Words(
        "El minero envió dos veces lo mismo: fallo conocido de algunos firmware, sin consecuencias.",
        "The miner sent the same share twice: a known bug of some firmware, without consequences.",
    ),
    ERRORS[Verdict.NOT_RECORDED][1]: Words(
        "El pool no puede anotar participaciones ahora mismo; el operador ya lo sabe.",
        "The pool cannot record shares right now; the operator has been told.",
    ),
}

assert all(len(reason.text) <= LONGEST and reason.text.isascii() for reason in Reason)
assert set(HELP) == {reason.text for reason in Reason} | {text for _, text in ERRORS.values()}
