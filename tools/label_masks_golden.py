"""Writes the golden label masks that lightglm-train's `ConversationTokenizer` is held against.

    pip install transformers==5.24.0 tokenizers==0.23.3   (no torch)
    python tools/label_masks_golden.py

Rows: 50 seeded conversations, English and Chinese, with one to four answers, system turns (also in
the middle), tools, what tools returned, answers in a row, white space at either end of an answer.
Masks: transformers' `apply_chat_template(..., return_assistant_tokens_mask=True)` over three
templates, with `{% generation %}` put by hand around what the assistant says and the token that ends
it. The published templates have no such blocks. Each marked template is checked to write what the
published one writes, and behind the last answer of GLM's the token that ends it.

A block is one stretch, because transformers marks a block up to the *first* token of its last
character: where that is a Chinese character of several tokens, a block that ended there would lose
the others.
"""

import json
import random
from pathlib import Path

import tokenizers
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parent.parent
TEXT = ROOT / "crates/lightglm-text"
OUTPUT = ROOT / "crates/lightglm-train/tests/data/labels"

GLM4_0414 = (TEXT / "src/glm4_0414.jinja").read_text()
GLM4_2024 = (TEXT / "tests/data/text/glm-4-9b-chat-hf.chat_template.jinja").read_text()
SMOLLM2_FILE = json.loads((TEXT / "tests/data/text/smollm2_reduced.json").read_text())
SMOLLM2 = SMOLLM2_FILE["chat_template"]


def replaced(source, pairs):
    for old, new in pairs:
        assert source.count(old) == 1, (old, source.count(old))
        source = source.replace(old, new)
    return source


# What opens the next turn ends GLM's answer: it is written by the answer, not by the next turn.
SAID_BEFORE = "loop.previtem is defined and loop.previtem.role == 'assistant'"
NEXT = (
    "{% if loop.nextitem is not defined %}<|user|>"
    "{% elif loop.nextitem.role != 'system' %}<|{{ loop.nextitem.role }}|>{% endif %}"
)


def opened(role):
    return "{% if not (" + SAID_BEFORE + ") %}<|" + role + "|>{% endif %}{{ '\\n' }}{{ content }}"


MARKED_0414 = replaced(
    GLM4_0414,
    [
        ("<|user|>\n{{ content }}", opened("user")),
        ("<|observation|>\n{{ content }}", opened("observation")),
        (
            "<|assistant|>\n{{ content }}",
            "{% if not (" + SAID_BEFORE + ") %}<|assistant|>{% endif %}"
            "{% generation %}{{ '\\n' + content }}" + NEXT + "{% endgeneration %}",
        ),
    ],
)
MARKED_2024 = replaced(
    GLM4_2024,
    [
        (
            "<|{{ item['role'] }}|>{{ item['metadata'] }}\n{{ item['content'] }}",
            "{% if not (" + SAID_BEFORE + ") or item['role'] == 'system' %}<|{{ item['role'] }}|>{% endif %}"
            "{% if item['role'] == 'assistant' %}"
            "{% generation %}{{ item['metadata'] }}{{ '\\n' + item['content'] }}" + NEXT + "{% endgeneration %}"
            "{% else %}{{ item['metadata'] }}{{ '\\n' + item['content'] }}{% endif %}",
        )
    ],
)
MARKED_SMOLLM2 = replaced(
    SMOLLM2,
    [
        (
            "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}",
            "{{'<|im_start|>' + message['role'] + '\n'}}{% if message['role'] == 'assistant' %}"
            "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
            "{% else %}{{ message['content'] + '<|im_end|>' + '\n' }}{% endif %}",
        )
    ],
)

QUESTIONS = [
    "How do I return an order?",
    "When do you open on Sundays?",
    "My card #4821 was declined twice.",
    "Say 'hi' in three languages, please",
    "请问几点关门？",
    "我的订单 2023-11 还没到，怎么办？",
    "把下面的话翻译成英文：今天天气很好。",
    "What is 12 * 34?\n\nShow your work.",
]
ANSWERS = [
    "Within 30 days, in any shop.",
    "At nine.",
    "I am sorry to hear that. Could you tell me which bank it is?",
    "Hello, bonjour, 你好!",
    "晚上六点。",
    "请稍等，我帮您查一下 😀",
    "The weather is fine today.\n",
    "12 * 34 = 408\n\n```python\nprint(12 * 34)\n```",
    "  indented, and spaces behind  ",
    "\n\n\nline feeds in front",
    "OK",
]
CALLS = ['{"order": 4821}', '{"city": "北京"}', '{\n  "day": "Sunday"\n}']
RESULTS = ['{"state": "on its way"}', "晴，25 度", "09:00-18:00", "[]"]
SYSTEMS = ["Be brief.", "你是一家商店的客服。", "You answer questions about orders.\nNever guess."]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "order_state",
            "description": "Where an order is",
            "parameters": {"type": "object", "properties": {"order": {"type": "integer"}}},
        },
    },
    {"type": "function", "function": {"name": "weather", "description": "天气", "parameters": {}}},
]


def conversation(rng, index):
    messages = []
    if index % 2 == 0:
        messages.append({"role": "system", "content": rng.choice(SYSTEMS)})
    with_tools = index % 3 == 0
    turns = 1 + index % 4
    for turn in range(turns):
        messages.append({"role": "user", "content": rng.choice(QUESTIONS)})
        if with_tools and rng.random() < 0.7:
            messages.append({"role": "assistant", "content": rng.choice(CALLS)})
            messages.append({"role": "tool", "content": rng.choice(RESULTS)})
        messages.append({"role": "assistant", "content": rng.choice(ANSWERS)})
        if index % 7 == 5 and turn == 0:
            messages.append({"role": "assistant", "content": rng.choice(ANSWERS)})
        if index % 10 == 3 and turn + 1 < turns:
            # See above: where the next turn does not end the answer, its last token has to be one character's.
            messages[-1]["content"] = ANSWERS[0]
            messages.append({"role": "system", "content": rng.choice(SYSTEMS)})
    row = {"messages": messages}
    if with_tools:
        row["tools"] = TOOLS[: 1 + index % 2]
    return row


def smollm2_tokenizer():
    vocabulary = {token: id for id, token in enumerate(SMOLLM2_FILE["tokens"])}
    merges = [tuple(merge.split(" ")) for merge in SMOLLM2_FILE["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [t for t, kind in zip(SMOLLM2_FILE["tokens"], SMOLLM2_FILE["token_type"]) if kind == 3]
    tokenizer.add_special_tokens(special)
    return tokenizer


def runs(mask):
    found = []
    for at, (before, marked) in enumerate(zip([0] + mask, mask + [0])):
        if before != marked:
            found.append(at)
    return [[start, end] for start, end in zip(found[::2], found[1::2])]


def expected(name, tokenizer, published, marked, end, rows, rename):
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    out = []
    for row in rows:
        messages = [{**m, "role": rename.get(m["role"], m["role"])} for m in row["messages"]]
        inputs = {"conversation": messages, "tools": row.get("tools")}
        if published is GLM4_2024 and row.get("tools"):
            # It asks a message for its tools, and `tools` beside the messages for nothing.
            first = messages.pop(0) if messages[0]["role"] == "system" else {"role": "system", "content": ""}
            messages.insert(0, {**first, "tools": row["tools"]})
        text = fast.apply_chat_template(**inputs, chat_template=published, tokenize=False)
        same = fast.apply_chat_template(**inputs, chat_template=marked, tokenize=False)
        assert same == text + end, (name, text, same)
        encoded = fast.apply_chat_template(
            **inputs, chat_template=marked, return_dict=True, return_assistant_tokens_mask=True
        )
        ids, mask = list(encoded["input_ids"]), list(encoded["assistant_masks"])
        assert fast.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False) == same
        assert 0 < sum(mask) < len(mask)
        out.append({"ids": ids, "learnt": runs(mask)})
    return out


def main():
    rng = random.Random(15)
    rows = [conversation(rng, index) for index in range(50)]
    glm = Tokenizer.from_file(str(TEXT / "tests/data/text/tokenizer.json"))
    renamed = {"tool": "observation"}
    golden = {
        "made_by": f"tools/label_masks_golden.py, transformers {transformers.__version__}, "
        f"tokenizers {tokenizers.__version__}",
        "glm4_0414": expected("glm4_0414", glm, GLM4_0414, MARKED_0414, "<|user|>", rows, renamed),
        "glm4_2024": expected("glm4_2024", glm, GLM4_2024, MARKED_2024, "<|user|>", rows, renamed),
        "smollm2": expected("smollm2", smollm2_tokenizer(), SMOLLM2, MARKED_SMOLLM2, "", rows, {}),
    }
    OUTPUT.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (OUTPUT / "conversations.jsonl").write_text("".join(lines), encoding="utf-8")
    text = json.dumps(golden, separators=(",", ":")) + "\n"
    (OUTPUT / "masks.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
