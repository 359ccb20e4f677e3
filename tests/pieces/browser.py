"""A headless browser for tests: Debian's chromium or another Chromium, spoken to by its DevTools protocol.

Nothing is installed for it; tests that want it skip, with a reason, where there is none.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from websocket import WebSocketTimeoutException, create_connection

from lib.paper import find_browser

PROGRAM = find_browser()


class Page:
    """A page in the browser. `requests` and `errors` are gathered from when it is opened."""

    def __init__(self, browser: "Browser"):
        self.browser, self.requests, self.errors = browser, [], []

    def open(self, path: Path, width: int = 1400, height: int = 1000, dark: bool = False) -> "Page":
        """Load a file, and wait until it is loaded and two frames were drawn."""
        self.requests.clear()
        self.errors.clear()
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.browser.ask("Emulation.setEmulatedMedia", features=scheme)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.ask("Emulation.setDeviceMetricsOverride", **size)
        self.browser.ask("Page.navigate", url=path.resolve().as_uri())
        self.wait("document.readyState === 'complete'")
        self.settle()
        return self

    def settle(self) -> None:
        """Let the page draw twice, so that what was asked of it has happened."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def run(self, script: str):
        """Value of an expression in the page; AssertionError with the page's words where it throws."""
        answer = self.browser.ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = 15) -> None:
        """Until an expression is true."""
        until = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < until, f"still not so after {seconds} s: {condition}"
            time.sleep(0.03)

    def text(self, selector: str) -> str:
        """Words of all elements that a selector finds, which are some."""
        found = self.run(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.innerText)")
        assert found, f"no {selector}"
        return " ".join(" ".join(found).split())

    def click(self, selector: str, words: str = "", across: float = 0.5, down: float = 0.5) -> None:
        """A real click on the first element that a selector finds and that holds the words; where in it, as shares."""
        x, y = self.place(selector, words, across, down)
        button = {"x": x, "y": y, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.browser.ask("Input.dispatchMouseEvent", type=kind, **button)
        self.settle()

    def point(self, selector: str, across: float = 0.5, down: float = 0.5) -> None:
        """Move the pointer over an element."""
        x, y = self.place(selector, "", across, down)
        self.browser.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.settle()

    def place(self, selector: str, words: str, across: float, down: float) -> tuple[float, float]:
        """Where in the window an element lies, scrolled into view."""
        found = f"[...document.querySelectorAll({json.dumps(selector)})].find(e => e.textContent.includes({json.dumps(words)}))"
        assert self.run(f"Boolean({found})"), f"no {selector} with '{words}'"
        box = self.run(
            f"(() => {{ const e = {found}; e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect();"
            " return [b.x, b.y, b.width, b.height]; })()"
        )
        return box[0] + across * box[2], box[1] + down * box[3]

    def write(self, selector: str, value: str) -> None:
        """Give a field or slider a value, as a hand would."""
        self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.value = {json.dumps(value)};"
            " e.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )
        self.settle()

    def picture(self, path: Path) -> None:
        """A screenshot of the window."""
        path.write_bytes(base64.b64decode(self.browser.ask("Page.captureScreenshot")["data"]))


class Browser:
    """One chromium with one page."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="crossbook-browser-")
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
        options += ["--disable-background-networking", "--disable-component-update", "--mute-audio"]
        options += ["--remote-debugging-port=0", "--remote-allow-origins=*", f"--user-data-dir={self.folder}"]
        self.log = open(os.path.join(self.folder, "log"), "w+")  # noqa: SIM115
        self.process = subprocess.Popen([PROGRAM, *options, "about:blank"], stdout=self.log, stderr=self.log)
        self.asked = 0
        self.socket = create_connection(self._address(), timeout=30)
        target = next(t for t in self.ask("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = None
        self.session = self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)[
            "sessionId"
        ]
        self.page = Page(self)
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    session: str | None = None

    def _address(self, seconds: float = 30) -> str:
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            self.log.seek(0)
            if found := re.search(r"ws://\S+", self.log.read()):
                return found[0]
            time.sleep(0.05)
        raise RuntimeError(f"{PROGRAM} does not start")

    def ask(self, method: str, **given) -> dict:
        """What the browser answers; what it tells in between is kept for the page."""
        self.asked += 1
        session = {"sessionId": self.session} if self.session else {}
        self.socket.send(json.dumps({"id": self.asked, "method": method, "params": given, **session}))
        while True:
            try:
                told = json.loads(self.socket.recv())
            except WebSocketTimeoutException:
                raise AssertionError(f"chromium does not answer {method}") from None
            if told.get("id") == self.asked:
                assert "error" not in told, f"{method}: {told['error']}"
                return told["result"]
            self._hear(told.get("method"), told.get("params", {}))

    def _hear(self, method: str, said: dict) -> None:
        if method == "Network.requestWillBeSent":
            self.page.requests.append(said["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = said["exceptionDetails"]
            self.page.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.page.errors.append(" ".join(str(a.get("value", a.get("description"))) for a in said["args"]))
        elif method == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.page.errors.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")

    def close(self) -> None:
        """End the browser and remove what it wrote."""
        self.socket.close()
        self.process.terminate()
        self.process.wait(10)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
