#!/usr/bin/env python3
"""What others notice when a long prompt joins, and what a shared beginning saves.

    tools/latency_check.py --url http://127.0.0.1:8080 [--streams 4] [--join 4096] [--shared 2048] [--json]

Two measurements over /v1/completions, each with prompts no server has seen before:

* join: `--streams` replies run; the time between two of their tokens is taken first while they run alone,
  then from the moment a prompt of about `--join` tokens is sent until its first token is there. Asked is
  a 99th percentile of at most twice the steady one.
* shared: `--repeats` times, a prompt of about `--shared` tokens nobody has sent before, then one that begins
  with the same tokens and ends otherwise. Asked is a time to the first token of at most a tenth.

Tokens are counted by the server (`usage`). No Python packages needed. The server should have no other
clients, and take prompts that long (`--max-context`). It works with any server that speaks OpenAI's protocol.
It measures and does not judge: the exit code only says whether it could.
"""

import argparse
import http.client
import json
import random
import statistics
import sys
import threading
import time
import urllib.parse

WORDS = """the of and to in is that for it with as was on are by this be at from or an which we not have one
can all more time people work""".split()


def prompt(random_source, words):
    return "".join(" " + random_source.choice(WORDS) for _ in range(words))


class Server:
    def __init__(self, url, key, model):
        self.parts = urllib.parse.urlsplit(url)
        self.headers = {"Content-Type": "application/json"}
        if key:
            self.headers["Authorization"] = f"Bearer {key}"
        self.model = model or self.first_model()

    def connect(self):
        return http.client.HTTPConnection(self.parts.hostname, self.parts.port or 80, timeout=600)

    def first_model(self):
        connection = self.connect()
        connection.request("GET", "/v1/models", headers=self.headers)
        return json.load(connection.getresponse())["data"][0]["id"]

    def stream(self, text, tokens, arrived, enough=None):
        """Sends the prompt; `arrived(seconds since it was sent)` for each event with text. Its prompt tokens."""
        body = {
            "model": self.model,
            "prompt": text,
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "ignore_eos": True,
        }
        connection = self.connect()
        sent = time.perf_counter()
        connection.request("POST", "/v1/completions", json.dumps(body), self.headers)
        reply = connection.getresponse()
        if reply.status != 200:
            raise SystemExit(f"{reply.status}: {reply.read()[:500]!r}")
        prompt_tokens = None
        for line in reply:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if event.get("usage"):
                prompt_tokens = event["usage"]["prompt_tokens"]
            if event.get("choices"):
                arrived(time.perf_counter() - sent)
            if enough and enough.is_set():
                break
        connection.close()
        return prompt_tokens


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


class Watched:
    """A reply that runs; the moments of its tokens."""

    def __init__(self, server, text, tokens, enough):
        self.moments = []
        self.error = "it is complete: --reply says how long it may be"
        self.thread = threading.Thread(target=self.run, args=(server, text, tokens, enough), daemon=True)
        self.thread.start()

    def run(self, server, text, tokens, enough):
        try:
            server.stream(text, tokens, lambda _: self.moments.append(time.perf_counter()), enough)
        except (SystemExit, OSError, ValueError, KeyError) as error:
            self.error = error

    def check(self):
        if not self.thread.is_alive():
            raise SystemExit(f"a reply ended before it was measured: {self.error}")

    def gaps(self, start, end):
        pairs = zip(self.moments, self.moments[1:])
        return [b - a for a, b in pairs if a < end and b > start]


def join(server, source, options):
    enough = threading.Event()
    replies = [Watched(server, prompt(source, 16), options.reply, enough) for _ in range(options.streams)]
    while not all(len(reply.moments) > 8 for reply in replies):
        for reply in replies:
            reply.check()
        time.sleep(0.02)
    steady_from = time.perf_counter()
    time.sleep(options.steady)
    steady_to = time.perf_counter()
    first = []
    taken = server.stream(prompt(source, options.join), 1, lambda t: first.append(t))
    joined_to = steady_to + first[0]
    for reply in replies:
        reply.check()
    enough.set()
    for reply in replies:
        reply.thread.join(60)
    steady = [gap for reply in replies for gap in reply.gaps(steady_from, steady_to)]
    joining = [gap for reply in replies for gap in reply.gaps(steady_to, joined_to)]
    row = {
        "prompt_tokens": taken,
        "first_token_s": first[0],
        "steady_p50_ms": 1e3 * statistics.median(steady),
        "steady_p99_ms": 1e3 * percentile(steady, 0.99),
        "joining_p50_ms": 1e3 * statistics.median(joining),
        "joining_p99_ms": 1e3 * percentile(joining, 0.99),
        "tokens_while_joining": len(joining),
    }
    row["p99_ratio"] = row["joining_p99_ms"] / row["steady_p99_ms"]
    return row


def shared(server, source, options):
    cold, warm, taken = [], [], None
    for _ in range(options.repeats):
        beginning = prompt(source, options.shared)
        first = []
        taken = server.stream(beginning + prompt(source, 8), 1, lambda t: first.append(t))
        cold.append(first[0])
        first = []
        server.stream(beginning + prompt(source, 8), 1, lambda t: first.append(t))
        warm.append(first[0])
    cold, warm = statistics.median(cold), statistics.median(warm)
    return {"prompt_tokens": taken, "cold_s": cold, "shared_s": warm, "ratio": warm / cold}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--api-key")
    parser.add_argument("--model", help="the first one of /v1/models if omitted")
    parser.add_argument("--streams", type=int, default=4, help="replies that run, at least 1")
    parser.add_argument("--reply", type=int, default=4096, help="their tokens at most")
    parser.add_argument("--join", type=int, default=4096, help="0 leaves this measurement out")
    parser.add_argument("--steady", type=float, default=5.0, help="seconds")
    parser.add_argument("--shared", type=int, default=2048, help="0 leaves this measurement out")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if min(options.streams, options.repeats, options.reply) < 1 or options.steady <= 0:
        parser.error("--streams, --repeats, --reply and --steady must be more than 0")
    server = Server(options.url, options.api_key, options.model)
    source = random.Random(options.seed)
    rows = {}
    if options.join:
        rows["join"] = join(server, source, options)
    if options.shared:
        rows["shared"] = shared(server, source, options)
    if options.json:
        print(json.dumps(rows))
        return
    for name, row in rows.items():
        print(name)
        for field, value in row.items():
            print(f"  {field:<22}{value:.4g}" if isinstance(value, float) else f"  {field:<22}{value}")


if __name__ == "__main__":
    sys.exit(main())
