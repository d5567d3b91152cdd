"""Debian's headless Chromium over its DevTools pipe: nothing to install beside the browser itself.

Two pipes carry JSON messages that end with a NUL byte. The browser reaches no host: every name resolves to
nothing, and what a page asks for is recorded.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

__all__ = ["Browser", "Page", "chromium_path"]

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)


def chromium_path() -> str | None:
    """Path of the browser; None where it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """A running browser; leaving the `with` block ends it and removes its profile."""

    def __init__(self, executable: str, timeout: float = 20.0) -> None:
        self.timeout = timeout
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        read_commands, self._commands = os.pipe()
        self._answers, write_answers = os.pipe()
        # The browser reads from descriptor 3 and writes to 4; bash puts our pipes there.
        redirect = f'exec "$@" 3<&{read_commands} 4>&{write_answers}'
        command = [
            "bash",
            "-c",
            redirect,
            "bash",
            executable,
            *_FLAGS,
            f"--user-data-dir={self._profile.name}",
        ]
        self._process = subprocess.Popen(
            [*command, "about:blank"],
            pass_fds=(read_commands, write_answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_commands)
        os.close(write_answers)
        self._numbers = itertools.count(1)
        self._buffer = b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call("Browser.close")
        except (OSError, TimeoutError, RuntimeError):
            self._process.kill()
        os.close(self._commands)
        os.close(self._answers)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._profile.cleanup()

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send one command and wait for its answer; events that arrive meanwhile are kept."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._commands, content) :]
        deadline = time.monotonic() + self.timeout
        while True:
            answer = self._receive(deadline, method)
            if answer.get("id") != number:
                self.events.append(answer)
                continue
            if "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']}")
            return answer.get("result", {})

    def wait_for(self, method: str, session: str) -> None:
        """Wait until the page of `session` has sent an event of this name."""
        deadline = time.monotonic() + self.timeout
        while not any(each.get("method") == method and each.get("sessionId") == session for each in self.events):
            self.events.append(self._receive(deadline, method))

    def open(self, path: Path, width: int, height: int = 900, dark: bool = False, media: str = "") -> Page:
        """Open a file in a new page of this width and wait until it is loaded; `media` is `print` for paper."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable", session)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            session,
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", session, media=media, features=[scheme])
        self.call("Page.navigate", session, url=path.resolve().as_uri())
        self.wait_for("Page.loadEventFired", session)
        return Page(self, session)

    def _receive(self, deadline: float, waiting_for: str) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"chromium: no answer to {waiting_for} within {self.timeout} s")
            chunk = os.read(self._answers, 1 << 20)
            if not chunk:
                raise OSError(f"chromium: ended while waiting for {waiting_for}")
            self._buffer += chunk
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)


class Page:
    """One loaded page: ask it, look at it, and read what it complained of and asked for."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression; a promise is awaited."""
        answer = self._browser.call(
            "Runtime.evaluate", self._session, expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press and release a key, such as ArrowLeft (37) or a space (32)."""
        text = {"text": key} if len(key) == 1 else {}
        name = "Space" if key == " " else key
        for kind in ("keyDown", "keyUp"):
            self._browser.call(
                "Input.dispatchKeyEvent",
                self._session,
                type=kind,
                key=key,
                code=name,
                windowsVirtualKeyCode=code,
                **(text if kind == "keyDown" else {}),
            )

    def screenshot(self, path: Path) -> None:
        """Save the whole page, beyond the window's lower edge, as PNG."""
        answer = self._browser.call("Page.captureScreenshot", self._session, format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def pdf(self, path: Path) -> None:
        """Print the page on A4."""
        answer = self._browser.call(
            "Page.printToPDF", self._session, printBackground=True, paperWidth=8.27, paperHeight=11.69
        )
        path.write_bytes(base64.b64decode(answer["data"]))

    def requests(self) -> list[str]:
        """Addresses that the page asked for, without those that lie inside it."""
        addresses = [each["params"]["request"]["url"] for each in self._events("Network.requestWillBeSent")]
        return [each for each in addresses if not each.startswith(("data:", "about:"))]

    def complaints(self) -> list[str]:
        """Errors and warnings on the console, in the log, and exceptions that nobody caught."""
        self.evaluate("1")  # events sent before the answer to this have arrived
        thrown = [json.dumps(each["params"]) for each in self._events("Runtime.exceptionThrown")]
        logged = [json.dumps(each["params"]["entry"]) for each in self._events("Log.entryAdded")]
        printed = [
            json.dumps(each["params"]["args"])
            for each in self._events("Runtime.consoleAPICalled")
            if each["params"]["type"] in ("error", "warning", "assert")
        ]
        return thrown + logged + printed

    def _events(self, method: str) -> list[dict[str, Any]]:
        events = self._browser.events
        return [each for each in events if each.get("method") == method and each.get("sessionId") == self._session]
