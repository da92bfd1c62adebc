"""A real browser on the real MLflow UI."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mlflow.entities import Run

from tests.projects.small_pipeline import stored_runs
from tools.servers import free_port, mlflow_server

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
SIZE = {"width": 1300, "height": 900}
PATIENCE = 60_000.0
"""Longest wait for anything to appear [ms]."""


@dataclass(frozen=True)
class Ui:
    """A running UI and what is in its store."""

    address: str
    runs: dict[str, Run]
    """By stage."""

    def page_of(self, stage: str, tab: str = "") -> str:
        run = self.runs[stage].info
        return f"{self.address}/#/experiments/{run.experiment_id}/runs/{run.run_id}{tab}?workflowType=machine_learning"


@pytest.fixture(scope="module")
def ui(
    request: pytest.FixtureRequest, browser: BrowserContext, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ui]:
    """The light UI, as 'make ui' serves it, on the store named by --store or on that of a small pipeline.

    Asks for the browser: where there is none, nothing is trained and served for it.
    """
    store = request.config.getoption("--store")
    if store is None:
        store = f"sqlite:///{request.getfixturevalue('small_pipeline').folder}/mlflow.db"
    log = tmp_path_factory.mktemp("ui") / "server.log"
    with mlflow_server(["--backend-store-uri", store], log, free_port()) as address:
        yield Ui(address, stored_runs(store))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """Headless Chromium with an empty profile, in which nothing beyond this machine can be reached."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"), executable_path=CHROMIUM, args=FLAGS, headless=True, viewport=SIZE
        )
        context.set_default_timeout(PATIENCE)
        context.route(lambda address: "//127.0.0.1:" not in address, lambda route: route.abort())
        yield context
        context.close()


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    """A tab; a script of the page that fails makes the test fail."""
    opened = browser.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    yield opened
    opened.close()
    assert problems == []


@pytest.fixture
def picture(request: pytest.FixtureRequest, page: Page) -> Callable[[str], None]:
    """Keeps what the tab shows as ``ui_<name>.png``, where a folder was named for it."""
    folder = request.config.getoption("--screenshots")

    def take(name: str) -> None:
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.wait_for_timeout(1500.0)  # charts and menus move into their places
            page.screenshot(path=Path(folder) / f"ui_{name}.png")

    return take
