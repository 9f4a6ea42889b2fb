"""A headless Chromium, driven over plain HTTP (W3C WebDriver), and a simulated study's report to look at."""

from __future__ import annotations

import base64
import json
import os
import runpy
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


class Browser:
    """One session of a chromedriver that listens on a local port."""

    def __init__(self, port: int, chromium: str, profile: Path) -> None:
        self._base = f"http://127.0.0.1:{port}"
        # straight to the driver: a proxy named in the environment must not see local requests
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._wait_until_ready()
        options = {"binary": chromium, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        session = self._post("/session", {"capabilities": {"alwaysMatch": wanted}})
        self._base += f"/session/{session['sessionId']}"

    def open(self, page: Path, width: int, height: int, *, dark: bool = False) -> None:
        """Open a file in a window of this size and wait until its figures are drawn."""
        self.logs("browser"), self.logs("performance")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.devtools("Emulation.setDeviceMetricsOverride", size)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.devtools("Emulation.setEmulatedMedia", {"features": scheme})
        self._post("/url", {"url": page.resolve().as_uri()})
        deadline = time.monotonic() + 60
        while self.script(
            "return document.body.dataset.drawn !== 'true' && !!document.getElementById('figures')"
        ):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the figures of {page} were not drawn in 60 s: {self.logs('browser')}")
            time.sleep(0.1)

    def script(self, source: str) -> Any:
        """Run a function body in the page and return its value."""
        return self._post("/execute/sync", {"script": source, "args": []})

    def logs(self, kind: str) -> list[dict[str, Any]]:
        """Log entries since the last call: `browser` (console) or `performance` (requests)."""
        return list(self._post("/se/log", {"type": kind}))

    def devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        """Send a command of the Chrome DevTools protocol."""
        return self._post("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def screenshot(self, path: Path) -> None:
        """Save the whole page as a PNG file."""
        shot = self.devtools("Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png"})
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, path: Path) -> None:
        """Print the page to a PDF file."""
        path.write_bytes(
            base64.b64decode(self.devtools("Page.printToPDF", {"printBackground": True})["data"])
        )

    def close(self) -> None:
        """End the session."""
        self._call("DELETE", "", None)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                if self._call("GET", "/status", None)["ready"]:
                    return
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._call("POST", path, body)

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._base + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with self._opener.open(request, timeout=120) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise RuntimeError(f"{method} {path}: {error.read().decode()[:500]}") from None


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A headless Chromium; skips where there is none, unless QRL_REQUIRE_BROWSER=1."""
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        reason = "no Chromium with chromedriver here; install it: apt-get install -y chromium chromium-driver"
        if os.environ.get("QRL_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("chromium")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "driver.log").open("wb") as log:
        process = subprocess.Popen(
            [driver, f"--port={port}"], stdout=log, stderr=log, env={**os.environ, "HOME": str(folder)}
        )
        try:
            session = Browser(port, chromium, folder / "profile")
            yield session
            session.close()
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture(scope="session")
def simulated() -> SimpleNamespace:
    """The names of the study tests' `simulated_study.py`."""
    path = Path(__file__).parents[1] / "qrl" / "study" / "simulated_study.py"
    return SimpleNamespace(**runpy.run_path(str(path)))
