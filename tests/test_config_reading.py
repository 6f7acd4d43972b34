"""Promise P8, the reading half: unknown or wrong configuration stops the start with every mistake named."""

from __future__ import annotations

import contextlib
import string
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.config import (
    SECTIONS,
    Config,
    ConfigError,
    NodeSection,
    PoolSection,
    Secret,
    SecretUrl,
    all_keys,
    commented_toml,
    load,
    reference_markdown,
)
from pool.config.keys import Limits, keys_of
from pool.config.sections import REPEATED

README = Path(__file__).parent.parent / "README.md"


def mistakes_of(toml: str = "", env: dict[str, str] | None = None, folder: Path | None = None) -> list[str]:
    """The mistakes told about this file and environment, as the operator reads them."""
    path = None
    if toml:
        assert folder is not None
        path = folder / "pool.toml"
        path.write_text(toml)
    with pytest.raises(ConfigError) as caught:
        load(path, env or {})
    assert str(caught.value).splitlines() == [str(m) for m in caught.value.mistakes]
    return [str(mistake) for mistake in caught.value.mistakes]


def test_with_nothing_configured_the_defaults_run() -> None:
    config = load(None, {})
    assert config == Config()
    assert (config.pool.network, config.stratum.port, config.node) == ("dev", 3333, ())
    assert config.store.url.reveal() == "sqlite:///data/pool.sqlite"
    assert config.sharelog.directory == Path("data/sharelog")


def test_folders_that_were_not_set_follow_the_data_dir(tmp_path: Path) -> None:
    config = Config(pool=PoolSection(data_dir=tmp_path))
    assert config.sharelog.directory == tmp_path / "sharelog"
    assert config.keys.directory == tmp_path / "keys"
    assert config.store.url == SecretUrl(f"sqlite:///{tmp_path}/pool.sqlite")


def test_every_mistake_is_told_at_once_with_the_nearest_name(tmp_path: Path) -> None:
    toml = """
        [pool]
        nam = "Salón"
        [stratum]
        prt = 1
        port = "3333"
        refresh_s = 0.5
        shares_per_minute = 3
        [vardif]
        [fees]
        fee_bp = true
        [[node]]
        pasword = "hunter2"
    """
    told = mistakes_of(toml, {"POOL__STRATUM__HOSTT": "::", "POOL__LOG__LEVEL": "loud"}, tmp_path)
    assert told == [
        "[pool] unknown key 'nam'; did you mean name? (pool.toml)",
        "[stratum] unknown key 'prt'; did you mean port? (pool.toml)",
        '[stratum] port must be a whole number from 0 to 65535, not "3333" (pool.toml)',
        "[stratum] refresh_s must be a number from 1 to 60, not 0.5 (pool.toml)",
        "[stratum] unknown key 'shares_per_minute'; did you mean [vardiff] shares_per_minute? (pool.toml)",
        "[vardif] unknown section; did you mean vardiff? (pool.toml)",
        "[fees] fee_bp must be a whole number from 0 to 10000, not true (pool.toml)",
        "[[node]] number 1 unknown key 'pasword'; did you mean password? (pool.toml)",
        '[log] level must be one of debug, info, warning, error, not "loud" (POOL__LOG__LEVEL)',
        "[stratum] unknown key 'hostt'; did you mean host? (POOL__STRATUM__HOSTT)",
    ]


@pytest.mark.parametrize("path", [info.path for info in all_keys()])
def test_a_misspelt_key_of_any_section_is_refused_with_its_right_name(path: str, tmp_path: Path) -> None:
    section, _, name = path.partition(".")
    wrong = name[:-1] + ("q" if name[-1] != "q" else "x")
    heading = f"[[{section}]]" if section in REPEATED else f"[{section}]"
    told = mistakes_of(f"{heading}\n{wrong} = 1\n", folder=tmp_path)
    assert len(told) == 1, told
    assert f"unknown key '{wrong}'" in told[0]
    assert "did you mean" in told[0]


def test_the_environment_wins_over_the_file_and_origins_are_kept(tmp_path: Path) -> None:
    (tmp_path / "pool.toml").write_text('[stratum]\nport = 1111\nbacklog = 9\n[[node]]\nurl = "http://a:1"\n')
    env = {
        "POOL__STRATUM__PORT": "2222",
        "POOL__NODE__0__TIMEOUT_S": "5",
        "POOL__NODE__1__URL": "http://b:2",
        "PATH": "x",
    }
    config = load(tmp_path / "pool.toml", env)
    assert (config.stratum.port, config.stratum.backlog) == (2222, 9)
    assert [(node.url, node.timeout_s) for node in config.node] == [("http://a:1", 5.0), ("http://b:2", 30.0)]
    origins = {path: config.origin(path) for path in ("stratum.port", "stratum.backlog", "stratum.host", "node.1.url")}
    assert {path: (origin.kind, origin.where) for path, origin in origins.items()} == {
        "stratum.port": ("env", "POOL__STRATUM__PORT"),
        "stratum.backlog": ("file", "pool.toml"),
        "stratum.host": ("default", ""),
        "node.1.url": ("env", "POOL__NODE__1__URL"),
    }


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("POOL__STRATUM__PORT", "3333x"),
        ("POOL__STRATUM__PORT", "70000"),
        ("POOL__STRATUM__REFRESH_S", "nan"),
        ("POOL__VARDIFF__START_DIFFICULTY", "inf"),
        ("POOL__COINBASE__BIP54", "perhaps"),
        ("POOL__STRATUM", "3333"),
        ("POOL__STRATUM__PORT__X", "3333"),
        ("POOL__NODE__URL", "http://a"),
        ("POOL__NODE__1__URL", "http://a"),
        ("POOL__NODE__X__URL", "http://a"),
        ("POOL__STRATUN__PORT", "3333"),
    ],
)
def test_a_wrong_environment_variable_is_named(variable: str, text: str) -> None:
    told = mistakes_of(env={variable: text})
    assert len(told) == 1
    assert variable in told[0]


def test_a_secret_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "rpc.txt").write_text("hunter2\n")
    (tmp_path / "pool.toml").write_text('[[node]]\nuser = "u"\npassword_file = "rpc.txt"\n')
    config = load(tmp_path / "pool.toml", {})
    assert config.node[0].password == Secret("hunter2")
    by_env = load(None, {"POOL__NODE__0__USER": "u", "POOL__NODE__0__PASSWORD_FILE": str(tmp_path / "rpc.txt")})
    assert by_env.node[0].password == Secret("hunter2")


def test_a_secret_file_that_is_absent_empty_or_beside_the_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    assert "cannot be read" in mistakes_of('[[node]]\nuser="u"\npassword_file = "gone"\n', folder=tmp_path)[0]
    assert "is empty" in mistakes_of('[[node]]\nuser="u"\npassword_file = "empty"\n', folder=tmp_path)[0]
    both = mistakes_of('[[node]]\nuser="u"\npassword_file = "empty"\npassword = "x"\n', folder=tmp_path)
    assert "exclude each other" in both[0]


def test_secrets_never_show_themselves(tmp_path: Path) -> None:
    node = NodeSection(user="u", password=Secret("hunter2"))
    url = SecretUrl("postgresql://pool:hunter2@db:5432/pool")
    text = f"{node} {node!r} {url} {url!r} {Config(node=(node,))}"
    assert "hunter2" not in text
    assert "pool:********@db:5432/pool" in str(url)
    told = mistakes_of(
        '[[node]]\nuser="u"\npassword = 12345678\n[store]\nurl = "mysql://u:hunter2@h/d"\n', folder=tmp_path
    )
    assert not any("12345678" in line or "hunter2" in line for line in told)


def test_relative_paths_of_the_file_start_where_the_file_is(tmp_path: Path) -> None:
    (tmp_path / "pool.toml").write_text('[pool]\ndata_dir = "here"\n[keys]\ndirectory = "/abs"\n')
    config = load(tmp_path / "pool.toml", {})
    assert (config.pool.data_dir, config.keys.directory) == (tmp_path / "here", Path("/abs"))


@pytest.mark.parametrize("text", ["[pool", "pool = 3", "[[pool]]", "[node]\nurl='http://a'", "node = 3", "node = [3]"])
def test_a_file_of_the_wrong_shape_is_one_clear_mistake(text: str, tmp_path: Path) -> None:
    told = mistakes_of(text + "\n", folder=tmp_path)
    assert len(told) >= 1
    assert "pool.toml" in told[0]


def test_an_absent_file_is_a_mistake_and_not_the_defaults(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "pool.toml", {})


@pytest.mark.parametrize("number", ["9" * 5000, "0x" + "f" * 5000, "1" + "0" * 400])
@pytest.mark.parametrize("key", ["port", "refresh_s"])
def test_a_number_of_thousands_of_digits_is_refused_like_any_other(number: str, key: str, tmp_path: Path) -> None:
    told = mistakes_of(f"[stratum]\n{key} = {number}\n", folder=tmp_path)
    assert len(told) == 1
    assert len(told[0]) < 300
    assert key in told[0] or "not TOML" in told[0]


def test_eleven_nodes_by_environment_keep_their_order() -> None:
    config = load(None, {f"POOL__NODE__{n}__URL": f"http://n{n}:1" for n in range(11)})
    assert [node.url for node in config.node] == [f"http://n{n}:1" for n in range(11)]


def test_a_secret_given_twice_by_environment_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("x")
    env = {
        "POOL__NODE__0__USER": "u",
        "POOL__NODE__0__PASSWORD": "y",
        "POOL__NODE__0__PASSWORD_FILE": str(tmp_path / "p"),
    }
    told = mistakes_of(env=env)
    assert told == [
        "POOL__NODE__0__PASSWORD and POOL__NODE__0__PASSWORD_FILE exclude each other: keep one (environment)"
    ]


_scalars = st.one_of(st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=20), st.none())
_values = st.one_of(
    _scalars, st.lists(_scalars, max_size=3), st.dictionaries(st.text(max_size=5), _scalars, max_size=2)
)


@given(
    key=st.sampled_from([info.path for info in all_keys() if info.section not in REPEATED]),
    value=_values.filter(lambda v: v is not None),
)
def test_any_toml_value_of_any_key_is_taken_or_refused_by_name(key: str, value: object) -> None:
    from pool.config.reading import _Reader

    section, _, name = key.partition(".")
    reader = _Reader()
    reader._file_section(section, {name: value}, Path("pool.toml"))
    config = reader.config()
    if reader.mistakes:
        assert name in str(reader.mistakes[0])
        assert config == Config()
    else:
        info = next(info for info in all_keys() if info.path == key)
        taken = getattr(getattr(config, section), name)
        assert isinstance(taken, info.kind) or (taken is None and info.optional and value == "")
        assert not (isinstance(taken, bool) and info.kind is not bool)


@given(st.text(string.printable, max_size=40), st.text(max_size=40))
def test_any_environment_text_is_taken_or_refused_without_a_crash(name: str, text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(load(None, {f"POOL__{name}": text}), Config)


def test_the_commented_file_of_init_says_every_key_and_is_the_default_configuration(tmp_path: Path) -> None:
    text = commented_toml()
    (tmp_path / "pool.toml").write_text(text)
    assert load(tmp_path / "pool.toml", {}) == Config()
    # With every comment taken off, each default reads back; keys that are worked out at start have no such text.
    names = {info.name for info in all_keys()}
    bare = [line.removeprefix("# ") for line in text.splitlines()]
    live = [line for line in bare if line.startswith("[") or line.partition(" = ")[0] in names]
    table = tomllib.loads("\n".join(line for line in live if "<data_dir>" not in line))
    for info in all_keys():
        section = table[info.section][0] if info.section in REPEATED else table[info.section]
        assert (info.name in section) == ("<data_dir>" not in info.limits.default_text), info.path


def test_init_can_set_values_in_the_commented_file(tmp_path: Path) -> None:
    (tmp_path / "pool.toml").write_text(commented_toml({"pool.name": 'Salón "Uno"', "node.url": "http://n:1"}))
    config = load(tmp_path / "pool.toml", {})
    assert (config.pool.name, config.node[0].url) == ('Salón "Uno"', "http://n:1")
    with pytest.raises(KeyError):
        commented_toml({"pool.nam": "x"})


def test_the_readme_holds_the_reference_as_generated() -> None:
    assert reference_markdown().strip() in README.read_text(encoding="utf-8")


def test_every_key_says_what_it_means() -> None:
    for name, section in SECTIONS.items():
        for info in keys_of(section, name):
            limits: Limits = info.limits
            assert len(limits.doc) > 5, info.path
            assert limits.doc[-1] in ".)", info.path
            assert "\n" not in limits.doc
