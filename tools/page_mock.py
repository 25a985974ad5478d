"""A server that answers as lightglm-serve does, with answers made up here: for looking at the page and
for checking it without a model. What the user writes picks the answer: see `answer_to`.

    tools/page_mock.py [--port 8090] [--seconds 600]
"""

import argparse
import json
import pathlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = pathlib.Path(__file__).resolve().parents[1] / "crates/lightglm-serve/src/http/page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; media-src data:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

MARKDOWN = """A **KV cache** keeps the keys and values of every position, so that a new token costs \
*one* pass over them instead of all passes again.

### What it costs

1. Memory grows with the length:
   - per token `2 × layers × kv_heads × head_dim`
   - 40 KiB for this model
2. Blocks of 16 positions are handed out on demand.

| Format | Bytes per value | Error |
|:-------|:---------------:|------:|
| f16    | 2               | 0.0 % |
| INT8   | 1               | 0.3 % |

```rust
/// Bytes that one token takes.
fn bytes_per_token(layers: usize, kv_heads: usize, head_dim: usize) -> usize {
    2 * layers * kv_heads * head_dim * size_of::<f16>()
}
```

> Shared prefixes are stored once.

More in the [paper](https://arxiv.org/abs/2309.06180).
"""

CHINESE = """**KV 缓存**保存每个位置的键和值，生成新词元时不必重新计算前面的内容。

1. **节省计算：**每一步只需处理一个新词元。
2. **占用显存：**长度越长，占用越多；每块存放 16 个位置。
3. **前缀共享：**相同的开头只存一份。

| 格式 | 每个值的字节数 | 误差 |
|:-----|:--------------:|-----:|
| f16  | 2              | 0.0 % |
| INT8 | 1              | 0.3 % |

```python
def bytes_per_token(layers, kv_heads, head_dim):
    return 2 * layers * kv_heads * head_dim * 2  # 键和值，f16
```

> 分页管理让显存不再碎片化。
"""

HOSTILE = """<script>window.injected = "script"</script>

<img src=x onerror="window.injected='img'"> and <svg onload="window.injected='svg'">

[click](javascript:window.injected='link') [data](data:text/html,<script>1</script>) \
[case](JaVaScRiPt:alert(1)) [tab](java\tscript:alert(1)) <javascript:alert(1)>

![image](https://example.com/track.png "x\\" onload=alert(1)")

[quote](https://example.com/"onmouseover="window.injected='attr') `<b>code</b>`

```html" onclick="window.injected='fence'
<script>window.injected = "code"</script>
```

| <script>1</script> | <iframe src="javascript:1"> |
|---|---|
| <a href="javascript:1">x</a> | &lt;script&gt; |

harmless end
"""

LONG = "".join(f"Sentence {n} of an answer that goes on for a long time. " for n in range(4000))

THOUGHTS = """The user asks about a **KV cache**. Two points:

1. what it keeps
2. what it costs

""" + "That is worth a sentence or two. " * 20

LIST = "".join(f"- Item {n} of a list with **bold** and `code` in it\n" for n in range(1250))  # 60 kB


def answer_to(text: str) -> tuple[str, float]:
    """The answer and the seconds between two of its pieces."""
    lowered = text.lower()
    if "hostile" in lowered:
        return HOSTILE, 0.001
    if "60 kb list" in lowered:
        return LIST, 0
    if "long" in lowered:
        return LONG, 0.01
    if any("\u4e00" <= character <= "\u9fff" for character in text):
        return CHINESE, 0.004
    return MARKDOWN, 0.004


def thoughts_before(text: str) -> list[str]:
    """Pieces of what the model thinks before it answers."""
    if "hostile" in text.lower():
        return [HOSTILE]
    if "think" in text.lower():
        return [THOUGHTS[start : start + 8] for start in range(0, len(THOUGHTS), 8)]
    return []


def text_of(content) -> str:
    """The text of a message, which may be in parts."""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


class State:
    """What the server saw, for the check to ask about."""

    def __init__(self):
        self.lock = threading.Lock()
        self.disconnects = 0
        self.running = 0
        self.generated = 0
        self.requests = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "mock"
    state: State

    def log_message(self, *_):
        pass

    def reply(self, status, body, content_type="application/json", headers=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**HEADERS, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/" or path.startswith("/page/"):
            name = "index.html" if path == "/" else path.removeprefix("/page/")
            file = PAGE / name
            if file.parent != PAGE or not file.is_file():
                self.reply(404, error("no such file"))
            else:
                self.reply(200, file.read_bytes(), TYPES[file.suffix])
        elif path == "/v1/models":
            reads = {
                "glm-4-9b-chat": ["text"],
                "glm-4-9b-chat:support-zh": ["text"],
                "glm-4.1v-9b": ["text", "image"],
                "glm-asr-nano": ["text", "audio"],
            }
            data = [{"id": n, "object": "model", "architecture": {"input_modalities": r}} for n, r in reads.items()]
            self.reply(200, {"object": "list", "data": data})
        elif path == "/metrics":
            self.reply(200, self.metrics(), "text/plain; version=0.0.4")
        elif path == "/mock/state":
            state = self.state
            self.reply(200, {"disconnects": state.disconnects, "requests": state.requests})
        else:
            self.reply(404, error("no such route"))

    def metrics(self):
        state = self.state
        return (
            "# HELP lightglm_kv_blocks_used Blocks held.\n# TYPE lightglm_kv_blocks_used gauge\n"
            f"lightglm_kv_blocks_used {760 + 8 * state.running}\nlightglm_kv_blocks 2048\nlightglm_kv_blocks_cached 512\n"
            f"lightglm_requests_running {2 + state.running}\nlightglm_requests_waiting 0\n"
            f'lightglm_generated_tokens_total{{model="a }}b"}} {state.generated + int(time.time() * 62)}\n'
            'lightglm_ttft_seconds_bucket{le="+Inf"} 3\nlightglm_other NaN\n'
        ).encode()

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length))
        with self.state.lock:
            self.state.requests.append({"path": self.path, "body": body, "key": self.headers.get("Authorization")})
        if self.path == "/answer":
            time.sleep(0.3)
            english = "After **10** days, write to us with the order number."
            chinese = "**10** 天后请把订单号发给我们。"
            answer = english if body["question"].isascii() else chinese
            self.reply(200, {"answer": answer, "finish_reason": "stop", "usage": {"completion_tokens": 14}})
        elif self.path == "/v1/chat/completions":
            self.chat(body)
        else:
            self.reply(404, error("no such route"))

    def chat(self, body):
        text = text_of(body["messages"][-1]["content"])
        if "error 429" in text:
            busy = error("The queue is full: 256 requests wait.", "rate_limit_exceeded")
            return self.reply(429, busy, headers={"Retry-After": "2"})
        if "error 400" in text:
            return self.reply(400, error("max_tokens: must be at most 8192", "invalid_request_error"))
        self.send_response(200)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with self.state.lock:
            self.state.running += 1
        try:
            if "use a tool" in text:
                self.tool_call()
            else:
                self.stream(text)
            self.write(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            with self.state.lock:
                self.state.disconnects += 1
            self.close_connection = True
        finally:
            with self.state.lock:
                self.state.running -= 1

    def stream(self, text):
        answer, pause = answer_to(text)
        time.sleep(0.12)
        self.event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        for piece in thoughts_before(text):
            self.event({"choices": [{"index": 0, "delta": {"content": None, "reasoning_content": piece}}]})
            time.sleep(pause)
        count = 0
        for start in range(0, len(answer), 3):
            self.event({"choices": [{"index": 0, "delta": {"content": answer[start : start + 3]}, "finish_reason": None}]})
            count += 1
            with self.state.lock:
                self.state.generated += 1
            if "drop" in text and count == 40:
                self.close_connection = True
                self.connection.shutdown(2)
                raise ConnectionResetError
            if pause:
                time.sleep(pause)
        if "hostile" in text.lower():
            function = {"name": HOSTILE, "arguments": json.dumps({"html": HOSTILE})}
            calls = [{"index": 0, "id": "x", "function": function}, {"index": "__proto__", "function": function}]
            self.event({"choices": [{"index": 0, "delta": {"tool_calls": calls}}]})
        reason = "length" if "cut" in text else "stop"
        self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        self.event({"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": count, "total_tokens": 12 + count}})
        self.raw(b"data: [DONE]\n\n")

    def tool_call(self):
        first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": ""}}
        self.event({"choices": [{"index": 0, "delta": {"tool_calls": [first]}}]})
        for piece in ('{"city": "', "Beijing", '", "days"', ": 3}"):
            part = {"index": 0, "function": {"arguments": piece}}
            self.event({"choices": [{"index": 0, "delta": {"tool_calls": [part]}}]})
            time.sleep(0.05)
        self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
        self.raw(b"data: [DONE]\n\n")

    def event(self, value):
        self.raw(b"data: " + json.dumps({"object": "chat.completion.chunk", **value}).encode() + b"\n\n")

    def raw(self, data):
        self.write(b"%x\r\n%s\r\n" % (len(data), data))

    def write(self, data):
        self.wfile.write(data)
        self.wfile.flush()


def error(message, kind="not_found"):
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def start(port: int = 0) -> ThreadingHTTPServer:
    """Serves on 127.0.0.1 in threads of their own."""
    handler = type("MockHandler", (Handler,), {"state": State()})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--seconds", type=float, default=600)
    arguments = parser.parse_args()
    server = start(arguments.port)
    print(f"http://127.0.0.1:{server.server_address[1]}/", flush=True)
    time.sleep(arguments.seconds)


if __name__ == "__main__":
    main()
