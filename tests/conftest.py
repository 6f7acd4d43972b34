"""House rules of every test run: loop errors are red, seeds printed, missing servers named, soak only when asked."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import os
import random
from collections.abc import Iterator

import hypothesis
import pytest
import uvloop

from rig import postgres as postgres_rig
from rig.servers import PREFIX

hypothesis.settings.register_profile(
    "house",
    deadline=None,  # wall time on a shared machine says nothing
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("house")

SEED = int(os.environ.get("SEED") or random.SystemRandom().getrandbits(32))
_missing: dict[str, set[str]] = {}


# --- what runs
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Soak tests run only when -m names them."""
    if "soak" in (config.option.markexpr or ""):
        return
    soak = [item for item in items if item.get_closest_marker("soak")]
    if soak:
        config.hook.pytest_deselected(items=soak)
        items[:] = [item for item in items if item not in set(soak)]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """An `async def test_...` runs on a fresh uvloop, like the pool."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    # From the function's signature: a decorator (hypothesis) may hide some of it.
    wanted = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(pyfuncitem.obj(**wanted))
    return True


# --- errors that nobody awaited
class _LoopErrors(logging.Handler):
    """Keeps what asyncio's exception handler reports: unhandled exceptions of callbacks, of tasks nobody awaited."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(logging.Formatter().format(record))


_loop_errors = _LoopErrors()


@pytest.fixture
def expected_loop_errors() -> list[str]:
    """For a test that provokes unhandled loop errors on purpose: read and clear this list, or the test is red."""
    return _loop_errors.found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test during which the event loop reported an unhandled error is red, whatever it asserted."""
    logger = logging.getLogger("asyncio")
    _loop_errors.found.clear()
    logger.addHandler(_loop_errors)
    try:
        yield
        gc.collect(1)  # a task nobody awaited reports when it is collected
    finally:
        logger.removeHandler(_loop_errors)
    if _loop_errors.found:
        pytest.fail("the event loop reported unhandled errors:\n" + "\n".join(_loop_errors.found), pytrace=False)


# --- random tests
@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """This test's own seed, from the run's (SEED in the environment repeats a run); printed, so a failure shows it."""
    own = random.Random(f"{SEED}/{request.node.nodeid}").getrandbits(32)
    print(f"SEED={SEED} (this test: {own})")
    return own


@pytest.fixture
def rng(seed: int) -> random.Random:
    return random.Random(seed)


def pytest_report_header() -> str:
    return f"seed: SEED={SEED} repeats this run's random tests"


# --- real servers
@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_rig.Postgres]:
    """The run's PostgreSQL server; missing where its wheel is."""
    with postgres_rig.running() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: postgres_rig.Postgres) -> Iterator[str]:
    """A fresh, empty PostgreSQL database."""
    url = postgres.database()
    yield url
    postgres.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: os.PathLike[str]) -> str:
    """The same test on both databases: URL of a fresh, empty one."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/pool.sqlite"
    url: str = request.getfixturevalue("postgres_url")
    return url


# --- the closing summary
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    text = ""
    if report.skipped and isinstance(report.longrepr, tuple):
        text = report.longrepr[2].removeprefix("Skipped: ")
    elif report.failed:
        text = next((line for line in str(report.longrepr).splitlines() if PREFIX in line), "")
        text = text[text.index(PREFIX) :] if text else ""
    if text.startswith(PREFIX):
        _missing.setdefault(text.removeprefix(PREFIX), set()).add(report.nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _missing:
        return
    terminalreporter.section("servers missing here", sep="-")
    for reason, tests in sorted(_missing.items()):
        terminalreporter.line(f"{reason}  [{len(tests)} tests not run]")
