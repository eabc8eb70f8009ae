"""The app in a browser driven by a program: for tests, ``benchmarks/app.py`` and ``docs/make_pictures.py``.

It needs Playwright (a development dependency) and an installed Chromium.
"""

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ivos.runtime.errors import UserError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def find_chromium() -> str | None:
    """Return the path of Chromium, or None where it is not installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@contextlib.contextmanager
def chromium() -> Iterator["Browser"]:
    """Start a browser without a window.

    Raises:
        UserError: no Chromium is installed.
    """
    from playwright.sync_api import sync_playwright

    path = find_chromium()
    if path is None:
        raise UserError("no chromium on PATH (apt-get install chromium fonts-dejavu-core)")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@contextlib.contextmanager
def serving(program: Path, **options: Any) -> Iterator[str]:
    """Run ``annotate.py`` at a free port while the context lasts, and return the address that it prints."""
    settings = {"port": 0, "open_browser": "false", **options}
    command = [sys.executable, str(program), *(f"{name}={value}" for name, value in settings.items())]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().split()[-1]
    finally:
        server.terminate()
        server.wait(30)


def wait(page: "Page", expression: str, patience: float = 300) -> None:
    """Wait until an expression is true in a page, which may be loading another address meanwhile.

    Args:
        page: shows the app.
        expression: JavaScript; while its evaluation fails, it counts as false.
        patience: how long to wait, in seconds.

    Raises:
        TimeoutError: the expression did not become true.
    """
    from playwright.sync_api import Error

    until = time.monotonic() + patience
    while True:
        with contextlib.suppress(Error):  # the page is being left, or its program has not begun
            if page.evaluate(f"Boolean({expression})"):
                return
        if time.monotonic() > until:
            raise TimeoutError(f"waited {patience:.0f} s for {expression}")
        time.sleep(0.01)
