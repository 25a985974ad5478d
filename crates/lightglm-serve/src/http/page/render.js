// Blocks of markdown.js to DOM nodes, changing only what changed.
//
// A view holds one element and the block it shows; `update` brings it to a newer version of the same
// block. Elements that still fit are kept, so nothing flickers, a selection survives, and a copy
// button stays under the pointer while the answer grows. Safe by construction: text nodes, a fixed
// set of tags, and one attribute from the text, an address that safeHref let through.

import { copyButton, h } from "./dom.js";
import { parseInline, safeHref } from "./inline.js";
import { MarkdownStream } from "./markdown.js";
import { setText } from "./strings.js";

/** An element that shows a growing Markdown text. */
export class MarkdownView {
  constructor(element) {
    this.element = element;
    this.stream = new MarkdownStream();
    this.views = []; // of the blocks that may still change
  }

  push(text) {
    this.stream.push(text);
  }

  /** Shows what was pushed so far. After `done` the text is complete. */
  update(done = false) {
    const { settled, open } = this.stream.read(done);
    reconcile(this.element, this.views, [...settled, ...open]);
    this.views.splice(0, settled.length);
  }
}

/** Shows a whole text at once. */
export function renderMarkdown(element, text) {
  const view = new MarkdownView(element);
  view.push(text);
  view.update(true);
}

// Makes the last children of `parent`, which `views` stands for, show `blocks`.
function reconcile(parent, views, blocks) {
  blocks.forEach((block, index) => {
    const kind = kindOf(block);
    const old = views[index];
    if (old?.kind === kind) {
      old.update(block);
      return;
    }
    const view = { ...VIEWS[block.type](block), kind };
    view.update(block);
    if (old) old.element.replaceWith(view.element);
    else parent.append(view.element);
    views[index] = view;
  });
  for (const extra of views.splice(blocks.length)) extra.element.remove();
}

function kindOf(block) {
  if (block.type === "heading") return `h${block.level}`;
  if (block.type === "list") return block.ordered ? "ol" : "ul";
  return block.type;
}

const VIEWS = {
  paragraph: () => textView(h("p")),
  // The page's own heading is level 1, so those of an answer begin at 3.
  heading: (block) => textView(h(`h${Math.min(6, block.level + 2)}`, { class: `level-${block.level}` })),
  rule: () => ({ element: h("hr"), update() {} }),
  quote: () => {
    const element = h("blockquote");
    const views = [];
    return { element, update: (block) => reconcile(element, views, block.blocks) };
  },
  code: codeView,
  list: listView,
  table: tableView,
};

function textView(element) {
  const show = inlineUpdater(element);
  return { element, update: (block) => show(block.text, block.open) };
}

function codeView() {
  const language = h("span", { class: "language" });
  const text = document.createTextNode("");
  let shown = "";
  const copy = copyButton(() => text.data, "copy", "copied", setText);
  const pre = h("pre", { tabindex: "0" }, h("code", {}, text));
  const element = h("div", { class: "code" }, h("div", { class: "code-head" }, language, copy), pre);
  const update = (block) => {
    if (language.textContent !== block.language) language.textContent = block.language;
    if (block.text.startsWith(shown)) text.appendData(block.text.slice(shown.length));
    else text.data = block.text;
    shown = block.text;
  };
  return { element, update };
}

function listView(block) {
  const element = h(block.ordered ? "ol" : "ul");
  const items = [];
  const update = (list) => {
    element.classList.toggle("loose", list.loose);
    if (list.ordered && list.start !== 1) element.setAttribute("start", list.start);
    while (items.length > list.items.length) items.pop().element.remove();
    list.items.forEach((item, index) => {
      if (!items[index]) {
        items[index] = itemView();
        element.append(items[index].element);
      }
      items[index].update(item);
    });
  };
  return { element, update };
}

function itemView() {
  const element = h("li");
  const body = h("div");
  const views = [];
  let box = null;
  element.append(body);
  const update = (item) => {
    if (item.task !== null && !box) {
      box = h("input", { type: "checkbox", disabled: true });
      element.classList.add("task");
      element.prepend(box);
    }
    if (box) box.checked = item.task === true;
    reconcile(body, views, item.blocks);
  };
  return { element, update };
}

function tableView() {
  const head = rowView("th");
  const body = h("tbody");
  const rows = [];
  const table = h("table", {}, h("thead", {}, head.element), body);
  const element = h("div", { class: "table", tabindex: "0" }, table);
  const update = (next) => {
    head.update(next.header, next.align, false);
    while (rows.length > next.rows.length) rows.pop().element.remove();
    next.rows.forEach((cells, index) => {
      if (!rows[index]) {
        rows[index] = rowView("td");
        body.append(rows[index].element);
      }
      rows[index].update(cells, next.align, next.open && index === next.rows.length - 1);
    });
  };
  return { element, update };
}

function rowView(tag) {
  const element = h("tr");
  const cells = [];
  let shown = null;
  const update = (texts, align, open) => {
    const key = `${open}\n${align}\n${texts.join("\n")}`;
    if (key === shown) return;
    shown = key;
    while (cells.length > texts.length) cells.pop().cell.remove();
    texts.forEach((text, index) => {
      if (!cells[index]) {
        const cell = h(tag, tag === "th" ? { scope: "col" } : {});
        cells[index] = { cell, show: inlineUpdater(cell) };
        element.append(cell);
      }
      cells[index].cell.className = align[index] ? `align-${align[index]}` : "";
      cells[index].show(text, open);
    });
  };
  return { element, update };
}

// Shows inline Markdown in an element, keeping the nodes at the front that stay the same.
function inlineUpdater(element) {
  let shown = null;
  let nodes = [];
  return (text, open = false) => {
    const key = open ? `…${text}` : text;
    if (shown === key) return;
    shown = key;
    const next = parseInline(text, open);
    let same = 0;
    while (same < nodes.length && same < next.length && equal(nodes[same], next[same])) same += 1;
    const child = element.childNodes[same];
    if (nodes[same]?.type === "text" && next[same]?.type === "text") {
      const grown = next[same].text;
      if (grown.startsWith(child.data)) child.appendData(grown.slice(child.length));
      else child.data = grown;
      same += 1;
    }
    while (element.childNodes.length > same) element.lastChild.remove();
    element.append(...next.slice(same).map(inlineNode));
    nodes = next;
  };
}

function equal(a, b) {
  return a.type === b.type && JSON.stringify(a) === JSON.stringify(b);
}

function inlineNode(node) {
  switch (node.type) {
    case "break":
      return h("br");
    case "code":
      return h("code", {}, node.text);
    case "link":
      return link(node);
    case "strong":
    case "em":
    case "del":
      return h(node.type, {}, ...node.children.map(inlineNode));
    default:
      return document.createTextNode(node.text);
  }
}

function link(node) {
  const href = safeHref(node.href);
  const children = node.children.map(inlineNode);
  if (href === null) return h("span", {}, ...children);
  return h("a", { href, rel: "noopener noreferrer", target: "_blank" }, ...children);
}
