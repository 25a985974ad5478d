// Markdown to a list of blocks (plain objects, no DOM), line by line, whole or while it is being written.
//
//   { type: "paragraph", text }                  { type: "heading", level, text }
//   { type: "code", language, text, closed }     { type: "rule" }
//   { type: "quote", blocks }
//   { type: "list", ordered, start, loose, items: [{ task: true | false | null, blocks }] }
//   { type: "table", align: ["" | "left" | "center" | "right"], header: [text], rows: [[text]] }
//
// `text` is for parseInline, but for code, where it is the code. A block that is still being written
// has `open: true`. Lists of `blocks`, `items` and `rows` have a `settled` (not enumerable): so many at
// their beginning will not change any more. Not here: HTML, indented code, setext headings, reference links.
//
// Each line is looked at once, together with the one after it: a line waits in each Level that it
// reaches until its successor there is known. The blocks on the way from the root to the line that is
// being written are builders; everything else is finished.

const MAX_DEPTH = 12; // quotes and lists inside each other; deeper ones are text
const MAX_COLUMNS = 64;

const FENCE = /^( {0,3})(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?=[ \t]|$)/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?:( +)|$)/;
const TASK = /^\[([ xX])\] +/;
// A last line that may yet become a marker: shown when it is known what it is.
const UNDECIDED = /^[ \t]*(?:\d{1,9}[.)]?|[-*+_=]{1,3}|#{1,6}|`{1,}|~{1,}|>+)[ \t]*$/;
const UNDECIDED_IN_CODE = /^ {0,3}[`~]+[ \t]*$/;

// How near a line is to the end of a text that is still being written.
const FAR = 0;
const BEFORE_LAST = 1;
const LAST = 2;

function isBlank(line) {
  return line.trim() === "";
}

// Leading tabs as the columns they stand for; nothing else of the line changes.
function expanded(line) {
  return /^ *\t/.test(line) ? line.replace(/^[ \t]+/, (space) => space.replaceAll("\t", "    ")) : line;
}

function indentOf(line) {
  const wide = expanded(line);
  return wide.length - wide.trimStart().length;
}

// Takes away up to `columns` of the indent. Tabs behind them stay: they may be code.
function dedent(line, columns) {
  let at = 0;
  for (let column = 0; column < columns && (line[at] === " " || line[at] === "\t"); at += 1) {
    column += line[at] === "\t" ? 4 : 1;
  }
  return line.slice(at);
}

function matchItem(line) {
  return ITEM.exec(expanded(line));
}

function closingFence(mark) {
  return new RegExp(`^ {0,3}\\${mark[0]}{${mark.length},}[ \\t]*$`);
}

function cells(line) {
  const row = line.trim().replace(/^\|/, "").replace(/(^|[^\\])\|$/, "$1");
  const out = row.split(/(?<!\\)\|/).slice(0, MAX_COLUMNS);
  return out.map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function alignments(line) {
  if (!line.includes("-") || !/^[ \t|:-]+$/.test(line)) return null;
  const out = [];
  for (const cell of cells(line)) {
    if (!/^:?-+:?$/.test(cell)) return null;
    const left = cell.startsWith(":");
    const right = cell.endsWith(":");
    out.push(left && right ? "center" : right ? "right" : left ? "left" : "");
  }
  return out;
}

function startsTable(line, next, end) {
  if (!line.includes("|")) return false;
  // Half a table: its second line is not there yet.
  const isHalf = end !== FAR && line.trimStart().startsWith("|");
  if (isHalf && (next === undefined || /^[ \t|:-]*$/.test(next))) return true;
  const align = next === undefined ? null : alignments(next);
  return align !== null && align.length === cells(line).length;
}

// An empty list of which nothing is settled.
function list() {
  return Object.defineProperty([], "settled", { value: 0, writable: true });
}

// Blocks beside each other: those of the text, of a quote or of an item.
class Level {
  // `mode` is the stream's: { draft: true } while lines are tried that will be taken back.
  constructor(mode, depth) {
    this.mode = mode;
    this.depth = depth;
    this.blocks = list();
    this.builder = null; // of the last block, while it may go on
    this.held = null; // the line that waits for its successor
  }

  push(line, isLast = false) {
    if (this.held !== null) this.take(this.held, line, isLast ? BEFORE_LAST : FAR);
    this.held = line;
  }

  // No more lines. `open`: so far.
  close(open) {
    if (this.held !== null) this.take(this.held, undefined, open ? LAST : FAR);
    this.held = null;
    this.builder?.close(open);
    this.builder = null;
    const last = this.blocks.at(-1);
    if (open && last) last.open = true;
  }

  take(line, next, end) {
    if (this.builder?.take(line, next, end)) return;
    this.builder?.close(false);
    this.builder = null;
    if (isBlank(line)) return;
    if (!this.mode.draft) this.blocks.settled = this.blocks.length;
    this.builder = this.begin(line, next, end);
    this.blocks.push(this.builder.block);
  }

  begin(line, next, end) {
    const fence = FENCE.exec(line);
    if (fence) return new Code(fence);
    if (HEADING.test(line)) return new Line(heading(line));
    if (RULE.test(line)) return new Line({ type: "rule" });
    if (this.depth < MAX_DEPTH) {
      if (QUOTE.test(line)) return new Quote(this, line, end);
      if (matchItem(line)) return new List(this, line, end);
    }
    if (startsTable(line, next, end)) return new Table(this, line);
    return new Paragraph(this, line);
  }

  // Does a block that ends a paragraph begin on this line?
  interrupts(line, next, end) {
    return this.startsOther(line) || startsTable(line, next, end);
  }

  startsOther(line) {
    if (FENCE.test(line) || HEADING.test(line) || RULE.test(line)) return true;
    if (this.depth >= MAX_DEPTH) return false;
    // A year at the start of a line is no list.
    return QUOTE.test(line) || /^ *(?:[-*+]|\d{1,3}[.)]) +\S/.test(expanded(line));
  }

  // What brings everything back to how it is now, in time that does not depend on how much there is.
  saved() {
    const { builder, held } = this;
    const { length } = this.blocks;
    const undo = builder?.saved();
    const last = this.blocks.at(-1);
    return () => {
      Object.assign(this, { builder, held });
      this.blocks.length = length;
      if (last) delete last.open;
      undo?.();
    };
  }
}

function heading(line) {
  const level = HEADING.exec(line)[1].length;
  let text = line.trim().slice(level).trim();
  const bare = text.replace(/(?<!#)#+$/, "");
  if (bare === "" || bare.endsWith(" ")) text = bare.trim();
  return { type: "heading", level, text };
}

// --- Builders: `take` says whether the line belongs to the block -----------------------------------------

class Line {
  constructor(block) {
    this.block = block;
  }

  take() {
    return false;
  }

  close() {}

  saved() {
    return () => {};
  }
}

class Paragraph {
  constructor(level, line) {
    this.level = level;
    this.block = { type: "paragraph", text: line.trim() };
  }

  take(line, next, end) {
    if (isBlank(line) || this.level.interrupts(line, next, end)) return false;
    this.block.text += `\n${line.trim()}`;
    return true;
  }

  close() {}

  saved() {
    const { text } = this.block;
    return () => {
      this.block.text = text;
    };
  }
}

class Code {
  constructor([, indent, mark, info]) {
    this.indent = indent.length;
    this.closing = closingFence(mark);
    this.last = null; // line of the code
    this.block = { type: "code", language: info.trim().split(/\s/)[0], text: "", closed: false };
  }

  take(line) {
    const { block } = this;
    if (block.closed) return false;
    if (this.closing.test(line)) {
      block.closed = true;
      return true;
    }
    const code = dedent(line, this.indent);
    block.text = this.last === null ? code : `${block.text}\n${code}`;
    this.last = code;
    return true;
  }

  // The end of a text that ends with a line feed is no line of it.
  close() {
    if (!this.block.closed && this.last === "") this.block.text = this.block.text.slice(0, -1);
  }

  saved() {
    const { last } = this;
    const { text, closed } = this.block;
    return () => {
      this.last = last;
      Object.assign(this.block, { text, closed });
    };
  }
}

class Table {
  constructor(level, line) {
    this.level = level;
    this.hasAlign = false;
    this.block = { type: "table", align: [], header: cells(line), rows: list() };
    this.pad([]);
  }

  pad(align) {
    while (align.length < this.block.header.length) align.push("");
    this.block.align = align;
  }

  take(line) {
    const { rows, header } = this.block;
    if (!this.hasAlign) {
      this.hasAlign = true;
      this.pad(alignments(line) ?? []);
      return true;
    }
    if (!line.includes("|") || this.level.startsOther(line)) return false;
    const row = cells(line).slice(0, header.length);
    while (row.length < header.length) row.push("");
    rows.push(row);
    if (!this.level.mode.draft) rows.settled = rows.length;
    return true;
  }

  close() {}

  saved() {
    const { hasAlign, block } = this;
    const { align, rows } = block;
    const { length } = rows;
    return () => {
      this.hasAlign = hasAlign;
      block.align = align;
      rows.length = length;
    };
  }
}

class Quote {
  constructor(level, line, end) {
    this.level = level;
    this.inner = new Level(level.mode, level.depth + 1);
    this.block = { type: "quote", blocks: this.inner.blocks };
    this.push(line.replace(QUOTE, ""), end);
  }

  push(line, end) {
    this.last = line;
    this.inner.push(line, end === LAST);
    return true;
  }

  take(line, next, end) {
    if (QUOTE.test(line)) return this.push(line.replace(QUOTE, ""), end);
    const goesOn = !isBlank(line) && !isBlank(this.last) && !this.level.interrupts(line, next, end);
    return goesOn && this.push(line, end);
  }

  close(open) {
    this.inner.close(open);
  }

  saved() {
    const { last } = this;
    const undo = this.inner.saved();
    return () => {
      this.last = last;
      undo();
    };
  }
}

class List {
  constructor(level, line, end) {
    this.level = level;
    const match = matchItem(line);
    this.kind = match[2].at(-1); // "-", "*", "+", "." or ")": another one begins another list
    const start = Number.parseInt(match[2], 10) || 0;
    this.block = { type: "list", ordered: /\d/.test(match[2]), start, loose: false, items: list() };
    this.begin(match, line, end);
  }

  begin([marker, lead, , gapAfter], line, end) {
    const { mode, depth } = this.level;
    const { items } = this.block;
    this.lead = lead.length;
    this.width = gapAfter && gapAfter.length > 4 ? marker.length - gapAfter.length + 1 : marker.length;
    this.content = 0; // columns to take away: the first line below decides
    this.lines = 0;
    this.inner = new Level(mode, depth + 1);
    let first = expanded(line).slice(this.width);
    const task = TASK.exec(first);
    if (task) first = first.slice(task[0].length);
    if (!mode.draft) items.settled = items.length;
    items.push({ task: task ? task[1] !== " " : null, blocks: this.inner.blocks });
    return this.push(first, line, end);
  }

  push(line, whole, end) {
    this.last = line;
    this.lines += 1;
    this.afterBlank = isBlank(whole);
    this.inner.push(line, end === LAST);
    return true;
  }

  // Two columns more than the marker's are enough for a line to belong to the item: models indent by
  // two below `1.` as well.
  take(line, next, end) {
    if (isBlank(line)) return this.push("", line, end);
    const indent = indentOf(line);
    if (indent >= this.lead + 2) {
      if (this.lines > 1 && this.last === "" && !matchItem(line)) this.block.loose = true;
      this.content ||= Math.min(indent, Math.max(this.width, this.lead + 2));
      return this.push(dedent(line, this.content), line, end);
    }
    if (this.last !== "" && !this.level.interrupts(line, next, end)) return this.push(line, line, end);
    return this.nextItem(line, end);
  }

  nextItem(line, end) {
    const match = matchItem(line);
    if (!match || match[2].at(-1) !== this.kind || match[1].length > this.lead + 1) return false;
    if (this.afterBlank) this.block.loose = true;
    if (RULE.test(line)) return false;
    this.inner.close(false);
    return this.begin(match, line, end);
  }

  close(open) {
    this.inner.close(open);
  }

  saved() {
    const { lead, width, content, lines, inner, last, afterBlank, block } = this;
    const { loose, items } = block;
    const { length } = items;
    const undo = inner.saved();
    return () => {
      Object.assign(this, { lead, width, content, lines, inner, last, afterBlank });
      block.loose = loose;
      items.length = length;
      undo();
    };
  }
}

/** All blocks of a text that is complete. */
export function parseMarkdown(text) {
  const stream = new MarkdownStream();
  stream.push(text);
  return stream.read(true);
}

/**
 * Markdown that arrives in pieces, so that the cost of an answer grows with its length and not with its
 * square: a read looks at the lines that are new, and twice at the last two.
 *
 *   stream.push("# Tit");  stream.read();       // [heading, open]
 *   stream.push("le\n…");  stream.read(true);   // done: nothing is open any more
 */
export class MarkdownStream {
  constructor() {
    this.mode = { draft: false };
    this.root = new Level(this.mode, 0);
    this.line = ""; // the last one, which may go on
    this.undo = null;
    this.scanned = 0; // characters looked at, for the test of the cost
  }

  push(text) {
    this.retract();
    const lines = text.replaceAll("\r", "").split("\n");
    for (const line of lines.slice(0, -1)) {
      this.feed(this.line + line);
      this.line = "";
    }
    this.line += lines.at(-1);
  }

  /** All blocks, as of now: the same list each time, of which the first `settled` are final. */
  read(done = false) {
    this.retract();
    if (done) {
      this.feed(this.line);
      this.line = "";
      this.root.close(false);
      return this.root.blocks;
    }
    this.undo = this.root.saved();
    this.mode.draft = true;
    const undecided = this.root.builder instanceof Code ? UNDECIDED_IN_CODE : UNDECIDED;
    if (!undecided.test(this.line)) this.feed(this.line, true);
    this.root.close(true);
    return this.root.blocks;
  }

  feed(line, isLast = false) {
    this.scanned += line.length;
    this.root.push(line, isLast);
  }

  // Takes back what read tried with a line that was not complete.
  retract() {
    this.undo?.();
    this.undo = null;
    this.mode.draft = false;
  }
}
