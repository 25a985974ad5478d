"""What a hostile client sends, and what it must get: the list that `api_fuzz.py` goes through.

A case is a request and the statuses it may be answered with; a 4xx must be an error in OpenAI's shape,
and name the field that the case names.
"""

import dataclasses
import json

CHAT, COMPLETIONS, ANSWER = "/v1/chat/completions", "/v1/completions", "/answer"
HELLO = [{"role": "user", "content": "Hello"}]
BASES = {
    CHAT: {"messages": HELLO, "max_tokens": 2},
    COMPLETIONS: {"prompt": "Hello", "max_tokens": 2},
    ANSWER: {"question": "Hello?", "max_tokens": 2},
    "/tokenize": {"text": "Hello"},
    "/detokenize": {"tokens": [1]},
    "/v1/load_lora_adapter": {"lora_name": "none"},
    "/v1/unload_lora_adapter": {"lora_name": "none"},
}

# What no number may be, as JSON writes it; the last is a number to us and none to JSON.
NO_NUMBER = ['"1"', "[]", "[1]", "{}", "true", "1e999", "-1e999", '"NaN"']
NO_JSON = ["NaN", "Infinity", "-Infinity", "1e", "0x10", "--1", "01"]
NO_INTEGER = ["1.5", "1e-1", str(2**64), str(-(2**63) - 1), str(10**40)]
# Values outside of a field's bounds, beside those above.
BOUNDS = {
    "n": (NO_INTEGER, ["-1", "0", "9", "1000000", str(2**63)]),
    "max_tokens": (NO_INTEGER, ["-2", "0"]),
    "max_completion_tokens": (NO_INTEGER, ["-2", "0"]),
    "min_tokens": (NO_INTEGER, ["-1", "3", "8193", str(2**63)]),
    "top_k": (NO_INTEGER, ["-2", str(2**32)]),
    "seed": (NO_INTEGER, []),
    "priority": (NO_INTEGER, ["-11", "11", str(2**31)]),
    "temperature": ([], ["-0.01", "2.01", "1e300", "-1e300"]),
    "top_p": ([], ["-0.01", "-1", "1.01", "1e300"]),
    "min_p": ([], ["-0.01", "1.01", "1e300"]),
    "frequency_penalty": ([], ["-2.01", "2.01", "1e300"]),
    "presence_penalty": ([], ["-2.01", "2.01", "1e300"]),
    "repetition_penalty": ([], ["-1", "0", "1e-40", "101", "1e300"]),
}
OWN_BOUNDS = {
    CHAT: {"top_logprobs": (NO_INTEGER, ["-1", "1", "21", str(2**63)])},  # 1 needs logprobs
    COMPLETIONS: {
        "logprobs": (NO_INTEGER, ["-1", "21", str(2**63)]),
        "best_of": (NO_INTEGER, ["-1", "0", "2", str(2**63)]),
    },
}
FLAGS = ["stream", "ignore_eos"]


@dataclasses.dataclass
class Case:
    name: str
    path: str
    body: bytes = b""
    statuses: tuple = (400,)
    param: str | None = None
    method: str = "POST"
    headers: dict = dataclasses.field(default_factory=lambda: {"Content-Type": "application/json"})


def with_raw(path, field, raw):
    """The path's harmless body with `raw` as the text of a field."""
    rest = {name: value for name, value in BASES[path].items() if name != field}
    return (json.dumps(rest)[:-1] + (", " if rest else "") + f'"{field}": {raw}}}').encode()


def with_fields(path, **fields):
    return json.dumps({**BASES[path], **fields}).encode()


def numbers():
    for path in (CHAT, COMPLETIONS, ANSWER):
        bounds = {**BOUNDS, **OWN_BOUNDS.get(path, {})}
        for field, (kinds, outside) in bounds.items():
            for raw in [*NO_NUMBER, *kinds, *outside]:
                yield Case(f"{field} = {raw}", path, with_raw(path, field, raw), param=field)
            for raw in NO_JSON:
                yield Case(f"{field} = {raw}", path, with_raw(path, field, raw))
        for field in FLAGS:
            for raw in ['"yes"', "1", "[]", "{}"]:
                yield Case(f"{field} = {raw}", path, with_raw(path, field, raw), param=field)
        for token, raw in [("5", "101"), ("5", "-1e999"), ("5", '"1"'), ("-1", "1"), ("+5", "1"), ("4294967296", "1"), ("x", "1")]:
            body = with_raw(path, "logit_bias", f'{{"{token}": {raw}}}')
            yield Case(f"logit_bias {token}: {raw}", path, body, param="logit_bias")
        many = {str(token): 1 for token in range(1025)}
        yield Case("logit_bias of 1025", path, with_fields(path, logit_bias=many), param="logit_bias")
    for raw in ["-1", "4294967295", "4294967296", "1.5", '"1"', "null"]:
        yield Case(f"token {raw}", "/detokenize", with_raw("/detokenize", "tokens", f"[{raw}]"), param="tokens")
        if raw != '"1"':  # which is a text
            yield Case(f"prompt token {raw}", COMPLETIONS, with_raw(COMPLETIONS, "prompt", f"[{raw}]"), param="prompt")


def texts():
    for path in (CHAT, COMPLETIONS, ANSWER):
        for name, stop in [
            ("1000 strings", ["x"] * 1000), ("an empty one of two", ["a", ""]),
            ("a long string", "x" * 257), ("1 MB", "x" * 10**6), ("a number", 5), ("an object", {}), ("nested", [["a"]]),
        ]:  # fmt: skip
            yield Case(f"stop: {name}", path, with_fields(path, stop=stop), param="stop")
        yield Case("a long user", path, with_fields(path, user="u" * 257), param="user")
        yield Case("no such model", path, with_fields(path, model="x" * 10**5), (404,), "model")
        yield Case("a model that is a number", path, with_fields(path, model=5), param="model")
        yield Case("a path as model", path, with_fields(path, model="../../etc/passwd"), (404,), "model")
    for path, field in [(CHAT, "messages"), (COMPLETIONS, "prompt"), (ANSWER, "question"), ("/detokenize", "tokens")]:
        for raw in ["null", "5", "{}", "true"]:
            yield Case(f"{field} = {raw}", path, with_raw(path, field, raw), param=field)
    yield Case("no question", ANSWER, b"{}", param="question")
    yield Case("an empty question", ANSWER, b'{"question": ""}', param="question")
    yield Case("two answers", ANSWER, with_fields(ANSWER, n=2), param="n")
    yield Case("neither text nor messages", "/tokenize", b"{}", param="text")
    yield Case("text and messages", "/tokenize", json.dumps({"text": "a", "messages": HELLO}).encode(), param="messages")
    for prompt in ([], [[]], "", [""] * 65, ["a", 5]):
        # Some tokenizers put a token in front of an empty text, which makes it a prompt.
        allowed = (200, 400) if prompt == "" else (400,)
        body = with_fields(COMPLETIONS, prompt=prompt)
        yield Case(f"prompt {str(prompt)[:12]}", COMPLETIONS, body, allowed, "prompt")
    yield Case("too long a prompt", COMPLETIONS, with_fields(COMPLETIONS, prompt="word " * 250_000), param="prompt")
    for name in ["", ".", "..", "../x", "/etc", "a/b", "x" * 65, "a\u0000b", "名"]:
        for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"):
            yield Case(f"adapter {name[:8]!r}", path, json.dumps({"lora_name": name}).encode(), param="lora_name")
    yield Case("no such adapter", "/v1/unload_lora_adapter", b'{"lora_name": "none"}', (400, 404), "lora_name")
    yield Case("no such adapter", "/v1/load_lora_adapter", b'{"lora_name": "none"}', (400, 404), "lora_name")


def messages():
    image = [{"type": "image_url", "image_url": {"url": "http://localhost/"}}]
    for name, value, param in [
        ("none", [], "messages"),
        ("1025", HELLO * 1025, "messages"),
        ("a string", ["Hello"], "messages[0]"),
        ("an unknown role", [{"role": "root", "content": "x"}], "messages[0].role"),
        ("no role", [{"content": "x"}], "messages[0].role"),
        ("no content", [{"role": "user"}], "messages[0].content"),
        ("a number as content", [{"role": "user", "content": 5}], "messages[0].content"),
        ("an image", [{"role": "user", "content": image}], "messages[0].content[0]"),
        ("a user's call", [{**HELLO[0], "tool_calls": [{"function": {"name": "a", "arguments": "{}"}}]}], "messages[0].tool_calls"),
    ]:
        yield Case(f"messages: {name}", CHAT, with_fields(CHAT, messages=value), param=param)

    def tool(name, parameters=None):
        return {"type": "function", "function": {"name": name, "parameters": parameters or {"type": "object"}}}

    for name, fields, param in [
        ("a name with a blank", {"tools": [tool("a b")]}, "tools[0].function.name"),
        ("an empty name", {"tools": [tool("")]}, "tools[0].function.name"),
        ("a long name", {"tools": [tool("a" * 65)]}, "tools[0].function.name"),
        ("the same name twice", {"tools": [tool("a"), tool("a")]}, "tools[1].function.name"),
        ("129", {"tools": [tool(f"f{number}") for number in range(129)]}, "tools"),
        ("another type", {"tools": [{**tool("a"), "type": "shell"}]}, "tools[0].type"),
        ("a huge one", {"tools": [tool("a", {"type": "object", "description": "x" * 70_000})]}, "tools[0].function"),
        ("parameters that are a list", {"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]}, "tools"),
        ("required without any", {"tool_choice": "required"}, "tool_choice"),
        ("a choice that is not there", {"tools": [tool("a")], "tool_choice": {"type": "function", "function": {"name": "b"}}}, "tool_choice"),
        ("an unknown choice", {"tools": [tool("a")], "tool_choice": "perhaps"}, "tool_choice"),
        ("no schema of an object", {"tools": [tool("a", {"type": "string"})], "tool_choice": "required"}, "tools"),
    ]:  # fmt: skip
        yield Case(f"tools: {name}", CHAT, with_fields(CHAT, **fields), param=param)


def nested(depth, inner, outer):
    value = inner
    for _ in range(depth):
        value = outer(value)
    return value


def formats():
    def schema(value):
        return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": value}}}

    either = (200, 400)
    doubled = {f"d{n}": {"type": "array", "prefixItems": [{"$ref": f"#/$defs/d{n + 1}"}] * 8} for n in range(12)}
    where = "response_format.json_schema.schema"
    for name, value, statuses in [
        ("an unknown type", {"type": "nonsense"}, (400,)),
        ("a reference to nowhere", {"$ref": "#/$defs/none"}, (400,)),
        ("a reference to the outside", {"$ref": "file:///etc/passwd"}, (400,)),
        ("a reference to itself", {"$ref": "#"}, either),
        ("references that double", {"$ref": "#/$defs/d0", "$defs": {**doubled, "d12": {"type": "null"}}}, either),
        ("more than 64 KB", {"enum": ["x" * 100] * 700}, (400,)),
        ("60 levels", nested(25, {"type": "null"}, lambda v: {"type": "object", "properties": {"a": v}}), either),
        ("600 alternatives", {"oneOf": [{"const": n} for n in range(600)]}, either),
        ("intersections", {"allOf": [{"pattern": f".*{chr(97 + n)}.*{n}.*", "type": "string"} for n in range(20)]}, either),
        ("40 patterns of properties", {"type": "object", "patternProperties": {f"a{{{n}}}b*": {} for n in range(1, 41)}}, either),
        ("a pattern that explodes", {"type": "string", "pattern": "((a{1,200}){1,200}){1,200}"}, either),
        ("a broken pattern", {"type": "string", "pattern": "(["}, either),  # dropped, and told
        ("an endless length", {"type": "string", "minLength": 10**9}, either),
        ("bounds that cross", {"type": "integer", "minimum": 5, "maximum": 1}, either),
        ("a negative length", {"type": "string", "maxLength": -1}, either),
    ]:  # fmt: skip
        body = with_fields(CHAT, max_tokens=4, **schema(value))
        yield Case(f"schema: {name}", CHAT, body, statuses, where)
    for name, fields, statuses, param in [
        ("no schema", {"response_format": {"type": "json_schema"}}, (400,), "response_format"),
        ("a schema that is a list", {"response_format": {"type": "json_schema", "json_schema": {"schema": []}}}, (400,), "response_format"),
        ("an unknown format", {"response_format": {"type": "xml"}}, (400,), "response_format.type"),
        ("a format that is a string", {"response_format": "json"}, (400,), "response_format"),
        ("two constraints", {"response_format": {"type": "json_object"}, "guided_regex": "a"}, (400,), "guided_regex"),
        ("a broken regex", {"guided_regex": "a{"}, either, "guided_regex"),
        ("an unclosed regex", {"guided_regex": "(a"}, (400,), "guided_regex"),
        ("a regex that explodes", {"guided_regex": "(.{1,500}){1,500}x{1,500}"}, either, "guided_regex"),
        ("a regex of many states", {"guided_regex": "(a|b)*a" + "(a|b)" * 60}, either, "guided_regex"),
        ("a regex of 100 KB", {"guided_regex": "a" * 100_000}, (400,), "guided_regex"),
        ("look-around", {"guided_regex": "(?=a)b"}, (400,), "guided_regex"),
        ("a grammar without a start", {"guided_grammar": 'a: "x"'}, (400,), "guided_grammar"),
        ("a grammar that is none", {"guided_grammar": "\u0000%%%"}, (400,), "guided_grammar"),
        ("a left recursion", {"guided_grammar": 'start: start "a" | "a"'}, either, "guided_grammar"),
        ("an ambiguous grammar", {"guided_grammar": 'start: start start start | "a" |'}, either, "guided_grammar"),
        ("a grammar of 100 KB", {"guided_grammar": 'start: "' + "a" * 100_000 + '"'}, (400,), "guided_grammar"),
    ]:  # fmt: skip
        yield Case(name, CHAT, with_fields(CHAT, max_tokens=4, **fields), statuses, param)


def bodies():
    big = 10 * 2**20
    for path in BASES:
        yield Case("10 MB", path, b'{"x": "' + b"a" * big + b'"}', (413,))
        yield Case("no body", path)
        for name, body in [
            ("a list", b"[]"), ("a number", b"5"), ("null", b"null"), ("a string", b'"x"'), ("white space", b"  \n"),
            ("half an object", b'{"n": '), ("two objects", b"{}{}"), ("a comma too many", b'{"n": 1,}'), ("a byte order mark", b"\xef\xbb\xbf{}"),
            ("deep lists", b"[" * 100_000), ("deep objects", b'{"a":' * 100_000), ("deep in a field", b'{"x": ' + b"[" * 1000 + b"]" * 1000 + b"}"),
            ("a million values", b'{"x": [' + b"0," * 500_000 + b"0]}"), ("invalid UTF-8", b'{"x": "\xff\xfe"}'),
            ("UTF-16", '{"x": 1}'.encode("utf-16")), ("half a surrogate", b'{"x": "\\ud800"}'), ("a control character", b'{"x": "\x01"}'),
            ("zeros", b"\x00" * 1000), ("gzip", b"\x1f\x8b\x08\x00"),
        ]:  # fmt: skip
            yield Case(name, path, body)
        for kind in (None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json", "application"):
            headers = {"Content-Type": kind} if kind else {}
            yield Case(f"Content-Type {kind}", path, b"{}", (415,), headers=headers)
    yield Case("n twice", CHAT, with_raw(CHAT, "n", '1, "n": 1000'), param="n")


def routes():
    for path in BASES:
        for method in ("GET", "PUT", "PATCH", "DELETE"):
            yield Case("a wrong method", path, b"", (405,), method=method, headers={})
    # A slash too many changes nothing.
    yield Case("a wrong method", f"{CHAT}/", b"", (405,), method="GET", headers={})
    for path in ("/health", "/ready", "/metrics", "/v1/models", "/v1/models/", "/openapi.json"):
        for method in ("POST", "PUT", "DELETE"):
            yield Case("a wrong method", path, b"", (405,), method=method, headers={})
    for path in (
        "/nothing", "/v1", "/v1/", "/v1/chat", "/chat/completions", "/v1/v1/chat/completions", "//v1/models", "/page/", "/page/none.js",
        "/page/../../etc/passwd", "/page/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/page/..%5c..%5cx", "/docs/../../etc/passwd",
        "/docs/%2e%2e/%2e%2e/x", "/docs/none", "/v1/models/none", "/v1/models/%ff%fe", "/v1/models/a%00b", "/%", "/%zz",
        "/.git/config", "/" + "x" * 5000,
    ):  # fmt: skip
        yield Case("no such path", path, b"", (400, 404), method="GET", headers={})
    yield Case("embeddings", "/v1/embeddings", b'{"input": "x"}', (200, 501))
    yield Case("vectors of nothing", "/v1/embeddings", b'{"input": []}', (400, 501))
    yield Case("a text of a megabyte", "/v1/embeddings", b'{"input": "' + b"a " * (1 << 19) + b'"}', (400, 501))
    yield Case("many token ids", "/v1/embeddings", b'{"input": [' + b"1," * 99999 + b"1]}", (400, 501))
    yield Case("documents that are none", "/v1/rerank", b'{"query": "a", "documents": [[]]}', (400, 501))


def keys(key):
    """Without a key, and with wrong ones."""
    wrong = [None, "", "Bearer", "Bearer ", f"Bearer {key}x", f"Bearer {key[:-1]}", key, "Basic !!!", "Basic " + "A" * 2000, "Bearer " + "x" * 8000]
    for path in [*BASES, "/v1/embeddings"]:
        for value in wrong[:3]:
            headers = {"Content-Type": "application/json"} | ({} if value is None else {"Authorization": value})
            yield Case(f"the key {value!r}", path, b"{}", (401,), headers=headers)
    for path in ("/v1/models", "/v1/models/x", "/metrics", "/openapi.json", "/docs/", "/", "/page/app.js", "/nothing"):
        for value in wrong:
            headers = {} if value is None else {"Authorization": value}
            yield Case(f"the key {str(value)[:16]!r}", path, b"", (401,), method="GET", headers=headers)
    for path in ("/health", "/ready"):
        yield Case("no key is needed", path, b"", (200,), method="GET", headers={})


def all_cases():
    for group in (numbers, texts, messages, formats, bodies, routes):
        for case in group():
            yield group.__name__, case
