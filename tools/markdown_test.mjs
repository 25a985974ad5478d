// The page's Markdown without a browser, and the two parsers of what the server sends.
//
//   node --test tools/markdown_test.mjs

import assert from "node:assert/strict";
import test from "node:test";

import { referenceBlocks } from "./markdown_reference.mjs";

const PAGE = new URL("../crates/lightglm-serve/src/http/page/", import.meta.url);
const { InlineStream, parseInline, safeHref } = await import(new URL("inline.js", PAGE));
const { MarkdownStream, parseMarkdown } = await import(new URL("markdown.js", PAGE));
const { asJson, asMarkdown, emptyAnswer, fromJson, messagesOf, take } = await import(new URL("conversation.js", PAGE));
const { JsonText } = await import(new URL("json_text.js", PAGE));
const { figures, parsePrometheus } = await import(new URL("metrics.js", PAGE));
const { serverEvents } = await import(new URL("sse.js", PAGE));
const { STRINGS } = await import(new URL("strings.js", PAGE));

// A tree in brief: `<strong>a</strong>` for bold, and so on.
function brief(nodes) {
  return nodes
    .map((node) => {
      if (node.type === "text") return node.text;
      if (node.type === "break") return "<br>";
      const inner = node.type === "code" ? node.text : brief(node.children);
      return `<${node.type}${node.href ? ` ${node.href}` : ""}>${inner}</${node.type}>`;
    })
    .join("");
}

const INLINE = [
  ["plain *em* **strong** ***both***", "plain <em>em</em> <strong>strong</strong> <em><strong>both</strong></em>"],
  ["a **b *c* d** e", "a <strong>b <em>c</em> d</strong> e"],
  ["**重点：**正文和**“引号”**。", "<strong>重点：</strong>正文和<strong>“引号”</strong>。"],
  ["snake_case_name and _em_", "snake_case_name and <em>em</em>"],
  ["2 * 3 * 4 and **", "2 * 3 * 4 and **"],
  ["**open and *half", "**open and *half"],
  ["~~gone~~ ~stays~", "<del>gone</del> ~stays~"],
  ["`a *b*` ``c`d`` `open", "<code>a *b*</code> <code>c`d</code> `open"],
  ["\\*not\\* C:\\dir \\(x\\)", "*not* C:\\dir (x)"],
  ["&lt;b&gt; &#20013; &nope; &#0;", "<b> 中 &nope; \ufffd"],
  ["one\ntwo<br>three<br />four", "one<br>two<br>three<br>four"],
  ["[x](http://a.b/c_(d) \"t\")", "<link http://a.b/c_(d)>x</link>"],
  ["[**x** y](<https://a.b/>)", "<link https://a.b/><strong>x</strong> y</link>"],
  ["[mail](mailto:a@b.c)", "<link mailto:a@b.c>mail</link>"],
  ["[x](javascript:alert(1)) [y](data:,1) [z](/rel)", "x y z"],
  ["![alt](https://a.b/i.png)", "<link https://a.b/i.png>alt</link>"],
  ["[a [b](http://c.d) e](http://f.g)", "[a <link http://c.d/>b</link> e](<link http://f.g/>http://f.g</link>)"],
  ["见https://a.b/c。后", "见<link https://a.b/c>https://a.b/c</link>。后"],
  ["(https://a.b/c), <https://d.e>", "(<link https://a.b/c>https://a.b/c</link>), <link https://d.e/>https://d.e</link>"],
  ["**https://a.b/**", "<strong><link https://a.b/>https://a.b/</link></strong>"],
  ["<script>alert(1)</script>", "<script>alert(1)</script>"],
];

for (const [text, wanted] of INLINE) {
  test(`inline: ${JSON.stringify(text)}`, () => assert.equal(brief(parseInline(text)), wanted));
}

const HALF = [
  ["a **b", "a <strong>b</strong>"],
  ["a **b*", "a <strong>b</strong>"],
  ["a *b*", "a <em>b</em>"],
  ["a `b", "a <code>b</code>"],
  ["a [b](http://c", "a b"],
  ["a **", "a "],
  ["5 * 3", "5 * 3"],
];

for (const [text, wanted] of HALF) {
  test(`inline, half: ${JSON.stringify(text)}`, () => assert.equal(brief(parseInline(text, true)), wanted));
}

test("addresses", () => {
  for (const good of ["http://a.b", "HTTPS://A.B/c?d#e", "mailto:a@b.c"]) assert.ok(safeHref(good), good);
  const bad = ["javascript:1", "JaVaScRiPt:1", " javascript:1", "java\tscript:1", "data:text/html,x", "vbscript:1",
    "file:///etc/passwd", "//a.b", "/a", "http:a", "https://", "blob:https://a.b/c", `https://a.b/${"x".repeat(5000)}`];
  for (const address of bad) assert.equal(safeHref(address), null, address);
});

const types = (blocks) => blocks.map((block) => block.type).join(" ");

test("blocks", () => {
  const text = "# A #\n\ntext\nmore\n- a\n- b\n\n1. c\n\n> q\nlazy\n\n---\n```js\nx\n```\n|a|b|\n|-|:-:|\n|1|2\\|3|\n";
  const blocks = parseMarkdown(text);
  assert.equal(types(blocks), "heading paragraph list list quote rule code table");
  assert.deepEqual(blocks[0], { type: "heading", level: 1, text: "A" });
  assert.equal(blocks[1].text, "text\nmore");
  assert.equal(blocks[4].blocks[0].text, "q\nlazy");
  assert.deepEqual(blocks[6], { type: "code", language: "js", text: "x", closed: true });
  assert.deepEqual(blocks[7], { type: "table", align: ["", "center"], header: ["a", "b"], rows: [["1", "2|3"]] });
});

test("lists", () => {
  const [list, code] = parseMarkdown("3. a\n  - b\n    - c\n4. d\n   ```\n\tx\n   ```\n5. [x] done\n\n```\n\ty\n```");
  assert.equal(list.ordered && list.start, 3);
  assert.equal(list.items.length, 3);
  assert.equal(list.items[0].blocks[1].items[0].blocks[1].items[0].blocks[0].text, "c");
  assert.equal(types(list.items[1].blocks), "paragraph code");
  assert.equal(list.items[2].task, true);
  assert.equal(list.loose, false);
  assert.equal(code.text, "\ty");
  assert.equal(parseMarkdown("- a\n\n- b")[0].loose, true);
  assert.equal(types(parseMarkdown("In\n2024. was a year")), "paragraph");
  assert.equal(types(parseMarkdown("- a\n\n  second\n\nafter")), "list paragraph");
});

test("code that is not closed, and longer fences", () => {
  assert.deepEqual(parseMarkdown("```py\na\n\nb"), [{ type: "code", language: "py", text: "a\n\nb", closed: false }]);
  assert.equal(parseMarkdown("````\n```\n````")[0].text, "```");
  assert.equal(parseMarkdown("~~~\n```\n~~~")[0].text, "```");
});

test("deep nesting ends", () => {
  for (const mark of ["> ", "- ", "* ", "1. "]) assert.ok(JSON.stringify(parseMarkdown(mark.repeat(5000))).length > 0);
  for (const mark of ["*", "**a ", "[", "![", "`", "_a", "~~a", "[a](", "<", "&", "](", "[a](b \"", "http://"]) {
    const began = performance.now();
    parseInline(mark.repeat(20000), true);
    parseInline(`${mark.repeat(20000)}${[...mark].reverse().join("").repeat(20000)}`);
    assert.ok(performance.now() - began < 2000, `${mark}: ${performance.now() - began} ms`);
  }
});

// --- Streams --------------------------------------------------------------------------------------------

const PIECES = ["# h\n", "text ", "**b** ", "\n", "\n\n", "- i\n", "  - j\n", "1. k\n", "   more\n", "> q\n", "```\n", "```js\n",
  "code\n", "|a|b|\n", "|-|-|\n", "| 1 | 2 |\n", "---\n", "***", "`c`", "中文。", "\t", "    ", "1", "-", "#", "~~~\n", "\r\n", "| ",
  "- [x] t\n", "- ", "> ", "- - -\n", "|x\n", "-|\n", "- |a|b|\n", "> |a|b|\n", "  |-|-|\n", "> > > > > > > > > > > > > > > "];

const INLINE_PIECES = ["*", "**", "***", "_", "~~", "`", "``", "[", "](", "]", "![", ")", "(", "http://a.b/c", "https://x", "<", ">",
  "<br>", "<http://a>", "&amp;", "&#", "12;", "&", ";", "\\", "\n", " ", "word", "中文", "h", "ht", "!", '"t"', "mailto:a@b", "<a)b>"];

// The same numbers every time.
function random(seed) {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function randomText(draw, pieces, most) {
  return Array.from({ length: 1 + draw(most) }, () => pieces[draw(pieces.length)]).join("");
}

test("a text in pieces becomes the blocks of the whole", () => {
  for (let seed = 1; seed <= 2500; seed += 1) {
    const draw = random(seed);
    const text = randomText(draw, PIECES, 28);
    const stream = new MarkdownStream();
    for (let at = 0; at < text.length; ) {
      const size = 1 + draw(6);
      stream.push(text.slice(at, at + size));
      at += size;
      if (draw(4) > 0) stream.read();
    }
    const wanted = referenceBlocks(text);
    assert.deepEqual(stream.read(true), wanted, `seed ${seed}: ${JSON.stringify(text)}`);
    assert.deepEqual(parseMarkdown(text), wanted, `seed ${seed}: ${JSON.stringify(text)}`);
  }
});

const SAMPLE = "# T\n\nA *b* **c\nd**\n\n1. x\n   - y\n\n     z\n2. w\n\n> q\nlazy\n> - [ ] t\n\n|a|b|\n|-|:-:|\n|1|2|\n\n```js\n- no\n\n```\n|c|\nend";

test("a text cut in two or three anywhere becomes the blocks of the whole", () => {
  const wanted = referenceBlocks(SAMPLE);
  for (let first = 0; first <= SAMPLE.length; first += 1) {
    for (let second = first; second <= SAMPLE.length; second += 7) {
      const stream = new MarkdownStream();
      for (const piece of [SAMPLE.slice(0, first), SAMPLE.slice(first, second), SAMPLE.slice(second)]) {
        stream.push(piece);
        stream.read();
      }
      assert.deepEqual(stream.read(true), wanted, `${first}, ${second}`);
    }
  }
});

test("what is settled does not change any more", () => {
  // Paths of everything that a view leaves alone once it was shown.
  const settled = (blocks, path = "") => blocks.slice(0, blocks.settled ?? blocks.length).map((block, at) => [`${path}/${at}`, JSON.stringify(block)])
    .concat(blocks.slice(blocks.settled ?? blocks.length).flatMap((block, at) => {
      const here = `${path}/${(blocks.settled ?? 0) + at}`;
      return block.items ? settled(block.items, here) : block.blocks ? settled(block.blocks, here) : block.rows ? settled(block.rows, here) : [];
    }));
  for (let seed = 1; seed <= 1000; seed += 1) {
    const draw = random(seed);
    const text = randomText(draw, PIECES, 28);
    const stream = new MarkdownStream();
    const seen = new Map();
    for (let at = 0; at < text.length; at += 3) {
      stream.push(text.slice(at, at + 3));
      for (const [path, block] of settled(stream.read())) {
        assert.equal(seen.get(path) ?? block, block, `seed ${seed}, ${path}: ${JSON.stringify(text)}`);
        seen.set(path, block);
      }
    }
  }
});

test("inline text in pieces becomes the nodes of the whole", () => {
  for (let seed = 1; seed <= 3000; seed += 1) {
    const draw = random(seed);
    const text = randomText(draw, INLINE_PIECES, 14);
    const stream = new InlineStream();
    let shown = [];
    for (let at = 0; at < text.length; ) {
      const size = 1 + draw(4);
      stream.push(text.slice(at, at + size));
      at += size;
      for (const open of [draw(4) > 0, false].slice(draw(2))) {
        const { from, nodes } = stream.show(open);
        assert.ok(from <= shown.length);
        shown = [...shown.slice(0, from), ...nodes];
        const wanted = brief(parseInline(text.slice(0, at), open));
        assert.equal(brief(shown), wanted, `seed ${seed}: ${JSON.stringify(text.slice(0, at))}`);
      }
    }
    const { from, nodes } = stream.show(false);
    assert.equal(brief([...shown.slice(0, from), ...nodes]), brief(parseInline(text)));
  }
});

test("the cost grows with the length", () => {
  const rows = { "": ["A paragraph of **some** words.\n\n", "- an item\n", "1. one\n\n   > two\n", "> > > q\n", "a line `of` one paragraph\n"],
    "```\n": ["x = 1\n"], "|a|b|\n|-|-|\n": ["| 1 | 2 |\n"] };
  for (const [head, row] of Object.entries(rows).flatMap(([head, some]) => some.map((row) => [head, row]))) {
    const stream = new MarkdownStream();
    stream.push(head);
    const count = 3000;
    for (let n = 0; n < count; n += 1) {
      stream.push(row.slice(0, 3));
      stream.read();
      stream.push(row.slice(3));
      stream.read();
    }
    assert.ok(stream.scanned < 3 * count * row.length, `${stream.scanned} of ${count * row.length} characters`);
  }
});

test("a paragraph without end costs what is new", () => {
  for (const word of ["word ", "**bold** and `code` ", "[a](http://b.c) ", "*never closed ", "[ ", "` ", "https://a.b/c?d ", "**"]) {
    const times = [4000, 16000].map((length) => {
      const stream = new InlineStream();
      const began = performance.now();
      for (let at = 0; at < length; at += word.length) {
        stream.push(word);
        if (at % 8 === 0) stream.show(true);
      }
      return performance.now() - began;
    });
    // 16 times if it were quadratic.
    assert.ok(times[1] < 10 * times[0] + 300, `${word}: ${times.map(Math.round)} ms`);
  }
});

test("what may become a marker is held back", () => {
  const stream = new MarkdownStream();
  stream.push("text\n\n1");
  assert.equal(types(stream.read()), "paragraph");
  stream.push(". item\n\n``");
  assert.equal(types(stream.read()), "paragraph list");
  stream.push("`py\nx\n``");
  assert.equal(stream.read().at(-1).text, "x");
  stream.push("`\n");
  assert.equal(stream.read().at(-1).closed, true);
});

// --- What the server sends ------------------------------------------------------------------------------

test("server-sent events in any pieces", async () => {
  const bytes = new TextEncoder().encode(': hello\r\n\r\ndata: {"a":"中"}\r\n\r\nevent: x\ndata:one\ndata: two\n\ndata: [DONE]\n\n');
  for (let size = 1; size <= bytes.length; size += 1) {
    const body = new ReadableStream({
      start(controller) {
        for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
        controller.close();
      },
    });
    const seen = [];
    for await (const data of serverEvents(body)) seen.push(data);
    assert.deepEqual(seen, ['{"a":"中"}', "one\ntwo", "[DONE]"], `${size} bytes a piece`);
  }
});

test("JSON in pieces is indented as JSON.stringify does it", () => {
  const values = [{}, [], 1, "a\\\"{[,:", { a: [], b: {}, c: [1, [2, { d: null }]], "键 ,": "值:\n" }, [[[]]], [true, { x: -1.5e-7 }]];
  for (const value of values) {
    for (const text of [JSON.stringify(value), JSON.stringify(value, null, 7)]) {
      for (let size = 1; size <= text.length; size += 1) {
        const json = new JsonText();
        let out = "";
        for (let at = 0; at < text.length; at += size) out += json.push(text.slice(at, at + size));
        assert.equal(out, JSON.stringify(value, null, 2), `${text}, ${size} a piece`);
      }
    }
  }
});

test("chunks of an answer, and those that are none", () => {
  const message = emptyAnswer();
  const call = (index, part) => ({ tool_calls: [{ index, function: part }] });
  for (const delta of [{ content: null, reasoning_content: "hm" }, { reasoning: "m" }, call(0, { name: "f", arguments: '{"a"' }),
    call(0, { arguments: ":1}" }), call("__proto__", { name: "x" }), call(-1, { name: "x" }), call(1e9, { name: "x" }),
    { tool_calls: [null] }, { content: { a: 1 }, tool_calls: "x" }]) take(message, delta);
  assert.deepEqual(message.tools, [{ name: "f", arguments: '{"a":1}' }]);
  assert.deepEqual([message.content, message.reasoning], ["", "hmm"]);
});

test("a conversation survives its file", () => {
  const media = [{ kind: "image", name: "cat.png", url: "data:image/png;base64,aGk=" }];
  const messages = [{ role: "user", content: "a", media }, { ...emptyAnswer(), content: "b", reasoning: "c", finish: "stop",
    tools: [{ name: "f`", arguments: "```" }], stats: { ttft: 1, tokens: 2, rate: null } }];
  assert.deepEqual(fromJson(asJson(messages)), messages);
  assert.deepEqual(fromJson(asJson([{ role: "user", content: "a" }])), [{ role: "user", content: "a", media: [] }]); // of before
  const names = { you: "You", assistant: "Model", reasoning: "Thoughts", toolCall: "Call", picture: "Picture" };
  assert.match(asMarkdown(messages, names), /## You\n\n\*Picture: cat.png\*\n\na\n\n## Model\n\n> Thoughts\n>\n> c\n\nb\n\nCall: `f'`\n\n````json\n```\n````/);
  for (const wrong of [7, null, "x", [null], [{ role: "system", content: "x" }], [{ role: "user", content: 1 }]]) {
    assert.equal(messagesOf(wrong), null, JSON.stringify(wrong));
  }
});

test("prometheus text", () => {
  const text = '# TYPE x gauge\nx{a="1} 2",b="\\""} 3\nx{a="2"} 4.5 1700000000\nlightglm_kv_blocks_used 7\nnan NaN\nbroken\n';
  assert.deepEqual([...parsePrometheus(text)], [["x", 7.5], ["lightglm_kv_blocks_used", 7]]);
  assert.equal(figures(text).used, 7);
  assert.equal(figures(text).total, null);
});

test("both languages have every string, with the same parameters", () => {
  assert.deepEqual(Object.keys(STRINGS.en), Object.keys(STRINGS.zh));
  const parameters = (text) => (text.match(/\{\w+\}/g) ?? []).sort().join();
  for (const [key, text] of Object.entries(STRINGS.en)) assert.equal(parameters(text), parameters(STRINGS.zh[key]), key);
});
