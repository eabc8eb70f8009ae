"""Control of the app in a browser, for tests, ``benchmarks/app.py`` and ``docs/make_pictures.py``.

The functions need Playwright (a development dependency) and an installed Chromium.
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
    """Return the path of Chromium, or None if it is not installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@contextlib.contextmanager
def chromium() -> Iterator["Browser"]:
    """Start a browser without a window.

    Raises:
        UserError: Chromium is not installed.
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
    """Run ``annotate.py`` at a free port during the ``with`` block, and yield the address that it prints."""
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
    """Wait until a JavaScript expression is true in a page, which may navigate in the meantime.

    Args:
        page: Page of the app.
        expression: JavaScript expression; it counts as false while its evaluation fails.
        patience: Longest time to wait, in seconds.

    Raises:
        TimeoutError: The expression did not become true.
    """
    from playwright.sync_api import Error

    until = time.monotonic() + patience
    while True:
        with contextlib.suppress(Error):  # evaluation fails while the page navigates or loads its scripts
            if page.evaluate(f"Boolean({expression})"):
                return
        if time.monotonic() > until:
            raise TimeoutError(f"waited {patience:.0f} s for {expression}")
        time.sleep(0.01)
