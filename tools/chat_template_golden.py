#!/usr/bin/env python3
"""What jinja2, set up as transformers sets it up, makes of chat templates.

Writes crates/lightglm-text/tests/data/jinja2_expected.json: for each template what it renders of 200
random conversations, as hashes, and what a list of expressions renders, as texts. The conversations
follow from a seed; crates/lightglm-text/tests/jinja2.rs makes the same ones.

    pip install jinja2==3.1.6
    python3 tools/chat_template_golden.py            # writes the file
    python3 tools/chat_template_golden.py think 17   # shows one conversation and its prompt

The templates of other models are read from the folder `shared` beside the repository (or from
LIGHTGLM_SHARED) with the program zstd.
"""
import datetime
import json
import os
import pathlib
import subprocess
import sys

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = ROOT / "crates/lightglm-text/tests/data"
SHARED = pathlib.Path(os.environ.get("LIGHTGLM_SHARED", ROOT.parent / "shared"))
OUT = DATA / "jinja2_expected.json"
SEED, CONVERSATIONS, UNIX_SECONDS = 20260, 200, 1_785_000_000

GLM = ["<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>",
       "<|assistant|>", "<|observation|>", "<think>", "</think>"]
CHATML = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>", "<tool_call>"]
DEEPSEEK = ["<｜User｜>", "<｜Assistant｜>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>",
            "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>",
            "<｜tool▁calls▁end｜>", "<｜tool▁outputs▁begin｜>", "<｜tool▁output▁begin｜>",
            "<｜tool▁output▁end｜>", "<｜tool▁outputs▁end｜>"]
MISTRAL = ["<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]",
           "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"]
LLAMA = ["<|bos|>", "<|start|>", "<|end|>", "<|eot|>"]
# Template, its file (or the name of a tokenizer in `shared`), the control tokens of its model.
TEMPLATES = [
    ("glm4_0414", "../../src/glm4_0414.jinja", GLM),
    ("glm4_2024", "text/glm-4-9b-chat-hf.chat_template.jinja", GLM),
    ("think", "templates/think.jinja", GLM),
    ("printf", "templates/printf.jinja", GLM),
    ("typed_tools", "templates/typed_tools.jinja", GLM),
    ("blocks", "templates/blocks.jinja", GLM),
    ("chatml", "templates/chatml.jinja", CHATML),
    ("strict_roles", "templates/strict_roles.jinja", MISTRAL),
    ("dated", "templates/dated.jinja", LLAMA),
    ("qwen3", "shared:qwen3", CHATML),
    ("deepseek_v3", "shared:deepseek_v3", DEEPSEEK),
]
SPECIALS = {"bos_token": {"strict_roles": "<s>", "dated": "<|bos|>", "deepseek_v3": "<｜begin▁of▁sentence｜>"},
            "eos_token": {"strict_roles": "</s>"}}

PIECES = ["Hello", "你好", "，世界。", " ", "\n", "\n\n", "\t", "a{b}%s", "{{ 1 }}", "\"quoted\" \\ 'it''s'",
          "😀", "é", "</think>", "<think>", "想一想。", "<tool_response>", "</tool_response>", "[", "<|", "|>",
          "ÀÉ ß", "x  y", "\r\n", "7", "%d%", "user", "assistant", "<|user|>\n", "<b>&amp;</b>", "\u3000"]
TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Weather of a city.\nToday's.",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "名字 <|user|>"},
            "days": {"type": "integer", "enum": []},
            "unit": {"type": "string", "enum": ["C", "F"]}}, "required": ["city"]}}},
    {"type": "function", "function": {
        "name": "搜索", "parameters": {"type": "object", "properties": {
            "q": {"type": "array", "items": {"type": ["string", "null"]}},
            "deep": {"type": "object", "properties": {"x": {"type": "number"}}}}}}},
    {"type": "function", "function": {
        "name": "f", "description": "", "parameters": {"type": "object", "properties": {}},
        "strict": True, "limit": 1.5, "scale": 1e-7, "none": None}},
]
ARGUMENTS = [{"city": "Paris"}, {"q": ["a", "é\"<"], "n": 3}, {}, {"deep": {"x": -0.5, "ok": True}}]


class Random:
    """splitmix64."""

    def __init__(self, seed):
        self.state = seed

    def below(self, bound):
        mask = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return (z ^ (z >> 31)) % bound


def conversation(random, tokens):
    """Messages, tools and whether the assistant is asked; jinja2.rs draws in the same order."""
    pieces = PIECES + (tokens if random.below(2) else [])

    def text():
        return "".join(pieces[random.below(len(pieces))] for _ in range(random.below(8)))

    messages = []
    if random.below(3) == 0:
        messages.append({"role": "system", "content": text()})
    turns = 1 + random.below(4)
    for turn in range(turns):
        messages.append({"role": "user", "content": text()})
        if turn + 1 == turns and random.below(2):
            break
        kind = random.below(6)
        if kind == 0:
            content = text() if random.below(2) else None
            call = {"id": "call12345", "type": "function", "function": {
                "name": TOOLS[random.below(len(TOOLS))]["function"]["name"],
                "arguments": ARGUMENTS[random.below(len(ARGUMENTS))]}}
            messages.append({"role": "assistant", "content": content, "tool_calls": [call]})
            messages.append({"role": "tool", "content": text(), "tool_call_id": "call12345"})
            if random.below(2):
                messages.append({"role": "assistant", "content": text()})
        elif kind == 1:
            messages.append({"role": "assistant", "content": text(), "reasoning_content": text()})
        elif kind == 2:
            messages.append({"role": "assistant", "content": text(), "metadata": text()})
        elif kind == 3:
            messages.append({"role": "assistant", "content": "<think>" + text() + "</think>" + text()})
        else:
            messages.append({"role": "assistant", "content": text()})
    tools = [TOOLS[random.below(len(TOOLS))] for _ in range(random.below(3))]
    return messages, tools or None, random.below(2) == 1


class GenerationTracker(Extension):
    """`{% generation %}`, which only marks spans."""

    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def environment():
    """Source: `_compile_jinja_template` in transformers' utils/chat_template_utils.py."""

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(format):
        return datetime.datetime.fromtimestamp(UNIX_SECONDS, datetime.timezone.utc).strftime(format)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[GenerationTracker, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


def source(file):
    if not file.startswith("shared:"):
        return (DATA / file).read_bytes().decode()
    path = SHARED / f"data/tokenizers/{file[7:]}.tokenizer_config.json.zst"
    return json.loads(subprocess.check_output(["zstd", "-dcq", path]))["chat_template"]


def render(template, name, messages, tools, ask):
    special = {key: texts[name] for key, texts in SPECIALS.items() if name in texts}
    return template.render(messages=messages, tools=tools, documents=None, add_generation_prompt=ask, **special)


def masked(value, tokens):
    """The value with the caller's control tokens spelled in private characters, one for one."""
    if isinstance(value, str):
        for token in sorted(tokens, key=len, reverse=True):
            value = value.replace(token, "".join(chr(0xE000 + MASKED.index(c)) for c in token))
        return value
    if isinstance(value, list):
        return [masked(item, tokens) for item in value]
    if isinstance(value, dict):
        return {key: item if key == "role" else masked(item, tokens) for key, item in value.items()}
    return value


MASKED = "".join(sorted({c for tokens in (GLM, CHATML, DEEPSEEK, MISTRAL, LLAMA) for t in tokens for c in t}))


def special_tokens(text, tokens):
    found, at = [], 0
    while at < len(text):
        token = max((t for t in tokens if text.startswith(t, at)), key=len, default=None)
        if token:
            found.append(token)
        at += len(token or "x")
    return found


def fnv(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & ((1 << 64) - 1)
    return value


def expected(template, name, tokens, messages, tools, ask):
    """The prompt and the control tokens that the template itself wrote."""
    text = render(template, name, messages, tools, ask)
    # A template that looks for a token in contents has to find it, and then it is text all the same.
    looked_for = {"<think>", "</think>"}
    hidden = [token for token in tokens if token not in looked_for]
    unseen = render(template, name, masked(messages, hidden), masked(tools, hidden), ask)
    revealed = "".join(MASKED[ord(c) - 0xE000] if 0xE000 <= ord(c) < 0xE000 + len(MASKED) else c for c in unseen)
    assert revealed == text, (name, messages)
    return text, special_tokens(unseen, hidden)


def golden():
    env = environment()
    templates = []
    for index, (name, file, tokens) in enumerate(TEMPLATES):
        template = env.from_string(source(file))
        hashes = []
        for number in range(CONVERSATIONS):
            messages, tools, ask = conversation(Random(SEED + 1000 * index + number), tokens)
            try:
                text, found = expected(template, name, tokens, messages, tools, ask)
                hashes.append(f"{fnv(text):016x}/{fnv(' '.join(found)) & 0xFFFFFF:06x}")
            except (jinja2.exceptions.TemplateError, TypeError):
                hashes.append("error")
        print(name, sum(entry != "error" for entry in hashes), "of", len(hashes), "render")
        special = {key: texts[name] for key, texts in SPECIALS.items() if name in texts}
        templates.append({"name": name, "file": file, "tokens": tokens, "special_tokens": special,
                          "expected": " ".join(hashes)})
    from chat_template_expressions import EXPRESSIONS, VARIABLES
    expressions = []
    for text in EXPRESSIONS:
        try:
            made = env.from_string(text).render(tools=None, documents=None, add_generation_prompt=True,
                                                bos_token="<s>", messages=VARIABLES)
        except Exception:  # noqa: BLE001: whatever Python raises is an error of the template
            made = None
        expressions.append([text, made])
    print(sum(made is not None for _, made in expressions), "of", len(expressions), "expressions render")
    return {"jinja2": jinja2.__version__, "python": sys.version.split()[0], "seed": SEED,
            "unix_seconds": UNIX_SECONDS, "pieces": PIECES, "tools": TOOLS, "arguments": ARGUMENTS,
            "templates": templates, "messages": VARIABLES, "expressions": expressions}


def main():
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    if len(sys.argv) == 3:
        index = [name for name, _, _ in TEMPLATES].index(sys.argv[1])
        name, file, tokens = TEMPLATES[index]
        messages, tools, ask = conversation(Random(SEED + 1000 * index + int(sys.argv[2])), tokens)
        print(json.dumps({"messages": messages, "tools": tools, "ask": ask}, ensure_ascii=False, indent=1))
        print(render(environment().from_string(source(file)), name, messages, tools, ask))
        return
    with OUT.open("w", encoding="utf-8", newline="\n") as file:
        json.dump(golden(), file, ensure_ascii=False, separators=(",", ":"), indent=None)
        file.write("\n")


if __name__ == "__main__":
    main()
