#!/usr/bin/env python3
"""Clients that do nothing, or a byte a second, more of them than a server has file descriptors: /health has to be
answered within 100 ms and requests have to be served all the same.

    (ulimit -n 1024; serve --model DIR --port 8080) &
    tools/connection_flood.py --url http://127.0.0.1:8080

Needs Python 3.9 and nothing else; its own limit on open files has to be above 1,200 (it raises it as far as it may).
A minute for all kinds; --kind runs one. Ends with 1 where a promise is broken.
"""

import argparse
import json
import resource
import selectors
import socket
import statistics
import sys
import threading
import time
import urllib.parse

CHAT = "/v1/chat/completions"
HEAD = "Host: localhost\r\nContent-Type: application/json\r\n"
# Of each kind: how many, what a client sends at once, and what it then sends a byte a second of.
KINDS = {
    "idle": (1100, "", ""),
    "half a line": (1100, "GET /hea", ""),
    "half closed": (1100, None, ""),
    "one request, then idle": (1100, f"GET /health HTTP/1.1\r\n{HEAD}\r\n", ""),
    "slow heads": (1030, f"GET /health HTTP/1.1\r\n{HEAD}X-Slow: ", "x"),
    "slow bodies": (1030, f"POST {CHAT} HTTP/1.1\r\n{HEAD}Content-Length: 1000\r\n\r\n{{", " "),
    "never reading": (1030, f"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\n{HEAD}\r\n" * 20, ""),
}
SOON = 0.1


class Server:
    def __init__(self, url, key):
        parts = urllib.parse.urlsplit(url)
        self.address = (parts.hostname, parts.port or 80)
        self.key = f"Authorization: Bearer {key}\r\n" if key else ""

    def ask(self, method, path, body="", patience=60):
        """Status, and seconds."""
        begin = time.monotonic()
        head = f"{method} {path} HTTP/1.1\r\n{HEAD}{self.key}Connection: close\r\n"
        if body:
            head += f"Content-Length: {len(body)}\r\n"
        try:
            with socket.create_connection(self.address, patience) as client:
                client.sendall(f"{head}\r\n{body}".encode())
                answer = client.recv(64).split()
                status = int(answer[1]) if len(answer) > 1 else 0
        except OSError as error:
            print(f"    {method} {path}: {error}")
            status = 0
        return status, time.monotonic() - begin


class Flood:
    """Clients that are there until the end."""

    def __init__(self, server, count, begin, drip):
        self.clients, self.drip, self.over = [], drip.encode(), threading.Event()
        for _ in range(count):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(10)
            client.connect(server.address)
            if begin is None:
                client.shutdown(socket.SHUT_WR)
            elif begin:
                try:
                    client.sendall(begin.encode())
                except OSError:
                    pass  # Closed for another one.
            client.setblocking(False)
            self.clients.append(client)
        self.thread = threading.Thread(target=self.drops, daemon=True)
        self.thread.start()

    def drops(self):
        while self.drip and not self.over.wait(1):
            for client in self.clients:
                try:
                    client.send(self.drip)
                except OSError:
                    pass

    def end(self):
        """How many were open still."""
        self.over.set()
        self.thread.join()
        with selectors.DefaultSelector() as selector:
            for client in self.clients:
                selector.register(client, selectors.EVENT_READ)
            closed = 0
            for key, _ in selector.select(0):
                try:
                    closed += key.fileobj.recv(1 << 16, socket.MSG_PEEK) == b""
                except OSError:
                    closed += 1
        for client in self.clients:
            client.close()
        return len(self.clients) - closed


def check(server, kind):
    count, begin, drip = KINDS[kind]
    flood = Flood(server, count, begin, drip)
    good = server.ask("GET", "/health")[0] == 200
    time.sleep(3 if kind == "never reading" else 1)
    healths = [server.ask("GET", "/health") for _ in range(10)]
    body = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2})
    chats = [server.ask("POST", CHAT, body) for _ in range(3)]
    still = flood.end()
    good &= all(status == 200 for status, _ in healths + chats)
    median = statistics.median(seconds for _, seconds in healths)
    # Of ten probes one may meet a machine that is busy with something else.
    *most, worst = sorted(seconds for _, seconds in healths)
    good &= most[-1] < SOON
    slowest = max(seconds for _, seconds in chats)
    statuses = sorted({status for status, _ in chats})
    print(
        f"{'ok  ' if good else 'FAIL'} {count} {kind}: /health {median * 1e3:.1f} ms, at most "
        f"{worst * 1e3:.1f} ms; chats {statuses}, at most {slowest:.2f} s; {still} still open"
    )
    return good


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--url", default="http://127.0.0.1:8080")
    arguments.add_argument("--key", help="API key, for the chats")
    arguments.add_argument("--kind", choices=list(KINDS))
    arguments = arguments.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if 0 <= hard < 1200:
        print(f"skipped: this machine allows {hard} open files (ulimit -Hn), and 1,200 are needed")
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = Server(arguments.url, arguments.key)
    status, seconds = server.ask("GET", "/health")
    if status != 200:
        sys.exit(f"{arguments.url}/health: {status}")
    print(f"alone: /health {seconds * 1e3:.1f} ms")
    kinds = [arguments.kind] if arguments.kind else KINDS
    sys.exit(0 if all([check(server, kind) for kind in kinds]) else 1)


if __name__ == "__main__":
    main()
