#!/usr/bin/env python3
"""A bounded attack on every route of a running server: nothing may end it or give a 5xx.

    python3 -m venv venv && venv/bin/pip install schemathesis==4.32.5
    cargo run --release --example serve -- --max-context 1024 --max-running 16
    venv/bin/python tools/api_fuzz.py --url http://127.0.0.1:8080 [--api-key KEY] [--seconds 90]

First a list of hostile requests (api_hostile.py): every one must get the status that is due, in OpenAI's
shape, with the field named. Then connections that are no HTTP, or never end. Then schemathesis, which
reads /openapi.json and makes requests of it for `--seconds`, from a fixed seed; in these, replies are
kept to a few tokens (api_fuzz_hooks.py). /v1/embeddings and /v1/rerank, a 501
without --embedding-model, are in the list alone. A short
--max-context keeps the long prompts of valid requests cheap. The exit code says whether all held.
"""

import argparse
import collections
import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

import api_hostile

CHECKS = [
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "unsupported_method", "ignored_auth",
]  # fmt: skip
# A reply to a hostile request that takes longer has cost too much.
SLOWEST = 30.0
# The server's limit for headers, and some more.
HEADER_SECONDS = 40.0
DRIPS = 64


class Target:
    def __init__(self, url, key):
        parts = urllib.parse.urlsplit(url)
        assert parts.scheme == "http" and parts.hostname, "an http:// address"
        self.url, self.host, self.port, self.key = url.rstrip("/"), parts.hostname, parts.port or 80, key

    def ask(self, method, path, body=b"", headers=None):
        """Status, headers and body; the key goes along unless `headers` has one."""
        headers = dict(headers or {})
        if self.key and "Authorization" not in headers:
            headers["Authorization"] = f"Bearer {self.key}"
        return self.send(method, path, body, headers)

    def send(self, method, path, body, headers):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=SLOWEST)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            if body or method == "POST":
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders()
            # A refusal may come before the whole body is gone.
            try:
                connection.send(body)
            except (BrokenPipeError, ConnectionResetError):
                pass
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def raw(self, data, seconds=5.0):
        """Sends bytes; returns what comes until the end, or until `seconds` are over."""
        answer = b""
        with socket.create_connection((self.host, self.port), timeout=seconds) as stream:
            try:
                stream.sendall(data)
                stream.shutdown(socket.SHUT_WR)
                while piece := stream.recv(65536):
                    answer += piece
            except OSError:  # closed, in whatever way: who closes is right as well
                pass
        return answer


def shape_of(body):
    """What is wrong with an error's body; and the field that it names."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return f"not an error of OpenAI's: {body[:120]!r}", None
    texts = all(isinstance(error.get(name), str) and error[name] for name in ("message", "type"))
    options = all(name in error and isinstance(error[name], str | None) for name in ("param", "code"))
    return None if texts and options else f"not an error of OpenAI's: {error}", error.get("param")


def verdict(case, status, headers, body, seconds):
    if status not in case.statuses:
        return f"{status}, not {case.statuses}: {body[:200]!r}"
    if seconds > SLOWEST / 2:
        return f"took {seconds:.1f} s"
    # An address that is none is refused below the routes, without a body.
    if status < 400 or (status == 400 and case.method == "GET" and not body):
        return None
    wrong, param = shape_of(body)
    if wrong:
        return wrong
    if case.param and not (param or "").startswith(case.param):
        return f"names {param!r}, not {case.param!r}: {body[:200]!r}"
    if not headers.get("x-request-id"):
        return "no x-request-id"
    return None


def hostile(target, failures):
    counts = collections.Counter()
    cases = list(api_hostile.all_cases())
    if target.key:
        cases += [("keys", case) for case in api_hostile.keys(target.key)]
    for group, case in cases:
        began = time.monotonic()
        send = target.send if group == "keys" else target.ask
        try:
            status, headers, body = send(case.method, case.path, case.body, case.headers)
            wrong = verdict(case, status, headers, body, time.monotonic() - began)
        except (OSError, http.client.HTTPException) as error:
            wrong = f"no answer: {error!r}"
        counts[group] += 1
        if wrong:
            failures.append(f"{group}: {case.name}: {case.method} {case.path[:60]}: {wrong}")
    for group, count in counts.items():
        bad = sum(failure.startswith(f"{group}:") for failure in failures)
        print(f"{'FAIL' if bad else 'ok  '} {count} hostile requests: {group}" + (f", {bad} wrong" if bad else ""), flush=True)


def broken_http(target, failures):
    """Bytes that are no request, or two: an answer is a 4xx, if there is one."""
    host = f"Host: {target.host}\r\n"
    key = f"Authorization: Bearer {target.key}\r\n" if target.key else ""
    post = f"POST /v1/chat/completions HTTP/1.1\r\n{host}{key}Content-Type: application/json\r\n"
    for name, data in [
        ("nothing", ""),
        ("noise", "\x00\x01\x02\r\n\r\n"),
        ("TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("HTTP/9", f"GET /health HTTP/9.9\r\n{host}\r\n"),
        ("no version", "GET /health\r\n\r\n"),
        ("200 headers", f"GET /health HTTP/1.1\r\n{host}" + "".join(f"x-{n}: 1\r\n" for n in range(200)) + "\r\n"),
        ("a header of 100 KB", f"GET /health HTTP/1.1\r\n{host}x: {'a' * 100_000}\r\n\r\n"),
        ("a path of 100 KB", f"GET /{'a' * 100_000} HTTP/1.1\r\n{host}\r\n"),
        ("a header without a name", f"GET /health HTTP/1.1\r\n{host}: 1\r\n\r\n"),
        ("a folded header", f"GET /health HTTP/1.1\r\n{host}x: 1\r\n 2\r\n\r\n"),
        ("a zero in a header", f"GET /health HTTP/1.1\r\n{host}x: \x00\r\n\r\n"),
        ("two lengths", f"{post}Content-Length: 2\r\nContent-Length: 20\r\n\r\n{{}}"),
        ("a negative length", f"{post}Content-Length: -1\r\n\r\n{{}}"),
        ("a length of words", f"{post}Content-Length: many\r\n\r\n{{}}"),
        ("a length beyond 64 bits", f"{post}Content-Length: {10**30}\r\n\r\n{{}}"),
        ("less than announced", f"{post}Content-Length: 100\r\n\r\n{{"),
        ("a broken chunk", f"{post}Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        ("a chunk of 16 EB", f"{post}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{{}}"),
        ("chunks without an end", f"{post}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n"),
        ("length and chunks", f"{post}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("an odd encoding", f"{post}Transfer-Encoding: gzip\r\n\r\n{{}}"),
        ("40 MB in chunks", f"{post}Transfer-Encoding: chunked\r\n\r\n" + f"100000\r\n{'a' * 2**20}\r\n" * 40 + "0\r\n\r\n"),
        ("100 requests at once", f"GET /nothing HTTP/1.1\r\n{host}{key}\r\n" * 100),
    ]:
        try:
            answer = target.raw(data.encode("latin-1"))
        except OSError as error:
            failures.append(f"broken HTTP: {name}: {error!r}")
            continue
        status = answer[9:12].decode(errors="replace")
        # Who closes is right as well.
        good = not answer or status.startswith("4") or (name == "a folded header" and status == "200")
        if not good:
            failures.append(f"broken HTTP: {name}: {answer[:120]!r}")
    bad = sum(failure.startswith("broken HTTP") for failure in failures)
    print(f"{'FAIL' if bad else 'ok  '} bytes that are no HTTP", flush=True)


def drip(target, failures):
    """Connections whose headers never end must be closed, and not keep others waiting."""
    streams = [socket.create_connection((target.host, target.port), timeout=5) for _ in range(DRIPS)]
    open_ones, began, slowest = set(streams), time.monotonic(), 0.0
    for stream in streams:
        stream.sendall(b"GET /health HTTP/1.1\r\nX: ")
        stream.setblocking(False)
    while open_ones and time.monotonic() - began < HEADER_SECONDS:
        for stream in list(open_ones):
            try:
                stream.send(b"a")
                if stream.recv(1024) == b"":
                    open_ones.discard(stream)
            except BlockingIOError:
                pass
            except OSError:
                open_ones.discard(stream)
        asked = time.monotonic()
        try:
            target.ask("GET", "/health")
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"slow headers: /health: {error!r}")
            break
        slowest = max(slowest, time.monotonic() - asked)
        time.sleep(1)
    for stream in streams:
        stream.close()
    if open_ones:
        failures.append(f"slow headers: {len(open_ones)} of {DRIPS} connections are open after {HEADER_SECONDS:.0f} s")
    bad = any(failure.startswith("slow headers") for failure in failures)
    print(f"{'FAIL' if bad else 'ok  '} {DRIPS} connections whose headers never end (/health took {slowest:.2f} s at most)", flush=True)


def schemathesis(target, arguments, failures):
    here = pathlib.Path(sys.executable).parent
    program = shutil.which("schemathesis", path=f"{here}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        failures.append("schemathesis is not installed")
        print("FAIL schemathesis is not installed", flush=True)
        return
    # Not beside the sources: a run keeps notes in the folder it is started from.
    folder = pathlib.Path(arguments.folder)
    folder.mkdir(parents=True, exist_ok=True)
    tools = str(pathlib.Path(__file__).resolve().parent)
    path = os.pathsep.join(filter(None, [tools, os.environ.get("PYTHONPATH")]))
    command = [
        program, "--no-color", "run", f"{target.url}/openapi.json", "--url", target.url,
        "--phases", "examples,coverage,fuzzing", "--max-examples", str(arguments.examples), "--seed", str(arguments.seed),
        "--generation-database", "none", "--workers", str(arguments.workers), "--request-timeout", str(SLOWEST),
        "--max-time", str(arguments.seconds), "--continue-on-failure", "--max-failures", "40", "--no-shrink",
        "--suppress-health-check", "all", "--warnings", "off", "--exclude-path", "/v1/embeddings", "--exclude-path", "/v1/rerank",
        "--checks", arguments.checks,
    ]  # fmt: skip
    if target.key:
        command += ["--header", f"Authorization:Bearer {target.key}"]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "api_fuzz_hooks", "PYTHONPATH": path}
    try:
        done = subprocess.run(
            command, env=environment, cwd=folder, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=arguments.seconds * 3 + 120,
        )  # fmt: skip
        code, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        code, output = None, (error.stdout or b"").decode(errors="replace")
    (folder / "schemathesis.txt").write_text(output)
    if code != 0:
        failures.append(f"schemathesis: exit status {code}; {folder / 'schemathesis.txt'} has all of it")
        print(output[-6000:])
    summary = output[output.rfind("SUMMARY") :] if "SUMMARY" in output else ""
    for line in summary.splitlines()[1:]:
        print(f"    {line}" if line.strip() and not line.startswith("=") else "", end="\n" if line.strip() else "")
    print(f"{'ok  ' if code == 0 else 'FAIL'} schemathesis, seed {arguments.seed}: {arguments.checks}", flush=True)


def still_well(target, failures):
    """The server answers, and nothing of all that is left in it."""
    try:
        status, _, body = target.ask("POST", "/v1/completions", b'{"prompt": "Hello", "max_tokens": 2}', {"Content-Type": "application/json"})
        assert status == 200, f"{status}: {body[:200]!r}"
        names = ("lightglm_requests_running", "lightglm_requests_waiting", "lightglm_kv_blocks_used")
        end = time.monotonic() + 60
        while True:
            text = target.ask("GET", "/metrics")[2].decode()
            left = {line.split()[0]: line.split()[1] for line in text.splitlines() if line.startswith(names)}
            assert len(left) == len(names), left
            if all(float(value) == 0 for value in left.values()):
                break
            assert time.monotonic() < end, left
            time.sleep(0.5)
        served = [line for line in text.splitlines() if line.startswith("lightglm_http_requests_total")]
        failed = [line for line in served if 'status="5' in line and 'status="501"' not in line]
        assert not failed, failed
        print(f"ok   the server is well: nothing runs, no block is held, no 5xx in {len(served)} kinds of answers")
    except (OSError, AssertionError, http.client.HTTPException) as error:
        failures.append(f"afterwards: {error!r}")
        print(f"FAIL afterwards: {error!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--api-key")
    parser.add_argument("--seconds", type=int, default=90, help="of schemathesis")
    parser.add_argument("--examples", type=int, default=40, help="of schemathesis, for each operation")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=20261126)
    parser.add_argument("--checks", default=",".join(CHECKS))
    parser.add_argument("--folder", default="target/api-fuzz", help="where schemathesis writes")
    parser.add_argument("--only", choices=["list", "schemathesis"], help="one part alone")
    arguments = parser.parse_args()
    target, failures = Target(arguments.url, arguments.api_key), []
    if arguments.only != "schemathesis":
        dripping = threading.Thread(target=drip, args=(target, failures))
        dripping.start()
        hostile(target, failures)
        broken_http(target, failures)
        dripping.join()
    if arguments.only != "list":
        schemathesis(target, arguments, failures)
    still_well(target, failures)
    for failure in failures[:60]:
        print(f"FAIL {failure}")
    print(f"{len(failures)} failed" if failures else "all held")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
