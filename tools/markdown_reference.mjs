// The page's Markdown in the plainest way: by recursion over all lines of a text that is complete. What
// markdown.js makes of the same text line by line is held against it (markdown_test.mjs).

const MAX_DEPTH = 12; // quotes and lists inside each other; deeper ones are text
const MAX_COLUMNS = 64;

const FENCE = /^( {0,3})(`{3,}|~{3,})[ \t]*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?=[ \t]|$)/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?:( +)|$)/;

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

/** All blocks of a text, as parseMarkdown of the page gives them. */
export function referenceBlocks(text) {
  return new Blocks(text.replaceAll("\r", "").split("\n"), 0).parse();
}

class Blocks {
  constructor(lines, depth) {
    this.lines = lines;
    this.depth = depth;
    this.at = 0;
  }

  parse() {
    const out = [];
    while (this.at < this.lines.length) {
      if (isBlank(this.lines[this.at])) {
        this.at += 1;
        continue;
      }
      out.push(this.block());
    }
    return out;
  }

  block() {
    const line = this.lines[this.at];
    const fence = FENCE.exec(line);
    if (fence) return this.code(fence);
    if (HEADING.test(line)) return this.heading(line);
    if (RULE.test(line)) {
      this.at += 1;
      return { type: "rule" };
    }
    if (this.depth < MAX_DEPTH) {
      if (QUOTE.test(line)) return this.quote();
      if (matchItem(line)) return this.list();
    }
    if (this.startsTable(this.at)) return this.table();
    return this.paragraph();
  }

  code([, indent, mark, info]) {
    const closing = closingFence(mark);
    const from = this.at + 1;
    let end = from;
    while (end < this.lines.length && !closing.test(this.lines[end])) end += 1;
    const closed = end < this.lines.length;
    const body = this.lines.slice(from, end).map((line) => dedent(line, indent.length));
    if (!closed && body.at(-1) === "") body.pop();
    this.at = closed ? end + 1 : end;
    return { type: "code", language: info.trim().split(/\s/)[0], text: body.join("\n"), closed };
  }

  heading(line) {
    const level = HEADING.exec(line)[1].length;
    let text = line.trim().slice(level).trim();
    const bare = text.replace(/#+$/, "");
    if (bare === "" || bare.endsWith(" ")) text = bare.trim();
    this.at += 1;
    return { type: "heading", level, text };
  }

  quote() {
    const inner = [];
    while (this.at < this.lines.length) {
      const line = this.lines[this.at];
      if (QUOTE.test(line)) inner.push(line.replace(QUOTE, ""));
      else if (!isBlank(line) && !isBlank(inner.at(-1)) && !this.interrupts(this.at)) inner.push(line);
      else break;
      this.at += 1;
    }
    return { type: "quote", blocks: this.nested(inner) };
  }

  nested(lines) {
    return new Blocks(lines, this.depth + 1).parse();
  }

  list() {
    const first = matchItem(this.lines[this.at]);
    const kind = first[2].at(-1); // "-", "*", "+", "." or ")": another one begins another list
    const list = { type: "list", ordered: /\d/.test(first[2]), start: Number.parseInt(first[2], 10) || 0, loose: false, items: [] };
    let base = first[1].length;
    while (this.at < this.lines.length) {
      const match = matchItem(this.lines[this.at]);
      if (!match || match[2].at(-1) !== kind || match[1].length > base + 1) break;
      if (list.items.length > 0 && RULE.test(this.lines[this.at])) break;
      base = match[1].length;
      const { lines, gap } = this.itemLines(match);
      if (gap) list.loose = true;
      list.items.push(this.item(lines));
      if (isBlank(this.lines[this.at - 1]) && this.sameList(kind, base)) list.loose = true;
    }
    return list;
  }

  sameList(kind, base) {
    const match = this.at < this.lines.length ? matchItem(this.lines[this.at]) : null;
    return match !== null && match[2].at(-1) === kind && match[1].length <= base + 1;
  }

  // The lines of one item, without their indent. Two columns more than the marker's are enough to
  // belong to it: models indent by two below `1.` as well.
  itemLines([marker, lead, , gapAfter]) {
    const width = gapAfter && gapAfter.length > 4 ? marker.length - gapAfter.length + 1 : marker.length;
    let content = 0; // columns to take away: the first line below decides
    const lines = [expanded(this.lines[this.at]).slice(width)];
    this.at += 1;
    let gap = false;
    while (this.at < this.lines.length) {
      const line = this.lines[this.at];
      if (isBlank(line)) {
        lines.push("");
      } else if (indentOf(line) >= lead.length + 2) {
        if (lines.length > 1 && lines.at(-1) === "" && !matchItem(line)) gap = true;
        content ||= Math.min(indentOf(line), Math.max(width, lead.length + 2));
        lines.push(dedent(line, content));
      } else if (lines.at(-1) !== "" && !this.interrupts(this.at)) {
        lines.push(line);
      } else {
        break;
      }
      this.at += 1;
    }
    return { lines, gap };
  }

  item(lines) {
    const task = /^\[([ xX])\] +/.exec(lines[0]);
    if (task) lines[0] = lines[0].slice(task[0].length);
    return { task: task ? task[1] !== " " : null, blocks: this.nested(lines) };
  }

  startsTable(at) {
    const line = this.lines[at];
    if (!line.includes("|")) return false;
    const next = this.lines[at + 1];
    const align = next === undefined ? null : alignments(next);
    return align !== null && align.length === cells(line).length;
  }

  table() {
    const header = cells(this.lines[this.at]);
    const columns = header.length;
    const align = alignments(this.lines[this.at + 1] ?? "") ?? [];
    while (align.length < columns) align.push("");
    this.at = Math.min(this.at + 2, this.lines.length);
    const rows = [];
    while (this.at < this.lines.length && this.lines[this.at].includes("|") && !this.startsOther(this.at)) {
      const row = cells(this.lines[this.at]).slice(0, columns);
      while (row.length < columns) row.push("");
      rows.push(row);
      this.at += 1;
    }
    return { type: "table", align, header, rows };
  }

  paragraph() {
    const text = [this.lines[this.at].trim()];
    this.at += 1;
    while (this.at < this.lines.length && !isBlank(this.lines[this.at]) && !this.interrupts(this.at)) {
      text.push(this.lines[this.at].trim());
      this.at += 1;
    }
    return { type: "paragraph", text: text.join("\n") };
  }

  // Does a block that ends a paragraph begin on this line?
  interrupts(at) {
    return this.startsOther(at) || this.startsTable(at);
  }

  startsOther(at) {
    const line = this.lines[at];
    if (FENCE.test(line) || HEADING.test(line) || RULE.test(line)) return true;
    if (this.depth >= MAX_DEPTH) return false;
    // A year at the start of a line is no list.
    return QUOTE.test(line) || /^ *(?:[-*+]|\d{1,3}[.)]) +\S/.test(expanded(line));
  }
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
