// Blocks of markdown.js to DOM nodes, changing only what changed.
//
// A view holds one element and the block it shows; `update` brings it to a newer version of the same
// block. Elements that still fit are kept, so nothing flickers, a selection survives, and a copy
// button stays under the pointer while the answer grows. Safe by construction: text nodes, a fixed
// set of tags, and one attribute from the text, an address that safeHref let through.

import { copyButton, h } from "./dom.js";
import { InlineStream, safeHref } from "./inline.js";
import { MarkdownStream } from "./markdown.js";
import { setText } from "./strings.js";

/** An element that shows a growing Markdown text. */
export class MarkdownView {
  constructor(element) {
    this.stream = new MarkdownStream();
    this.children = new Children(element);
  }

  push(text) {
    this.stream.push(text);
  }

  /** Shows what was pushed so far. After `done` the text is complete. */
  update(done = false) {
    this.children.update(this.stream.read(done));
  }
}

/** Shows a whole text at once. */
export function renderMarkdown(element, text) {
  const view = new MarkdownView(element);
  view.push(text);
  view.update(true);
}

// The children of an element, each with a view. Those of `settled` items are left alone once they were shown.
class Children {
  constructor(element, kind = kindOf, viewOf = (block) => VIEWS[block.type](block)) {
    Object.assign(this, { element, kind, viewOf });
    this.views = [];
    this.settled = 0;
  }

  /** Shows `items`; `show` does it for one that has its view. */
  update(items, show = (view, item) => view.update(item)) {
    for (let index = this.settled; index < items.length; index += 1) {
      const item = items[index];
      const kind = this.kind(item);
      const old = this.views[index];
      if (old?.kind !== kind) {
        const view = { ...this.viewOf(item), kind };
        if (old) old.element.replaceWith(view.element);
        else this.element.append(view.element);
        this.views[index] = view;
      }
      show(this.views[index], item, index);
    }
    for (const extra of this.views.splice(items.length)) extra.element.remove();
    for (; this.settled < items.settled; this.settled += 1) this.views[this.settled] = null;
  }
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
    const children = new Children(element);
    return { element, update: (block) => children.update(block.blocks) };
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
  const children = new Children(element, () => "item", itemView);
  const update = (list) => {
    element.classList.toggle("loose", list.loose);
    if (list.ordered && list.start !== 1) element.setAttribute("start", list.start);
    children.update(list.items);
  };
  return { element, update };
}

function itemView() {
  const element = h("li");
  const body = h("div");
  const children = new Children(body);
  let box = null;
  element.append(body);
  const update = (item) => {
    if (item.task !== null && !box) {
      box = h("input", { type: "checkbox", disabled: true });
      element.prepend(box);
    }
    if (item.task === null && box) {
      box.remove();
      box = null;
    }
    element.classList.toggle("task", box !== null);
    if (box) box.checked = item.task === true;
    children.update(item.blocks);
  };
  return { element, update };
}

function tableView() {
  const head = rowView("th");
  const body = h("tbody");
  const children = new Children(body, () => "row", () => rowView("td"));
  const table = h("table", {}, h("thead", {}, head.element), body);
  const element = h("div", { class: "table", tabindex: "0" }, table);
  const update = ({ header, align, rows, open }) => {
    head.update(header, align, false);
    children.update(rows, (row, cells, index) => row.update(cells, align, open && index === rows.length - 1));
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
  let stream = new InlineStream();
  let shown = []; // each { node, child }
  let wasOpen = null;
  return (text, open = false) => {
    if (text === stream.text && open === wasOpen) return;
    wasOpen = open;
    if (!text.startsWith(stream.text)) stream = new InlineStream();
    stream.push(text.slice(stream.text.length));
    const { from, nodes } = stream.show(open);
    let same = from;
    while (same < shown.length && same - from < nodes.length && equal(shown[same].node, nodes[same - from])) same += 1;
    const next = nodes[same - from];
    if (shown[same]?.node.type === "text" && next?.type === "text") {
      const { child } = shown[same];
      if (next.text.startsWith(child.data)) child.appendData(next.text.slice(child.length));
      else child.data = next.text;
      shown[same].node = next;
      same += 1;
    }
    for (const { child } of shown.splice(same)) child.remove();
    shown.push(...nodes.slice(same - from).map((node) => ({ node, child: inlineNode(node) })));
    element.append(...shown.slice(same).map(({ child }) => child));
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
