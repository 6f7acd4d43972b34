"""Every section and key of the configuration, with default, bounds and meaning.

To add a key, add a line here: reader, bounds check, `pool init` and the README's reference follow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from pool.config.keys import KeyInfo, Secret, SecretUrl, key, keys_of

NETWORKS = ("dev", "regtest", "testnet4", "signet", "mainnet")
UNSET = Path("")


@dataclass(frozen=True, slots=True)
class PoolSection:
    """The pool itself."""

    name: str = key("MicroMining Social Pool", "Name shown to members.")
    network: str = key("dev", "Bitcoin network; dev is the embedded development chain.", choices=NETWORKS)
    data_dir: Path = key(Path("data"), "Folder of everything the pool writes; relative to this file.")
    language: str = key("es", "Language of member-facing text when the member chose none.", choices=("es", "en"))
    contact: str = key("", "How members reach the operator (e-mail, Telegram, URL).")


@dataclass(frozen=True, slots=True)
class NodeSection:
    """A Bitcoin node; repeat [[node]] for several, the first is preferred. Network dev needs none."""

    url: str = key("http://127.0.0.1:8332", "JSON-RPC address.")
    user: str = key("", "RPC user name.")
    password: Secret | None = key(None, "RPC password.")
    cookie_file: Path | None = key(None, "Bitcoin Core's .cookie file, instead of user and password.")
    zmq_hashblock: str = key("", "The node's ZMQ hashblock publisher, tcp://host:port; empty: polling only.")
    timeout_s: float = key(30.0, "How long one RPC may take.", low=0.1, high=600)


@dataclass(frozen=True, slots=True)
class CoinbaseSection:
    """What a found block pays, and what it says."""

    mode: str = key(
        "ledger",
        "Whom the main port's coinbase pays: ledger = the pool, direct = top members as outputs, solo = the finder.",
        choices=("ledger", "direct", "solo"),
    )
    payout_address: str = key("", "Fixed address that receives the pool's part of a block.")
    payout_descriptor: str = key("", "Watch-only descriptor with checksum instead: a fresh address per block.")
    tag: str = key("/MMSP/", "Text in the coinbase, at most 30 printable ASCII characters.")
    bip54: bool = key(True, "Set nLockTime and nSequence of the coinbase as BIP 54 asks.")
    direct_max_bytes: int = key(384, "direct mode: most coinbase bytes after the extranonces.", low=64, high=100_000)
    direct_min_sat: int = key(10_000, "direct mode: smallest output; smaller amounts stay in the ledger.", low=546)


@dataclass(frozen=True, slots=True)
class StratumSection:
    """Where miners connect."""

    host: str = key("0.0.0.0", "Address to listen on.")  # noqa: S104 - miners of the LAN are the purpose
    port: int = key(3333, "Main port; 0 = any free one (tests).", low=0, high=65535)
    high_difficulty_port: int = key(4334, "Port for farms and rented hashrate; 0 = off.", low=0, high=65535)
    high_difficulty_start: float = key(1_000_000.0, "Start and lowest difficulty on that port.", low=1)
    nerdminer_port: int = key(2018, "Port that makes a NerdMiner's screen ask our API; 0 = off.", low=0, high=65535)
    tls_port: int = key(
        0, "Port for TLS only; 0 = none (with a certificate every port takes TLS too).", low=0, high=65535
    )
    tls_cert_file: Path | None = key(None, "PEM certificate chain; read again on SIGHUP.")
    tls_key_file: Path | None = key(None, "PEM private key of that certificate.")
    max_connections: int = key(20_000, "Connections in all.", low=1, high=1_000_000)
    max_connections_per_address: int = key(
        1_000, "Connections from one IP address (IPv6: one /64).", low=1, high=1_000_000
    )
    messages_per_s: float = key(200.0, "Messages per second and connection, shares aside, that are answered.", low=1)
    messages_per_s_per_address: float = key(10_000.0, "The same for all connections of one IP address.", low=1)
    backlog: int = key(4096, "Connections the kernel holds for us before we accept them.", low=1, high=65535)
    authorize_within_s: float = key(60.0, "A connection that tries no authorize within this time is closed.", low=1)
    send_blocked_s: float = key(
        60.0, "A connection that reads nothing for this long while data waits is closed.", low=1
    )
    line_limit_bytes: int = key(8192, "Longest line a client may send.", low=1024, high=1_048_576)
    extranonce1_first: int = key(
        0, "First extranonce1 of this process; ranges of several must not overlap.", low=0, high=0xFFFFFFFF
    )
    extranonce1_last: int = key(0xFFFFFFFF, "Last extranonce1 of this process.", low=0, high=0xFFFFFFFF)
    job_lifetime_s: float = key(600.0, "How long shares of a job on the present previous block are credited.", low=600)
    refresh_s: float = key(30.0, "A new job at least this often, so that fees and time move on.", low=1, high=60)
    no_work_close_s: float = key(60.0, "Without work for this long, clients are sent to their fallback pool.", low=1)


@dataclass(frozen=True, slots=True)
class VardiffSection:
    """How hard each device's shares are."""

    shares_per_minute: float = key(12.0, "Shares each device should send.", low=0.1, high=600)
    min_difficulty: float = key(2.0**-16, "Smallest difficulty assigned or credited.", low=2.0**-16)
    max_difficulty: float = key(0.0, "Largest difficulty assigned; 0 = the network's.", low=0)
    start_difficulty: float = key(
        1024.0, "For devices that neither history, suggestion nor user agent tells about.", low=2.0**-16
    )


@dataclass(frozen=True, slots=True)
class FeesSection:
    """What is taken from each block before members share it, in basis points (100 = 1 %)."""

    fee_bp: int = key(50, "Operator.", low=0, high=10_000)
    reserve_bp: int = key(100, "Smoothing reserve, paid back to members month by month.", low=0, high=10_000)
    projects_bp: int = key(0, "Projects the club votes for.", low=0, high=10_000)
    raffle_bp: int = key(0, "Raffle.", low=0, high=10_000)
    donation_bp: int = key(0, "Part of earnings given to projects by members who chose nothing.", low=0, high=10_000)
    i_know: bool = key(False, "Needed when more than 10 % in all does not go to members.")


@dataclass(frozen=True, slots=True)
class LedgerSection:
    """How income is split among members, and how often the proofs are published."""

    window_blocks: float = key(1.0, "Work that a block is split over, in expected blocks (X).", low=1e-6, high=9)
    kappa_blocks: float = key(0.05, "With less work in the window than this, the rest is reserve.", low=0)
    finder_bp: int = key(0, "Bonus of the device that finds the block, in basis points of it.", low=0, high=10_000)
    weight_subsidy: bool = key(False, "Work counts by the subsidy of its day: for windows that see a halving.")
    release_months: int = key(
        24, "Each month 1/this of the reserve goes back to members as a virtual block; 0 = never.", low=0, high=1200
    )
    proof_every_s: float = key(3600.0, "A new proof of balances and work at least this often.", low=10)


@dataclass(frozen=True, slots=True)
class StoreSection:
    """The database."""

    url: SecretUrl = key(
        SecretUrl(""),
        "sqlite:///path or postgresql://user:password@host/db.",
        default_text="sqlite:///<data_dir>/pool.sqlite",
    )


@dataclass(frozen=True, slots=True)
class SharelogSection:
    """The log of all shares."""

    directory: Path = key(UNSET, "Folder of its segments; on a disk with room.", default_text="<data_dir>/sharelog")
    segment_mib: int = key(64, "Size of one segment, preallocated.", low=1, high=16_384)
    keep_days: int = key(
        0, "Days that summed segments are kept, compressed; 0 = for ever: all can be summed again.", low=0, high=36_500
    )


@dataclass(frozen=True, slots=True)
class KeysSection:
    """The pool's own keys (receipts, sessions): made by `pool init`, or at the first start."""

    directory: Path = key(UNSET, "Folder with mode 0700, files 0600.", default_text="<data_dir>/keys")


@dataclass(frozen=True, slots=True)
class LogSection:
    """What the pool writes to standard error."""

    level: str = key("info", "Least severity written.", choices=("debug", "info", "warning", "error"))
    format: str = key("auto", "auto = text on a terminal, JSON lines otherwise.", choices=("auto", "text", "json"))


@dataclass(frozen=True, slots=True)
class DevSection:
    """The embedded development chain and simulated devices; refused on a real network."""

    chain_mode: str = key(
        "demo", "demo = a block each block_interval_s; strict = regtest rules.", choices=("demo", "strict")
    )
    block_interval_s: float = key(20.0, "Time between blocks that demo mode aims at.", low=1, high=3600)
    rpc_port: int = key(0, "JSON-RPC port of the development chain on loopback; 0 = any free one.", low=0, high=65535)
    zmq_port: int = key(0, "Its ZMQ port; 0 = any free one.", low=0, high=65535)
    fleet_devices: int = key(6, "Simulated devices that `pool run` starts; 0 = none.", low=0, high=10_000)
    fleet_hashrate_hs: float = key(200_000.0, "Hashes per second of the whole fleet (real hashing).", low=1)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the effective value of a key came from."""

    kind: str  # "default" | "file" | "env"
    where: str = ""  # name of the file or of the environment variable


DEFAULT = Origin("default")


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration. `Config()` is the default and runs; folders that were not set follow `pool.data_dir`."""

    pool: PoolSection = field(default_factory=PoolSection)
    node: tuple[NodeSection, ...] = ()
    coinbase: CoinbaseSection = field(default_factory=CoinbaseSection)
    stratum: StratumSection = field(default_factory=StratumSection)
    vardiff: VardiffSection = field(default_factory=VardiffSection)
    fees: FeesSection = field(default_factory=FeesSection)
    ledger: LedgerSection = field(default_factory=LedgerSection)
    store: StoreSection = field(default_factory=StoreSection)
    sharelog: SharelogSection = field(default_factory=SharelogSection)
    keys: KeysSection = field(default_factory=KeysSection)
    log: LogSection = field(default_factory=LogSection)
    dev: DevSection = field(default_factory=DevSection)
    origins: Mapping[str, Origin] = field(default_factory=lambda: MappingProxyType({}), compare=False, repr=False)
    """Origin of each key that is not at its default, by path ("stratum.port", "node.0.url")."""

    def __post_init__(self) -> None:
        data_dir = self.pool.data_dir
        database = SecretUrl(f"sqlite:///{data_dir / 'pool.sqlite'}")
        if self.sharelog.directory == UNSET:
            object.__setattr__(self, "sharelog", dataclasses.replace(self.sharelog, directory=data_dir / "sharelog"))
        if self.keys.directory == UNSET:
            object.__setattr__(self, "keys", dataclasses.replace(self.keys, directory=data_dir / "keys"))
        if not self.store.url:
            object.__setattr__(self, "store", dataclasses.replace(self.store, url=database))

    def origin(self, path: str) -> Origin:
        return self.origins.get(path, DEFAULT)

    @property
    def real_network(self) -> bool:
        """Coins have value, or other people share the chain: nothing of development may be on."""
        return self.pool.network in ("testnet4", "signet", "mainnet")


#: Name -> dataclass of every section, in the order of documents. `node` may be repeated.
SECTIONS: dict[str, type] = {
    "pool": PoolSection,
    "node": NodeSection,
    "coinbase": CoinbaseSection,
    "stratum": StratumSection,
    "vardiff": VardiffSection,
    "fees": FeesSection,
    "ledger": LedgerSection,
    "store": StoreSection,
    "sharelog": SharelogSection,
    "keys": KeysSection,
    "log": LogSection,
    "dev": DevSection,
}
REPEATED = frozenset({"node"})
assert tuple(SECTIONS) == tuple(f.name for f in dataclasses.fields(Config) if f.name != "origins")


def all_keys() -> list[KeyInfo]:
    """Every key of every section, in the order of documents."""
    return [info for name, section in SECTIONS.items() for info in keys_of(section, name)]
