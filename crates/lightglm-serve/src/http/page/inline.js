// Markdown inside one block: text to a small tree of plain objects, no DOM.
//
//   { type: "text", text }            { type: "code", text }        { type: "break" }
//   { type: "strong" | "em" | "del", children }
//   { type: "link", href, children }  href has passed safeHref
//
// HTML has no meaning here: `<b>` is five characters of text. The one exception is `<br>`, which
// models write inside table cells. Every step is bounded, so the cost stays linear in the text
// whatever it holds: at most MAX_OPEN delimiters wait for their other half, longer runs of one
// delimiter than MAX_RUN are text, and so is what would reach further than the other limits say.
// Nothing looks ahead further than MAX_AHEAD, which is what lets InlineStream go on where it was.

const MAX_OPEN = 64;
const MAX_RUN = 6;
const MAX_HREF = 2048;
const MAX_AHEAD = 4096; // characters of a code span, and of the brackets behind a link's label
const MAX_LABEL = 2048; // characters of a link's label
const MAX_HALF = 2048; // characters that are shown as bold, say, while the closing stars are not there
const MAX_TEXT = 1024; // characters of a text that grows; the next begins behind it
const MORE = -1; // what begins here is known when there is more text

const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };
const SPECIAL = /[\\`*_~[\]!<&\nh]/;
const DESTINATION =
  /\([ \t]{0,8}(?:<([^<>\n]*)>|((?:[^\s()\\]|\\.|\((?:[^\s()\\]|\\.)*\))*))(?:[ \t]{1,8}(?:"[^"\n]*"|'[^'\n]*'))?[ \t]{0,8}\)/y;
// With its scheme as long as MAX_HREF. A bare address ends where text written without spaces goes on: at CJK letters and full-width marks.
const BARE = /https?:\/\/[^\s<>"'`|\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]{1,2040}/y;
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
  const stream = new InlineStream();
  stream.push(text);
  return joined(stream.show(open).nodes);
}

/** The same for a text that grows, at a cost that grows with what is new. */
export class InlineStream {
  constructor() {
    this.parser = new Inline("", 0);
  }

  get text() {
    return this.parser.text;
  }

  push(text) {
    this.parser.text += text;
    this.parser.parse(false);
  }

  /** What the text is now: so many nodes `from` the last call, and `nodes` behind them. */
  show(open) {
    const { parser } = this;
    const first = parser.firstHalf(open ? MAX_HALF : Infinity);
    const from = Math.min(parser.changed, first);
    const nodes = [...parser.out.slice(from, first), ...parser.drafted(first, open)].map(shownNode);
    parser.changed = first;
    return { from, nodes };
  }
}

class Inline {
  constructor(text, at) {
    this.text = text;
    this.at = at; // text from here on is not looked at yet
    this.from = at; // text from here on is in no item yet
    this.out = []; // nodes, and marks that stand for themselves until they find their other half
    this.waiting = []; // indices into out of marks that may open
    this.items = []; // what came since the first open bracket
    this.brackets = []; // of `[` and `![` that may begin a link: { index into items, at }
    this.runs = new Map(); // length of a run of backticks to where the search for one was given up
    this.changed = 0; // nodes of out before this one are as they were
    this.isDraft = false; // what is half there is taken for what it is about to be
    this.isWhole = false; // no more text will come
  }

  parse(isWhole) {
    const { text } = this;
    this.isWhole = isWhole;
    let { at } = this;
    while (at < text.length) {
      const next = SPECIAL.test(text[at]) ? this.special(at) : at;
      if (next === MORE) break;
      if (next > at) this.from = next;
      at = Math.max(next, at + 1);
    }
    this.at = at;
    this.flush(at);
    if (isWhole) this.forgetBrackets(Infinity);
  }

  // Nodes from here on have a mark, at most so far back, that may still find its other half.
  firstHalf(most) {
    return this.waiting.find((index) => this.out[index].at > this.at - most) ?? this.out.length;
  }

  // What the nodes from `first` on and the rest of the text are, if the text ends here or, if `open`, soon.
  drafted(first, open) {
    // Half a delimiter at the end, or one whose other half came: either way no text.
    const cut = open ? /(?:\*{1,3}|~{1,2}|`{1,2}|_{1,2})$/.exec(this.text.slice(this.at)) : null;
    const text = cut ? this.text.slice(0, this.at + cut.index) : this.text;
    const draft = new Inline(text, this.at);
    const copied = (item) => (item.type === "mark" ? { ...item } : item);
    draft.out = this.out.slice(first).map(copied);
    draft.waiting = this.waiting.filter((index) => index >= first).map((index) => index - first);
    draft.items = this.items.map(copied);
    draft.brackets = this.brackets.map((bracket) => ({ ...bracket }));
    draft.isDraft = open;
    draft.parse(true);
    if (open) draft.closeHalves(cut?.[0][0]);
    return draft.out;
  }

  // Text before a construct must be in `items` before what the construct takes from there.
  flush(to) {
    if (to > this.from) this.add(textNode(this.text.slice(this.from, to)));
    this.from = to;
  }

  add(item) {
    if (this.brackets.length > 0) this.items.push(item);
    else this.resolve(item);
  }

  // Brackets that began before `at` begin no link, and so all but the last MAX_OPEN.
  forgetBrackets(at) {
    const { brackets, items } = this;
    while (brackets.length > MAX_OPEN || (brackets.length > 0 && brackets[0].at < at)) brackets.shift();
    const first = brackets[0]?.index ?? items.length;
    if (first === 0) return;
    for (const item of items.splice(0, first)) this.resolve(item);
    for (const bracket of brackets) bracket.index -= first;
  }

  // Reads what begins at `at`; where it ends, `at` itself where it is text after all, or MORE.
  special(at) {
    const { text } = this;
    this.forgetBrackets(at - MAX_LABEL);
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
        if (this.endsAt(at + 1)) return MORE;
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

  // Is what is at `at` not there yet?
  endsAt(at) {
    return !this.isWhole && at >= this.text.length;
  }

  // May what is behind `at` and has no white space still grow, within `most` characters?
  mayGrow(at, most) {
    return !this.isWhole && this.text.length - at <= most && !/\s/.test(this.text.slice(at));
  }

  put(at, end, item) {
    this.flush(at);
    this.add(item);
    return end;
  }

  escape(at) {
    if (this.endsAt(at + 1)) return MORE;
    const next = this.text[at + 1];
    if (next === "\n") return this.put(at, at + 2, { type: "break" });
    if (next === undefined || !ESCAPABLE.test(next)) return at;
    return this.put(at, at + 2, textNode(next));
  }

  runAt(at) {
    let end = at;
    while (end - at < MAX_AHEAD && this.text[end] === this.text[at]) end += 1;
    return end - at;
  }

  code(at) {
    const { text } = this;
    const width = this.runAt(at);
    if (this.endsAt(at + width)) return MORE;
    const start = this.closingRun(at + width, width);
    if (start === MORE) return MORE;
    if (start === null && !(this.isDraft && width < 3)) {
      return this.put(at, at + width, textNode("`".repeat(width)));
    }
    const end = start ?? text.length;
    let inner = text.slice(at + width, end).replaceAll("\n", " ");
    if (/^ .*[^ ].* $/.test(inner)) inner = inner.slice(1, -1);
    return this.put(at, start === null ? end : end + width, { type: "code", text: inner });
  }

  // Where a run of `width` backticks begins, or null where none does within MAX_AHEAD.
  closingRun(from, width) {
    const { text } = this;
    const limit = from + MAX_AHEAD;
    let at = Math.max(from, this.runs.get(width) ?? 0);
    while ((at = text.indexOf("`", at)) >= 0 && at < limit) {
      const found = this.runAt(at);
      if (this.endsAt(at + found)) return MORE;
      if (found === width) return at;
      at += found;
      this.runs.set(width, at);
    }
    if (!this.isWhole && text.length < limit) return MORE;
    return null;
  }

  delimiter(at) {
    const { text } = this;
    const mark = text[at];
    const width = this.runAt(at);
    if (this.endsAt(at + width)) return MORE;
    const before = text[at - 1];
    const after = text[at + width];
    const usable = width <= MAX_RUN && (mark !== "~" || width === 2);
    // Looser than CommonMark beside punctuation: there, `**重点：**正文` would not be bold.
    const boundary = mark === "_";
    const canOpen = usable && !isSpace(after) && !(boundary && before && WORD.test(before));
    const canClose = usable && !isSpace(before) && !(boundary && after && WORD.test(after));
    if (!canOpen && !canClose) return this.put(at, at + width, textNode(mark.repeat(width)));
    return this.put(at, at + width, { type: "mark", mark, count: width, width, canOpen, canClose, at });
  }

  bracket(at, width) {
    this.flush(at);
    this.brackets.push({ index: this.items.length, at });
    this.items.push(textNode(this.text.slice(at, at + width)));
    this.forgetBrackets(-Infinity);
    return at + width;
  }

  closeBracket(at) {
    if (this.brackets.length === 0) return at;
    if (this.endsAt(at + 1)) return MORE;
    const match = this.destination(at + 1);
    if (match === MORE) return MORE;
    const rest = this.text.slice(at, at + MAX_HREF);
    const isCut = !match && this.isDraft && /^\]\([^\s()]{0,2048}$/.test(rest);
    if (!match && !isCut) {
      this.flush(at);
      this.brackets.pop();
      this.forgetBrackets(-Infinity);
      return at;
    }
    this.flush(at);
    const children = resolved(this.items.splice(this.brackets.pop().index).slice(1));
    this.forgetBrackets(Infinity); // no link inside a link
    if (isCut) {
      for (const child of children) this.add(child);
      return this.text.length;
    }
    const address = (match[1] ?? match[2]).replace(/\\([!-/:-@[-`{-~])/g, "$1");
    const href = safeHref(address);
    if (href === null) for (const child of children) this.add(child);
    else this.add({ type: "link", href, children: children.length ? children : [textNode(address)] });
    return at + 1 + match[0].length;
  }

  // The brackets behind a link's label, or null.
  destination(at) {
    const { text } = this;
    if (text[at] !== "(") return null;
    const line = text.slice(at, at + MAX_AHEAD);
    const match = matchAt(DESTINATION, line, 0);
    const isKnown = this.isWhole || line.length === MAX_AHEAD || line.includes("\n");
    // `(<a)` is whole, but for `(<a)b>)`.
    if (!isKnown && (!match || match[2]?.startsWith("<"))) return MORE;
    return match;
  }

  angle(at) {
    const lineBreak = matchAt(LINE_BREAK, this.text, at);
    if (lineBreak) return this.put(at, at + lineBreak[0].length, { type: "break" });
    const match = matchAt(ANGLE, this.text, at);
    const href = match && safeHref(match[1]);
    if (href) return this.put(at, at + match[0].length, { type: "link", href, children: [textNode(match[1])] });
    const mayBreak = !this.isWhole && /^<b?r?[ \t]{0,4}\/?$/i.test(this.text.slice(at, at + 12));
    return mayBreak || this.mayGrow(at, MAX_HREF + 16) ? MORE : at;
  }

  entity(at) {
    const match = matchAt(ENTITY, this.text, at);
    if (!match) return this.mayGrow(at, 10) ? MORE : at;
    const code = match[2] ? Number.parseInt(match[2], 10) : Number.parseInt(match[3] ?? "0", 16);
    const valid = code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff);
    const character = match[1] ? ENTITIES[match[1]] : valid ? String.fromCodePoint(code) : "\ufffd";
    return this.put(at, at + match[0].length, textNode(character));
  }

  bareAddress(at) {
    const { text } = this;
    const before = text[at - 1];
    if (this.endsAt(at + 1)) return MORE;
    if (text[at + 1] !== "t" || (before && /[A-Za-z0-9_]/.test(before))) return at;
    // Inside the brackets of a link the address is its label.
    if (this.brackets.length > 0) return at;
    const match = matchAt(BARE, text, at);
    if (!match) {
      const begun = text.slice(at, at + 9);
      return !this.isWhole && text.length - at < 9 && ("https://".startsWith(begun) || "http://".startsWith(begun)) ? MORE : at;
    }
    if (this.endsAt(at + match[0].length)) return MORE;
    let address = match[0].replace(/[.,;:!?*_~\]}]+$/, "");
    if (address.endsWith(")") && !address.includes("(")) address = address.replace(/[).,;:!?*_~]+$/, "");
    const href = safeHref(address);
    if (!href) return at;
    return this.put(at, at + address.length, { type: "link", href, children: [textNode(address)] });
  }

  // Pairs delimiters of one level as they come (CommonMark's delimiter stack, in one pass).
  resolve(item) {
    const { out, waiting } = this;
    if (item.type !== "mark") {
      const last = out.at(-1);
      if (item.type === "text" && last?.type === "text" && last.text.length < MAX_TEXT) {
        this.change(out.length - 1);
        out[out.length - 1] = textNode(last.text + item.text);
      } else {
        out.push(item);
      }
      return;
    }
    while (item.canClose && item.count > 0) {
      let slot = waiting.length - 1;
      while (slot >= 0 && !pairs(out[waiting[slot]], item)) slot -= 1;
      if (slot < 0) break;
      const use = out[waiting[slot]].count >= 2 && item.count >= 2 ? 2 : 1;
      waiting.length = slot + 1;
      this.wrap(use);
      item.count -= use;
    }
    if (item.count === 0) return;
    if (item.canOpen) {
      waiting.push(out.length);
      if (waiting.length > MAX_OPEN) waiting.shift();
    }
    out.push(item);
  }

  change(index) {
    this.changed = Math.min(this.changed, index);
  }

  // Marks whose other half is about to come: all but the single ones, unless it is half there.
  closeHalves(cut) {
    const { out, waiting } = this;
    while (waiting.length > 0) {
      const at = waiting.at(-1);
      const enough = out[at].mark === cut ? 1 : 2;
      if (out[at].count >= enough && at + 1 < out.length) this.wrap(Math.min(2, out[at].count));
      else waiting.pop();
    }
  }

  // Everything behind the last waiting mark becomes its child.
  wrap(use) {
    const { out, waiting } = this;
    const at = waiting.at(-1);
    const opener = out[at];
    const children = joined(out.splice(at + 1));
    this.change(at);
    opener.count -= use;
    if (opener.count === 0) {
      out.pop();
      waiting.pop();
    }
    const type = opener.mark === "~" ? "del" : use === 2 ? "strong" : "em";
    out.push({ type, children });
  }
}

function textNode(text) {
  return { type: "text", text };
}

function resolved(items) {
  const inner = new Inline("", 0);
  for (const item of items) inner.resolve(item);
  return joined(inner.out);
}

function pairs(opener, closer) {
  if (opener.mark !== closer.mark) return false;
  if (closer.mark === "~") return true;
  const both = opener.canClose || closer.canOpen;
  const sum = opener.width + closer.width;
  return !(both && sum % 3 === 0 && opener.width % 3 !== 0);
}

// A mark without its other half is text.
function shownNode(item) {
  return item.type === "mark" ? textNode(item.mark.repeat(item.count)) : item;
}

function joined(items) {
  const out = [];
  for (const item of items) {
    const node = shownNode(item);
    const last = out.at(-1);
    if (node.type === "text" && last?.type === "text") out[out.length - 1] = textNode(last.text + node.text);
    else out.push(node);
  }
  return out;
}
