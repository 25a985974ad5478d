"""Headless Chromium, driven over the DevTools protocol on a pipe: the standard library is enough.

    with Browser(find_browser()) as browser:
        page = browser.page("http://127.0.0.1:8080/")
        page.evaluate("document.title")
"""

import base64
import fcntl
import json
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # in a container there are no user namespaces; the pages are our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--lang=en-US",
    "--use-fake-device-for-media-stream",  # a microphone that beeps,
    "--use-fake-ui-for-media-stream",  # and may be used
)
# Errors that an `evaluate` cannot see, kept by the page itself from its first moment on.
WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) =>
    window.violations.push(`${event.violatedDirective}: ${event.blockedURI}`));
"""


class ProtocolError(Exception):
    """The browser refused a command, or a script in the page threw."""


def find_browser() -> str | None:
    named = os.environ.get("LIGHTGLM_BROWSER")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    def __init__(self, executable: str):
        self.profile = tempfile.TemporaryDirectory(prefix="page-check-", ignore_cleanup_errors=True)
        to_read, self.to_browser = os.pipe()
        self.from_browser, to_write = os.pipe()
        # High numbers, so that neither is 3 or 4 before it is put there.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in (to_read, to_write)]

        def place():
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        command = [executable, *OPTIONS, f"--user-data-dir={self.profile.name}", "about:blank"]
        environment = {**os.environ, "HOME": self.profile.name}
        self.process = subprocess.Popen(
            command, pass_fds=(3, 4), preexec_fn=place, env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for end in (to_read, to_write, *ends):
            os.close(end)
        self.lock = threading.Lock()
        self.next_id = 0
        self.replies: dict[int, queue.Queue] = {}
        self.listeners = {}
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.call("Browser.close", timeout=5)
            self.process.wait(10)
        except (ProtocolError, OSError, subprocess.TimeoutExpired):
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        self.profile.cleanup()

    def _read(self):
        rest = b""
        while data := os.read(self.from_browser, 1 << 16):
            *messages, rest = (rest + data).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self.replies.pop(message["id"]).put(message)
                elif listener := self.listeners.get(message.get("sessionId")):
                    listener(message["method"], message["params"])

    def call(self, method, params=None, session=None, timeout=30):
        reply = queue.Queue()
        with self.lock:
            self.next_id += 1
            message = {"id": self.next_id, "method": method, "params": params or {}}
            if session:
                message["sessionId"] = session
            self.replies[self.next_id] = reply
            data = json.dumps(message).encode() + b"\0"
            while data:
                data = data[os.write(self.to_browser, data) :]
        try:
            answer = reply.get(timeout=timeout)
        except queue.Empty:
            raise ProtocolError(f"{method}: no reply in {timeout} s") from None
        if "error" in answer:
            raise ProtocolError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def page(self, url: str, language: str = "en-US") -> "Page":
        return Page(self, url, language)


class Page:
    """One tab, with what it asked for and what it complained about."""

    def __init__(self, browser: Browser, url: str, language: str):
        self.browser = browser
        context = browser.call("Target.createBrowserContext")["browserContextId"]
        target = browser.call("Target.createTarget", {"url": "about:blank", "browserContextId": context})
        attached = {"targetId": target["targetId"], "flatten": True}
        self.session = browser.call("Target.attachToTarget", attached)["sessionId"]
        self.requested: list[str] = []
        self.complaints: list[str] = []
        self.rules = []  # (part of the URL, status, headers, body) that answer in the server's place
        browser.listeners[self.session] = self._event
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        agent = self.evaluate("navigator.userAgent")
        self.call("Emulation.setUserAgentOverride", {"userAgent": agent, "acceptLanguage": language})
        self.call("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        self.open(url)

    def call(self, method, params=None, timeout=30):
        return self.browser.call(method, params, self.session, timeout)

    def _event(self, method, params):
        if method == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(a.get("value", a.get("description"))) for a in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            entry = params["entry"]
            self.complaints.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")
        elif method == "Fetch.requestPaused":
            # Not on this thread: it is the one that reads the reply.
            threading.Thread(target=self._answer, args=(params,), daemon=True).start()

    def _answer(self, params):
        for part, status, headers, body in self.rules:
            if part in params["request"]["url"]:
                self.call("Fetch.fulfillRequest", {
                    "requestId": params["requestId"],
                    "responseCode": status,
                    "responseHeaders": [{"name": n, "value": v} for n, v in headers.items()],
                    "body": base64.b64encode(body.encode()).decode(),
                })
                return
        self.call("Fetch.continueRequest", {"requestId": params["requestId"]})

    def intercept(self, rules):
        """Answers in the server's place; an empty list ends it."""
        self.rules = rules
        self.call("Fetch.enable" if rules else "Fetch.disable")

    def offline(self, yes: bool):
        self.call("Network.emulateNetworkConditions", {
            "offline": yes, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1,
        })

    def open(self, url: str):
        self.call("Page.navigate", {"url": url})
        self.wait("document.readyState === 'complete' && document.title !== ''")

    def reload(self):
        self.evaluate("window.old = true")
        self.call("Page.reload")
        self.wait("!window.old && document.readyState === 'complete'")

    def evaluate(self, expression: str):
        """The value of an expression, awaited where it is a promise."""
        params = {"expression": expression, "awaitPromise": True, "returnByValue": True, "userGesture": True}
        result = self.call("Runtime.evaluate", params, timeout=60)
        if details := result.get("exceptionDetails"):
            raise ProtocolError(details.get("exception", {}).get("description", details["text"]))
        return result["result"].get("value")

    def wait(self, expression: str, seconds: float = 15):
        """Waits until an expression is true; its value."""
        end = time.monotonic() + seconds
        while True:
            try:
                if value := self.evaluate(expression):
                    return value
            except ProtocolError:  # between two documents
                if time.monotonic() > end:
                    raise
            if time.monotonic() > end:
                raise AssertionError(f"not true after {seconds} s: {expression}")
            time.sleep(0.03)

    def click(self, selector: str):
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def focus(self, selector: str):
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")

    def write(self, text: str):
        self.call("Input.insertText", {"text": text})

    def key(self, key: str, shift: bool = False, code: int = 0):
        code = code or {"Enter": 13, "Escape": 27, "ArrowRight": 39, "Tab": 9}[key]
        params = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", {"type": "keyDown", **params, **text})
        self.call("Input.dispatchKeyEvent", {"type": "keyUp", **params})

    def compose(self, text: str):
        """Text of an input method that is not committed yet."""
        self.call("Input.imeSetComposition", {"text": text, "selectionStart": len(text), "selectionEnd": len(text)})

    def viewport(self, width: int, height: int, phone: bool = False):
        self.call("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone,
        })

    def scheme(self, name: str):
        feature = {"name": "prefers-color-scheme", "value": name}
        self.call("Emulation.setEmulatedMedia", {"features": [feature]})

    def screenshot(self, path: pathlib.Path):
        time.sleep(0.35)  # transitions
        data = self.call("Page.captureScreenshot", {"format": "png"})["data"]
        path.write_bytes(base64.b64decode(data))

    def unnamed_controls(self) -> list[str]:
        """Roles of controls that a screen reader could not name."""
        roles = {"button", "textbox", "combobox", "slider", "spinbutton", "tab", "meter", "link", "checkbox"}
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            node["role"]["value"]
            for node in nodes
            if not node.get("ignored") and node["role"]["value"] in roles and not node.get("name", {}).get("value")
        ]
