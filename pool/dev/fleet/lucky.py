"""LuckyMiner: the AxeOS 2.1 generation that its closed firmware came from, as careless as that was."""

from __future__ import annotations

from pool.dev.fleet.bitaxe import BitAxe22
from pool.dev.fleet.firmware import FirmwareCrash
from pool.dev.fleet.job import MinerJob

INT16_MAX = 0x7FFF


class LuckyMiner(BitAxe22):
    """Suggests before it authorises, matches setup replies by constant ids, crashes on what is missing."""

    model = "luckyminer"
    agent = "bitaxe/BM1366 (v2.1.8)"
    asks_mask = "ffffffff"
    default_difficulty = 8192.0

    def reset(self) -> None:
        super().reset()
        self.subscribe_failed = False

    def hear_blank(self) -> None:
        raise FirmwareCrash(self.model, "an empty line")

    def hear_result(self, message: dict[str, object]) -> None:
        number = message.get("id")
        if "error" not in message or message["error"] is not None:
            if number == 1:
                self.subscribe_failed = True  # extranonce1 stays NULL until the first job needs it
                return
            if isinstance(number, int) and str(number) not in self.session.pending:
                return
        if isinstance(message.get("result"), list) and number != 1:
            return  # a subscribe reply is known by its id alone
        if isinstance(message.get("result"), dict) and number != 2:
            return
        super().hear_result(message)

    def _share_result(self, message: dict[str, object], result: object, error: tuple[int, str] | None) -> None:
        if error is None and "error" not in message:
            error = (0, "no error key")
        super()._share_result(message, result, error)

    def hear_notify(self, params: list[object]) -> None:
        if self.subscribe_failed:
            raise FirmwareCrash(self.model, "no error key in the subscribe reply: extranonce1 is NULL")
        super().hear_notify(params)

    def hear_other(self, method: str, message: dict[str, object]) -> None:
        """No handlers: reconnect, ping and show_message are not known."""

    def too_many_branches(self) -> None:
        raise FirmwareCrash(self.model, "more than 32 branches")

    def extranonce2(self, counter: int) -> bytes:
        """Two bytes come out as a constant: work is then repeated."""
        return bytes(2) if self.session.extranonce2_size == 2 else super().extranonce2(counter)

    def new_id(self) -> str:
        """A 16-bit number that wraps to negative ones after 32,767."""
        number = int(super().new_id()) & 0xFFFF
        return str(number - 0x10000 if number > INT16_MAX else number)

    def check_coinbase(self, job: MinerJob) -> None:
        """This generation has no limit of its own."""
