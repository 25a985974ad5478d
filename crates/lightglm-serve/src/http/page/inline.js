// Markdown inside one block: text to a small tree of plain objects, no DOM.
//
//   { type: "text", text }            { type: "code", text }        { type: "break" }
//   { type: "strong" | "em" | "del", children }
//   { type: "link", href, children }  href has passed safeHref
//
// HTML has no meaning here: `<b>` is five characters of text. The one exception is `<br>`, which
// models write inside table cells. Every step is bounded, so the cost stays linear in the text
// whatever it holds: at most MAX_OPEN delimiters wait for their other half, and longer runs of one
// delimiter than MAX_RUN are text.

const MAX_OPEN = 64;
const MAX_RUN = 6;
const MAX_HREF = 2048;

const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };
const SPECIAL = /[\\`*_~[\]!<&\nh]/;
const DESTINATION =
  /\([ \t]{0,8}(?:<([^<>\n]*)>|((?:[^\s()\\]|\\.|\((?:[^\s()\\]|\\.)*\))*))(?:[ \t]{1,8}(?:"[^"\n]*"|'[^'\n]*'))?[ \t]{0,8}\)/y;
// A bare address ends where text written without spaces goes on: at CJK letters and full-width marks.
const BARE = /https?:\/\/[^\s<>"'`|\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]{1,2048}/y;
const ANGLE = /<((?:https?:\/\/|mailto:)[^\s<>]{1,2048})>/y;
const ENTITY = /&(?:(amp|lt|gt|quot|apos|nbsp)|#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6}));/y;
const LINE_BREAK = /<br[ \t]{0,4}\/?>/iy;
const WORD = /[\p{L}\p{N}_]/u;
const ESCAPABLE = /[!-/:-@[-`{-~]/;

/** The address as the browser reads it, or null unless it is http, https or mailto. */
export function safeHref(address) {
  if (address.length > MAX_HREF || !/^(?:https?:\/\/|mailto:)/i.test(address)) return null;
  try {
    const url = new URL(address);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

function matchAt(pattern, text, at) {
  pattern.lastIndex = at;
  return pattern.exec(text);
}

function isSpace(character) {
  return character === undefined || /\s/.test(character);
}

/**
 * Parses the text of one block. `open`: the text is still being written, so what is half there is
 * shown as what it is about to be (bold without its closing stars, a link without its address).
 */
export function parseInline(text, open = false) {
  // Half a delimiter at the end, or one whose other half came: either way no text.
  const cut = open ? /(?:\*{1,3}|~{1,2}|`{1,2}|_{1,2})$/.exec(text) : null;
  return new Inline(cut ? text.slice(0, cut.index) : text, open, cut?.[0][0]).parse();
}

class Inline {
  constructor(text, open, cut) {
    this.text = text;
    this.open = open;
    this.cut = cut; // the delimiter taken from the end of an open text
    this.items = [];
    this.from = 0; // text from here on is in no item yet
    this.brackets = []; // indices into items of `[` and `![` that may begin a link
    this.unclosed = new Set(); // lengths of backtick runs known to have no partner further on
  }

  parse() {
    const text = this.text;
    let at = 0;
    while (at < text.length) {
      const next = SPECIAL.test(text[at]) ? this.special(at) : at;
      if (next > at) this.from = next;
      at = Math.max(next, at + 1);
    }
    this.flush(at);
    return resolve(this.items, this.open, this.cut);
  }

  // Text before a construct must be in `items` before what the construct takes from there.
  flush(to) {
    if (to > this.from) this.items.push(textNode(this.text.slice(this.from, to)));
    this.from = to;
  }

  // Reads what begins at `at`; where it ends, or `at` itself where it is text after all.
  special(at) {
    const text = this.text;
    switch (text[at]) {
      case "\\":
        return this.escape(at);
      case "`":
        return this.code(at);
      case "*":
      case "_":
      case "~":
        return this.delimiter(at);
      case "!":
        return text[at + 1] === "[" ? this.bracket(at, 2) : at;
      case "[":
        return this.bracket(at, 1);
      case "]":
        return this.closeBracket(at);
      case "<":
        return this.angle(at);
      case "&":
        return this.entity(at);
      case "\n":
        return this.put(at, at + 1, { type: "break" });
      default:
        return this.bareAddress(at);
    }
  }

  put(at, end, item) {
    this.flush(at);
    this.items.push(item);
    return end;
  }

  escape(at) {
    const next = this.text[at + 1];
    if (next === "\n") return this.put(at, at + 2, { type: "break" });
    if (next === undefined || !ESCAPABLE.test(next)) return at;
    return this.put(at, at + 2, textNode(next));
  }

  code(at) {
    const text = this.text;
    let width = 1;
    while (text[at + width] === "`") width += 1;
    let end = -1;
    if (!this.unclosed.has(width)) {
      for (let from = at + width; ; ) {
        const start = text.indexOf("`", from);
        if (start < 0) break;
        let stop = start + 1;
        while (text[stop] === "`") stop += 1;
        if (stop - start === width) {
          end = start;
          break;
        }
        from = stop;
      }
      if (end < 0) this.unclosed.add(width);
    }
    if (end < 0 && !(this.open && width < 3)) {
      return this.put(at, at + width, textNode("`".repeat(width)));
    }
    let inner = text.slice(at + width, end < 0 ? text.length : end).replaceAll("\n", " ");
    if (/^ .*[^ ].* $/.test(inner)) inner = inner.slice(1, -1);
    return this.put(at, end < 0 ? text.length : end + width, { type: "code", text: inner });
  }

  delimiter(at) {
    const text = this.text;
    const mark = text[at];
    let width = 1;
    while (text[at + width] === mark) width += 1;
    const before = text[at - 1];
    const after = text[at + width];
    const usable = width <= MAX_RUN && (mark !== "~" || width === 2);
    // Looser than CommonMark beside punctuation: there, `**重点：**正文` would not be bold.
    const boundary = mark === "_";
    const canOpen = usable && !isSpace(after) && !(boundary && before && WORD.test(before));
    const canClose = usable && !isSpace(before) && !(boundary && after && WORD.test(after));
    if (!canOpen && !canClose) return this.put(at, at + width, textNode(mark.repeat(width)));
    return this.put(at, at + width, { type: "mark", mark, count: width, width, canOpen, canClose });
  }

  bracket(at, width) {
    this.flush(at);
    this.brackets.push(this.items.length);
    if (this.brackets.length > MAX_OPEN) this.brackets.shift();
    this.items.push(textNode(this.text.slice(at, at + width)));
    return at + width;
  }

  closeBracket(at) {
    if (this.brackets.length === 0) return at;
    const opener = this.brackets.pop();
    const match = this.text[at + 1] === "(" ? matchAt(DESTINATION, this.text, at + 1) : null;
    const cut = !match && this.open && /^\]\([^\s()]{0,2048}$/.test(this.text.slice(at, at + MAX_HREF));
    if (!match && !cut) return at;
    this.flush(at);
    const children = resolve(this.items.splice(opener).slice(1));
    if (cut) {
      this.items.push(...children);
      return this.text.length;
    }
    const address = (match[1] ?? match[2]).replace(/\\([!-/:-@[-`{-~])/g, "$1");
    const href = safeHref(address);
    if (href === null) this.items.push(...children);
    else this.items.push({ type: "link", href, children: children.length ? children : [textNode(address)] });
    this.brackets.length = 0; // no link inside a link
    return at + 1 + match[0].length;
  }

  angle(at) {
    const lineBreak = matchAt(LINE_BREAK, this.text, at);
    if (lineBreak) return this.put(at, at + lineBreak[0].length, { type: "break" });
    const match = matchAt(ANGLE, this.text, at);
    const href = match && safeHref(match[1]);
    if (!href) return at;
    return this.put(at, at + match[0].length, { type: "link", href, children: [textNode(match[1])] });
  }

  entity(at) {
    const match = matchAt(ENTITY, this.text, at);
    if (!match) return at;
    const code = match[2] ? Number.parseInt(match[2], 10) : Number.parseInt(match[3] ?? "0", 16);
    const valid = code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff);
    const character = match[1] ? ENTITIES[match[1]] : valid ? String.fromCodePoint(code) : "\ufffd";
    return this.put(at, at + match[0].length, textNode(character));
  }

  bareAddress(at) {
    const before = this.text[at - 1];
    if (this.text[at + 1] !== "t" || (before && /[A-Za-z0-9_]/.test(before))) return at;
    // Inside the brackets of a link the address is its label.
    if (this.brackets.length > 0) return at;
    const match = matchAt(BARE, this.text, at);
    if (!match) return at;
    let address = match[0].replace(/[.,;:!?*_~\]}]+$/, "");
    if (address.endsWith(")") && !address.includes("(")) address = address.replace(/[).,;:!?*_~]+$/, "");
    const href = safeHref(address);
    if (!href) return at;
    return this.put(at, at + address.length, { type: "link", href, children: [textNode(address)] });
  }
}

function textNode(text) {
  return { type: "text", text };
}

// Pairs the delimiters of one level (CommonMark's delimiter stack, in one pass), then joins text.
function resolve(items, open = false, cut = undefined) {
  const out = [];
  const waiting = []; // indices into out of marks that may open
  for (const item of items) {
    if (item.type !== "mark") {
      out.push(item);
      continue;
    }
    while (item.canClose && item.count > 0) {
      let slot = waiting.length - 1;
      while (slot >= 0 && !pairs(out[waiting[slot]], item)) slot -= 1;
      if (slot < 0) break;
      const use = out[waiting[slot]].count >= 2 && item.count >= 2 ? 2 : 1;
      waiting.length = slot + 1;
      wrap(out, waiting, use);
      item.count -= use;
    }
    if (item.count === 0) continue;
    if (item.canOpen) {
      waiting.push(out.length);
      if (waiting.length > MAX_OPEN) waiting.shift();
    }
    out.push(item);
  }
  while (open && waiting.length > 0) {
    const at = waiting.at(-1);
    const enough = out[at].mark === cut ? 1 : 2;
    if (out[at].count >= enough && at + 1 < out.length) wrap(out, waiting, Math.min(2, out[at].count));
    else waiting.pop();
  }
  return joined(out);
}

function pairs(opener, closer) {
  if (opener.mark !== closer.mark) return false;
  if (closer.mark === "~") return true;
  const both = opener.canClose || closer.canOpen;
  const sum = opener.width + closer.width;
  return !(both && sum % 3 === 0 && opener.width % 3 !== 0);
}

// Everything behind the last waiting mark becomes its child.
function wrap(out, waiting, use) {
  const at = waiting.at(-1);
  const opener = out[at];
  const children = joined(out.splice(at + 1));
  opener.count -= use;
  if (opener.count === 0) {
    out.pop();
    waiting.pop();
  }
  const type = opener.mark === "~" ? "del" : use === 2 ? "strong" : "em";
  out.push({ type, children });
}

function joined(items) {
  const out = [];
  for (const item of items) {
    const node = item.type === "mark" ? textNode(item.mark.repeat(item.count)) : item;
    const last = out.at(-1);
    if (node.type === "text" && last?.type === "text") out[out.length - 1] = textNode(last.text + node.text);
    else out.push(node);
  }
  return out;
}
