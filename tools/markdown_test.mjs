// The page's Markdown without a browser, and the two parsers of what the server sends.
//
//   node --test tools/markdown_test.mjs

import assert from "node:assert/strict";
import test from "node:test";

const PAGE = new URL("../crates/lightglm-serve/src/http/page/", import.meta.url);
const { parseInline, safeHref } = await import(new URL("inline.js", PAGE));
const { MarkdownStream, parseMarkdown } = await import(new URL("markdown.js", PAGE));
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
  "code\n", "|a|b|\n", "|-|-|\n", "| 1 | 2 |\n", "---\n", "***", "`c`", "中文。", "\t", "    ", "1", "-", "#", "~~~\n", "\r\n", "| "];

// The same numbers every time.
function random(seed) {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

test("a text in pieces becomes the blocks of the whole", () => {
  for (let seed = 1; seed <= 3000; seed += 1) {
    const draw = random(seed);
    const text = Array.from({ length: 3 + draw(25) }, () => PIECES[draw(PIECES.length)]).join("");
    const stream = new MarkdownStream();
    const blocks = [];
    for (let at = 0; at < text.length; ) {
      const size = 1 + draw(6);
      stream.push(text.slice(at, at + size));
      at += size;
      blocks.push(...stream.read().settled);
    }
    blocks.push(...stream.read(true).settled);
    assert.deepEqual(blocks, parseMarkdown(text), `seed ${seed}: ${JSON.stringify(text)}`);
  }
});

test("the cost grows with the length", () => {
  for (const row of ["A paragraph of **some** words.\n\n", "x = 1\n"]) {
    const stream = new MarkdownStream();
    if (row.startsWith("x")) stream.push("```\n");
    const rows = 10000;
    for (let n = 0; n < rows; n += 1) {
      stream.push(row.slice(0, 3));
      stream.read();
      stream.push(row.slice(3));
      stream.read();
    }
    stream.read(true);
    assert.ok(stream.scanned < 12 * rows * row.length, `${stream.scanned} of ${rows * row.length} characters`);
  }
});

test("what may become a marker is held back", () => {
  const stream = new MarkdownStream();
  stream.push("text\n\n1");
  assert.equal(types(stream.read().open), "paragraph");
  stream.push(". item\n\n``");
  assert.equal(types(stream.read().open), "paragraph list");
  stream.push("`py\nx\n``");
  assert.equal(stream.read().open.at(-1).text, "x");
  stream.push("`\n");
  assert.equal(stream.read().open.at(-1).closed, true);
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
