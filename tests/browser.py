"""A real browser, driven through a pipe: what it says, asks the network for, lays out and draws."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needed = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; `make browser` installs Debian's")
SWITCHES = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
]  # fmt: skip


class Browser:
    """One open page of a browser.

    Attributes:
        complaints: Errors and warnings of its console, exceptions, and dialogs that a script opened.
        asked: Addresses that it asked for.
    """

    def __init__(self, read: int, write: int) -> None:
        self.read, self.write = read, write
        self.number, self.buffer, self.session = 0, b"", None
        self.complaints, self.asked = [], []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters):
        self.number += 1
        said = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            said["sessionId"] = self.session
        os.write(self.write, json.dumps(said).encode() + b"\0")
        while True:
            heard = self.hear()
            if heard.get("id") == self.number:
                assert "error" not in heard, heard
                return heard["result"]

    def hear(self, until: float | None = None):
        """Wait for one message; None where none comes in time."""
        until = time.monotonic() + 60 if until is None else until
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.read], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                return None
            more = os.read(self.read, 1 << 20)
            assert more, "the browser ended"
            self.buffer += more
        said, self.buffer = self.buffer.split(b"\0", 1)
        heard = json.loads(said)
        self.note(heard.get("method"), heard.get("params", {}))
        return heard

    def note(self, method, said):
        if method == "Network.requestWillBeSent":
            self.asked.append(said["request"]["url"])
        elif method == "Log.entryAdded":
            self.complaints.append(said["entry"]["text"])
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Page.javascriptDialogOpening"):
            self.complaints.append(f"{method}: {json.dumps(said)[:300]}")

    def open(self, file):
        self.complaints, self.asked = [], []
        self.send("Page.navigate", url=file.as_uri())
        while self.value("document.readyState") != "complete":
            time.sleep(0.02)
        # Whatever a hostile text would start has a moment to start.
        while self.hear(time.monotonic() + 0.3):
            pass

    def value(self, expression: str):
        return self.send("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def screen(self, width: int, height: int = 800, dark: bool = False):
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self) -> bytes:
        return base64.b64decode(self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def paper(self) -> bytes:
        return base64.b64decode(self.send("Page.printToPDF", printBackground=False)["data"])


@contextmanager
def opened(profile):
    """Run a browser until the block ends."""
    theirs, write = os.pipe()
    read, hers = os.pipe()
    command = f'exec "$0" "$@" 3<&{theirs} 4>&{hers}'
    with (profile / "log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", command, CHROMIUM, *SWITCHES, f"--user-data-dir={profile / 'profile'}"],
            pass_fds=(theirs, hers),
            stdout=log,
            stderr=log,
        )
        os.close(theirs)
        os.close(hers)
        try:
            yield Browser(read, write)
        finally:
            os.close(write)
            os.close(read)
            process.terminate()
            process.wait(timeout=30)
