#!/usr/bin/env python3
"""Clients that go away at random moments: does every KV block come back, and does memory stay what it was?

    tools/client_chaos.py --url http://127.0.0.1:8080 --pid PID [--requests 2000] [--clients 16]

First the KV cache is filled once (its pages are touched for the first time then) and some requests warm
the server up; then `--requests` short requests follow, of which a share is killed: half a header, half a
body, right after sending, while waiting, while reading. At the end /metrics must show nothing waiting,
nothing running and no KV block in use, a last request must be answered, and the resident memory of
`--pid` (Linux) must have drifted by less than 1 % since the warm-up. No Python packages needed; the
server should have no other clients. The exit code says whether all held. Of 100,000 requests:

    tools/client_chaos.py --url http://127.0.0.1:8080 --pid PID --requests 100000 --killed 0.1
"""

import argparse
import asyncio
import collections
import json
import pathlib
import random
import socket
import struct
import sys
import time
import urllib.parse

WAYS = ["header", "body", "sent", "waiting", "reading"]
ZEROS = ["lightglm_kv_blocks_used", "lightglm_requests_running", "lightglm_requests_waiting"]
BUSY_PAUSE = 0.2


class Server:
    """Raw requests, one connection each."""

    def __init__(self, url, key):
        parts = urllib.parse.urlsplit(url)
        assert parts.scheme == "http", "only http:// is spoken here"
        self.host, self.port = parts.hostname, parts.port or 80
        self.key = key

    def bytes_of(self, method, path, body=None):
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}", "Connection: close"]
        if self.key:
            lines.append(f"Authorization: Bearer {self.key}")
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
        return "\r\n".join(lines).encode() + b"\r\n\r\n", data

    async def ask(self, method, path, body=None):
        """Status and body of a whole reply; a chunked one is put together."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(b"".join(self.bytes_of(method, path, body)))
            await writer.drain()
            reply = await asyncio.wait_for(reader.read(-1), 300)
        finally:
            writer.close()
        head, _, rest = reply.partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" in head.lower():
            rest = unchunked(rest)
        return int(head.split(b" ", 2)[1]), rest

    async def metrics(self):
        status, text = await self.ask("GET", "/metrics")
        assert status == 200, f"/metrics: {status}"
        pairs = (line.rsplit(" ", 1) for line in text.decode().splitlines() if not line.startswith("#"))
        sums = {}
        # Of a model's series the sum over all models.
        for name, value in ((name.split("{")[0], float(value)) for name, value in pairs):
            sums[name] = sums.get(name, 0) + value
        return sums

    async def kill(self, body, path, way, moment):
        """Sends as much as `way` says, waits for `moment` seconds, and goes away, mostly without a word."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        head, data = self.bytes_of("POST", path, body)
        sent = {"header": head[: len(head) // 2], "body": head + data[: len(data) // 2]}.get(way, head + data)
        writer.write(sent)
        try:
            await writer.drain()
            if way == "reading":
                await asyncio.wait_for(reader.read(256), 60)
            if way != "sent":
                await asyncio.sleep(moment)
        except (ConnectionError, asyncio.TimeoutError):
            pass
        if moment * 1000 % 3 >= 1:
            # A reset instead of a goodbye.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        else:
            writer.close()


def unchunked(data):
    whole = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        size = int(size, 16)
        whole, data = whole + data[:size], data[size + 2 :]
        if size == 0:
            return whole
    raise ConnectionError("a chunked reply ended early")


def request_of(number, rng, tokens):
    """A path and a body: chats and completions, streamed or not."""
    stream = rng.random() < 0.5
    body = {"max_tokens": tokens, "seed": number, "stream": stream}
    if rng.random() < 0.5:
        return "/v1/completions", {**body, "prompt": f"Parcel number {rng.randrange(10**9)} is"}
    return "/v1/chat/completions", {**body, "messages": [{"role": "user", "content": f"Is {rng.randrange(10**9)} even?"}]}


def whole_reply(body, status, reply):
    if status != 200:
        return f"status {status}: {reply[:200]!r}"
    if body["stream"]:
        good = reply.endswith(b"data: [DONE]\n\n") and b'data: {"error"' not in reply
        return None if good else f"a stream without its end: {reply[-200:]!r}"
    usage = json.loads(reply)["usage"]
    return None if 0 < usage["completion_tokens"] <= body["max_tokens"] else f"usage: {usage}"


async def one(server, number, arguments, counts, failures):
    rng = random.Random(f"{arguments.seed} {number}")
    if rng.random() < arguments.killed:
        path, body = request_of(number, rng, 400)
        body["ignore_eos"] = True
        way = rng.choice(WAYS)
        await server.kill(body, path, way, rng.random() * arguments.patience)
        counts[f"killed: {way}"] += 1
        return
    path, body = request_of(number, rng, rng.randint(1, arguments.max_tokens))
    while True:
        status, reply = await server.ask("POST", path, body)
        if status != 429:
            break
        counts["busy (429), asked again"] += 1
        await asyncio.sleep(BUSY_PAUSE)
    wrong = whole_reply(body, status, reply)
    counts["answered" if wrong is None else "wrong"] += 1
    if wrong:
        failures.append(f"request {number}: {wrong}")


async def load(server, numbers, arguments, counts, failures, say=True):
    """`--clients` clients take the numbers from one list."""
    numbers, began, last = iter(numbers), time.monotonic(), time.monotonic()

    async def client():
        nonlocal last
        for number in numbers:
            try:
                await one(server, number, arguments, counts, failures)
            except (OSError, ValueError, IndexError, KeyError, asyncio.TimeoutError) as error:
                counts["wrong"] += 1
                failures.append(f"request {number}: {error!r}")
            if len(failures) > 20:
                return
            if say and time.monotonic() - last > 10:
                last = time.monotonic()
                print(f"    {number} requests, {number / (last - began):.0f} a second", flush=True)

    await asyncio.gather(*(client() for _ in range(arguments.clients)))


async def fill_cache(server, rng):
    """Touches every KV block once, so that their pages are not taken for a leak."""
    _, models = await server.ask("GET", "/v1/models")
    longest = min(json.loads(models)["data"][0]["max_model_len"] // 2, 1024)
    blocks = (await server.metrics())["lightglm_kv_blocks"]
    for _ in range(int(2 * blocks * 16 / longest) + 1):
        if (await server.metrics())["lightglm_kv_blocks_free"] == 0:
            return
        prompt = [rng.randrange(100, 10_000) for _ in range(longest)]
        status, reply = await server.ask("POST", "/v1/completions", {"prompt": prompt, "max_tokens": 1})
        assert status == 200, f"{status}: {reply[:200]!r}"


async def settled(server, seconds=60):
    """Waits until nothing runs; returns the last metrics."""
    end = time.monotonic() + seconds
    while True:
        metrics = await server.metrics()
        if not any(metrics[name] for name in ZEROS) or time.monotonic() > end:
            return metrics
        await asyncio.sleep(0.2)


def resident(pid):
    """Bytes of memory that the process holds."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS:"))) * 1024


async def chaos(arguments):
    server = Server(arguments.url, arguments.api_key)
    failures, counts = [], collections.Counter()
    await fill_cache(server, random.Random(arguments.seed))
    print("the KV cache has been filled", flush=True)
    warm = range(-arguments.warm_up, 0)
    await load(server, warm, arguments, collections.Counter(), failures, say=False)
    before = await settled(server)
    held = resident(arguments.pid) if arguments.pid else None
    print(f"warmed up by {arguments.warm_up} requests" + (f": {held / 2**20:.1f} MiB resident" if held else ""), flush=True)

    began = time.monotonic()
    await load(server, range(arguments.requests), arguments, counts, failures)
    took = time.monotonic() - began
    after = await settled(server)
    print(f"{arguments.requests} requests in {took:.1f} s: " + ", ".join(f"{n} {c}" for n, c in sorted(counts.items())))
    for name in ["requests_finished_total", "requests_cancelled_total", "requests_failed_total", "preemptions_total"]:
        print(f"    {name} +{after[f'lightglm_{name}'] - before[f'lightglm_{name}']:.0f}")

    for name in ZEROS:
        if after[name]:
            failures.append(f"{name} is {after[name]:.0f} after the clients are gone")
    blocks = [after[f"lightglm_kv_blocks{part}"] for part in ("", "_used", "_cached", "_free")]
    if blocks[0] != sum(blocks[1:]):
        failures.append(f"{blocks[0]:.0f} KV blocks, but used, cached and free are {blocks[1:]}")
    if after["lightglm_requests_failed_total"] != before["lightglm_requests_failed_total"]:
        failures.append("requests failed")
    status, reply = await server.ask("POST", "/v1/completions", {"prompt": "Hello", "max_tokens": 4})
    if status != 200:
        failures.append(f"afterwards: {status}: {reply[:200]!r}")
    if held:
        now = resident(arguments.pid)
        drift = now / held - 1
        print(f"    resident {held / 2**20:.1f} -> {now / 2**20:.1f} MiB: {drift:+.2%}")
        if abs(drift) >= arguments.drift:
            failures.append(f"resident memory drifted by {drift:+.2%}")
    for failure in failures[:20]:
        print(f"FAIL {failure}")
    print("FAILED" if failures else "all held")
    return 1 if failures else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--api-key")
    parser.add_argument("--pid", type=int, help="the server's process; without it memory is not looked at")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--warm-up", type=int, default=300, help="requests before memory is looked at first")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--killed", type=float, default=0.3, help="share of the clients that go away")
    parser.add_argument("--patience", type=float, default=0.5, help="seconds within which they do")
    parser.add_argument("--max-tokens", type=int, default=8, help="of those that stay")
    parser.add_argument("--drift", type=float, default=0.01, help="of resident memory")
    parser.add_argument("--seed", type=int, default=1)
    return asyncio.run(chaos(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
