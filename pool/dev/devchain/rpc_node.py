"""RPC methods about the node itself: network, peers, clock, and its end."""

from __future__ import annotations

import time
from collections.abc import Callable

from pool.dev.devchain.rpcbase import INVALID_PARAMETER, Methods, RpcFault, want
from pool.dev.devchain.rules import LABEL, WARNING
from pool.dev.devchain.template import Json

VERSION = 280000
SUBVERSION = f"/{LABEL}:0.1.0(development chain, not Bitcoin)/"


class NodeMethods(Methods):
    """getnetworkinfo and its kin."""

    names = (
        "getconnectioncount", "getnetworkinfo", "getpeerinfo", "getzmqnotifications", "help", "ping", "setmocktime",
        "stop", "uptime",
    )  # fmt: skip
    describe: Callable[[], dict[str, str]]  # method -> first line of its documentation; set by the server

    async def getnetworkinfo(self) -> Json:
        """Version and connections; the subversion says what this is."""
        peers = self.node.conditions.peers
        return {
            "version": VERSION,
            "subversion": SUBVERSION,
            "protocolversion": 70016,
            "localservices": "0000000000000409",
            "localservicesnames": ["NETWORK", "WITNESS", "NETWORK_LIMITED"],
            "localrelay": True,
            "timeoffset": 0,
            "networkactive": True,
            "connections": peers,
            "connections_in": 0,
            "connections_out": peers,
            "networks": [],
            "relayfee": 0.00001,
            "incrementalfee": 0.00001,
            "localaddresses": [],
            "warnings": [WARNING],
        }

    async def getconnectioncount(self) -> Json:
        """How many peers the node pretends to have."""
        return self.node.conditions.peers

    async def getpeerinfo(self) -> Json:
        """The pretended peers; `dev_lag` puts their headers ahead."""
        height = self.chain.tip.height
        ahead = height + self.node.conditions.headers_ahead
        now = self.chain.now_s()
        return [
            {
                "id": number, "addr": f"devchain-peer-{number}.invalid:18444", "network": "not_publicly_routable",
                "services": "0000000000000409", "lastsend": now, "lastrecv": now, "conntime": now, "timeoffset": 0,
                "pingtime": 0.05, "version": 70016, "subver": SUBVERSION, "inbound": False, "startingheight": ahead,
                "synced_headers": ahead, "synced_blocks": height, "connection_type": "outbound-full-relay",
            }
            for number in range(self.node.conditions.peers)
        ]  # fmt: skip

    async def getzmqnotifications(self) -> Json:
        """Where `hashblock` is published."""
        return [{"type": "pubhashblock", "address": self.node.publisher.address, "hwm": 1000}]

    async def ping(self) -> Json:
        """Nothing, successfully."""
        return None

    async def setmocktime(self, timestamp: object) -> Json:
        """Fix this node's clock (0: set it free); strict mode only, as Bitcoin Core has it on regtest only."""
        if self.chain.network.retargets:
            raise RpcFault(INVALID_PARAMETER, "setmocktime is for strict mode only")
        value = want(timestamp, int)
        if not 0 <= value < 1 << 32:
            raise RpcFault(INVALID_PARAMETER, "Mocktime must be within 32 bits")
        self.chain.mock_time_s = value or None
        return None

    async def uptime(self) -> Json:
        """Seconds since the start."""
        return int(time.monotonic() - self.node.started_s)

    async def help(self, command: object = None) -> Json:
        """This list, or one method's line."""
        lines = self.describe()
        if command is None:
            return "\n".join(
                [f"== {LABEL}: {WARNING} ==", *(f"{name}: {text}" for name, text in sorted(lines.items()))]
            )
        name = want(command, str)
        if name not in lines:
            return f"help: unknown command: {name}"
        return f"{name}: {lines[name]}"

    async def stop(self) -> Json:
        """End the process."""
        self.node.stop()
        return f"{LABEL} stopping"
