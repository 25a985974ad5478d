// JSON made readable while it arrives: indented by two, one member a line, as JSON.stringify does it.
//
// Not a parser: whatever comes is shown, also where it is no JSON.

/** Takes JSON in pieces and gives each piece's readable text. */
export class JsonText {
  constructor() {
    this.depth = 0;
    this.isString = false;
    this.isEscape = false;
    this.opened = ""; // a bracket was the last: the line break after it waits for what follows
  }

  push(piece) {
    let out = "";
    for (const character of piece) out += this.isString ? this.inString(character) : this.outside(character);
    return out;
  }

  inString(character) {
    if (this.isEscape) this.isEscape = false;
    else if (character === "\\") this.isEscape = true;
    else if (character === '"') this.isString = false;
    return character;
  }

  outside(character) {
    if (/\s/.test(character)) return "";
    const isClosing = character === "}" || character === "]";
    const wasOpened = this.opened;
    this.opened = "";
    if (isClosing) {
      this.depth = Math.max(0, this.depth - 1);
      return wasOpened ? character : this.line() + character;
    }
    const before = wasOpened ? this.line() : "";
    if (character === "{" || character === "[") {
      this.opened = character;
      this.depth += 1;
    }
    if (character === '"') this.isString = true;
    if (character === ",") return `${before},${this.line()}`;
    return before + (character === ":" ? ": " : character);
  }

  line() {
    return `\n${"  ".repeat(Math.min(this.depth, 32))}`;
  }
}
