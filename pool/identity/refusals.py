"""Why a proof or a request was refused: a code for programs, one sentence in Spanish and English for members."""

from __future__ import annotations

from pool.store.inbox import RefusedError

#: code -> (Spanish, English)
WORDS: dict[str, tuple[str, str]] = {
    "unknown": ("Este mensaje no existe aquí: pide uno nuevo.", "This message does not exist here: ask for a new one."),
    "used": ("Este mensaje ya se usó: pide uno nuevo.", "This message was used already: ask for a new one."),
    "expired": ("Este mensaje ha caducado: pide uno nuevo.", "This message has expired: ask for a new one."),
    "other_host": ("Este mensaje es de otro sitio.", "This message belongs to another host."),
    "other_account": ("Este mensaje es de otra cuenta.", "This message belongs to another account."),
    "other_action": ("Este mensaje es para otra acción.", "This message is for another action."),
    "other_value": ("Este mensaje es para otro valor.", "This message is for another value."),
    "attempts": ("Demasiados intentos: pide uno nuevo.", "Too many attempts: ask for a new one."),
    "rate": ("Demasiadas peticiones: espera unos minutos.", "Too many requests: wait some minutes."),
    "full": ("Demasiadas peticiones en la bolsa: espera.", "Too many requests at the pool: wait."),
    "account": ("La cuenta no es una dirección válida aquí.", "The account is not a valid address here."),
    "stranger": ("Esta cuenta aún no ha minado aquí.", "This account has not mined here yet."),
    "value": ("El valor nuevo no es válido.", "The new value is not valid."),
    "destination": ("El destino no es válido en esta bolsa.", "The destination is not valid at this pool."),
    "same": ("Ese ya es el destino.", "That is the destination already."),
    "changed": ("El destino cambió mientras tanto.", "The destination has changed in the meantime."),
    "nothing_pending": ("No hay ningún cambio pendiente.", "No change is pending."),
    "unreadable": ("La firma no se puede leer.", "The signature cannot be read."),
    "wrong_signature": (
        "La firma no es de esta dirección y este mensaje.",
        "The signature is not of this address and message.",
    ),
    "high_s": ("La firma no es canónica (S alto).", "The signature is not canonical (high S)."),
    "sighash": ("La firma no cubre todo el mensaje (SIGHASH).", "The signature does not cover everything (SIGHASH)."),
    "witness": ("La firma tiene elementos de más o de menos.", "The signature has items too many or too few."),
    "cannot_sign": (
        "Esta clase de dirección no puede firmar aquí: usa una prueba Lightning.",
        "This kind of address cannot sign here: use a Lightning proof.",
    ),
    "not_linked": ("Esta cartera no está enlazada a la cuenta.", "This wallet is not linked to the account."),
    "linked": ("Esta cartera ya está enlazada a otra cuenta.", "This wallet is linked to another account already."),
    "proof_kind": ("Esta prueba no basta para esta acción.", "This proof is not enough for this action."),
    "not_arrived": ("Los pagos de prueba aún no han llegado.", "The test payments have not arrived yet."),
    "wrong_amounts": ("Las cantidades no son esas.", "Those are not the amounts."),
}


class ProofRefused(RefusedError):
    """The proof or request is not good, nothing was changed; `code` is a key of WORDS, `detail` names the fault."""

    def __init__(self, code: str, detail: str = "") -> None:
        self.code, self.detail = code, detail
        self.es, self.en = WORDS[code]
        super().__init__(f"{self.en} ({detail})" if detail else self.en)
