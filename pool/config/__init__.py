"""The pool's settings: TOML and POOL__SECTION__KEY become frozen dataclasses, past which nobody meets a raw dict.

config = load("pool.toml")   # load() for defaults and environment only; ConfigError names every mistake
config = Config(pool=PoolSection(data_dir=tmp_path), stratum=StratumSection(port=0))   # in tests
"""

from pool.config.checks import Check, Mistake, mistakes_in
from pool.config.keys import KeyInfo, Secret, SecretUrl
from pool.config.reading import ConfigError, load
from pool.config.rendering import commented_toml, effective, reference_markdown
from pool.config.sections import (
    NETWORKS,
    SECTIONS,
    CoinbaseSection,
    Config,
    DevSection,
    FeesSection,
    KeysSection,
    LogSection,
    NodeSection,
    Origin,
    PoolSection,
    SharelogSection,
    StoreSection,
    StratumSection,
    VardiffSection,
    all_keys,
)
from pool.config.words import fee_in_words, kept_fraction

__all__ = [
    "NETWORKS",
    "SECTIONS",
    "Check",
    "CoinbaseSection",
    "Config",
    "ConfigError",
    "DevSection",
    "FeesSection",
    "KeyInfo",
    "KeysSection",
    "LogSection",
    "Mistake",
    "NodeSection",
    "Origin",
    "PoolSection",
    "Secret",
    "SecretUrl",
    "SharelogSection",
    "StoreSection",
    "StratumSection",
    "VardiffSection",
    "all_keys",
    "commented_toml",
    "effective",
    "fee_in_words",
    "kept_fraction",
    "load",
    "mistakes_in",
    "reference_markdown",
]
