"""Real servers for the system tests; missing software fails with what to type, it never skips."""

import os
from collections.abc import AsyncIterator, Generator, Iterator

import pytest
import pytest_asyncio

from deploy.servers import Authority, free_network
from tests.system.browser import Browser
from tests.system.servers import Federation, Lab


@pytest.fixture(scope="session")
def network() -> str:
    """Three octets of a loopback network that nobody else uses."""
    return free_network(os.getpid())


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The one authority all test servers trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def lab(network: str, authority: Authority) -> Iterator[Lab]:
    """Makes servers; all are ended with the test."""
    made = Lab(network, authority)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(params=["0.12", "13"], ids=["prosody-0.12", "prosody-13"])
def federation(lab: Lab, request: pytest.FixtureRequest) -> Federation:
    """The usual arrangement, once for each supported Prosody at a.test.

    For one version only: `@pytest.mark.parametrize("federation", ["13"], indirect=True)`.
    """
    return Federation.start(lab, version=request.param)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """The one browser of the session."""
    async with Browser.started() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def browser(chromium: Browser) -> AsyncIterator[Browser]:
    """A browser without windows; it fails the test that made a page do what it must not.

    Tests that use it run in the loop of the session: `pytestmark = pytest.mark.asyncio(loop_scope="session")`.
    """
    yield chromium
    await chromium.close_windows()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the servers' logs beside a failure."""
    report = yield
    made = getattr(item, "funcargs", {}).get("lab")
    if report.failed and isinstance(made, Lab):
        report.sections.extend((f"log of {name}", text) for name, text in made.logs().items())
    return report
