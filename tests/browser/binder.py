"""What a reader on Binder waits for; `binder/rehearse` runs it: binder.py PORT TOKEN BEGUN."""

import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from lab import CHROMIUM, Lab, LabPage, find_chromium, offline_page
from playwright.sync_api import sync_playwright

LESSONS = ("02_kv_cache", "04_speculative")
MINUTES = 3


def wait_for(url: str) -> None:
    """Until a server answers.

    Raises:
        TimeoutError: it does not within three minutes.
    """
    for _ in range(MINUTES * 60 * 5):
        try:
            urlopen(url, timeout=5).close()
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(f"no server at {url}")


def main(port: str, token: str, begun: str) -> None:
    server = Lab(f"http://127.0.0.1:{port}", token, Path("notebooks"))
    wait_for(f"{server.url}/api?token={token}")
    print(f"the server answers after {time.time() - float(begun):.1f} s", flush=True)
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(
            executable_path=find_chromium(playwright), args=CHROMIUM
        ) as browser,
        offline_page(browser) as page,
    ):
        lesson = LabPage(page, server)
        for name in LESSONS:
            start = time.perf_counter()
            lesson.open(f"notebooks/{name}.ipynb")
            opened = time.perf_counter() - start
            page.evaluate("window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
            page.evaluate("() => void window.jupyterapp.commands.execute('notebook:run-all-cells')")
            lesson.output_with(".minillm").locator(".minillm").first.wait_for(timeout=120_000)
            first = time.perf_counter() - start
            lesson.run_all()
            print(
                f"{name}: {opened:.1f} s until it is open, {first:.1f} s until its first explorer "
                f"lives, {time.perf_counter() - start:.1f} s until it was run twice",
                flush=True,
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
