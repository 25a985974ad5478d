// What one message looks like. The data is chat.js's; the views only show it.

import { copyButton, h, icon } from "./dom.js";
import { failureCard } from "./failure.js";
import { MarkdownView } from "./render.js";
import { setAttributeText, setText } from "./strings.js";

/** A message of the user: plain text, as typed. */
export function userMessage(message) {
  const element = h("article", { class: "message user" }, h("div", { class: "bubble" }, message.content));
  setAttributeText(element, "label", "you");
  return element;
}

/** A message of the model, which grows. */
export class ModelMessage {
  constructor(message, { regenerate }) {
    this.message = message;
    this.regenerate = regenerate;
    this.shown = 0; // characters of the content that the Markdown view has
    this.text = h("div", { class: "markdown" });
    this.markdown = new MarkdownView(this.text);
    this.tools = h("div", { class: "tools" });
    this.cards = [];
    this.waiting = waitingDots("thinking");
    this.failure = h("div");
    this.footer = h("footer");
    this.stats = h("span", { class: "stats" });
    this.element = h("article", { class: "message model" }, this.text, this.tools, this.waiting, this.failure, this.footer);
    setAttributeText(this.element, "label", "assistant");
  }

  /** Shows what the message is now. `running`: more will come. */
  update(running) {
    const { content, tools } = this.message;
    this.markdown.push(content.slice(this.shown));
    this.shown = content.length;
    this.markdown.update(!running);
    tools.forEach((tool, index) => this.showTool(tool, index));
    const begun = content !== "" || tools.length > 0;
    this.waiting.hidden = begun || !running;
    this.showStats();
    if (running) this.footer.replaceChildren(this.stats);
    else this.finish(begun);
  }

  showStats() {
    const { stats } = this.message;
    if (!stats) return;
    const values = { ttft: stats.ttft.toFixed(2), rate: stats.rate?.toFixed(1), tokens: stats.tokens };
    setText(this.stats, stats.rate === null ? "statsFirst" : "stats", values);
  }

  showTool(tool, index) {
    if (!this.cards[index]) {
      const name = h("code");
      const body = h("code");
      const label = h("span", { class: "tool-label" });
      setText(label, "toolCall");
      const head = h("div", { class: "tool-head" }, icon("tool"), label, name);
      this.cards[index] = { name, body };
      this.tools.append(h("div", { class: "tool" }, head, h("pre", { tabindex: "0" }, body)));
    }
    this.cards[index].name.textContent = tool.name;
    this.cards[index].body.textContent = indented(tool.arguments);
  }

  finish(begun) {
    const { finish, failure, content, tools } = this.message;
    const parts = [];
    if (this.message.stats) parts.push(this.stats);
    const notes = { stopped: "stopped", length: "cutOff", content_filter: "filtered" };
    if (notes[finish]) {
      const note = h("span", { class: "note" });
      setText(note, notes[finish]);
      parts.push(note);
    }
    const actions = h("span", { class: "actions" });
    const copied = () => content || tools.map((tool) => `${tool.name}(${tool.arguments})`).join("\n");
    if (begun) actions.append(copyButton(copied, "copy", "copied", setText));
    if (!failure) actions.append(this.regenerateButton());
    this.footer.replaceChildren(...parts, actions);
    this.failure.replaceChildren(...(failure ? [failureCard(failure, this.regenerate)] : []));
  }

  regenerateButton() {
    const caption = h("span");
    setText(caption, "regenerate");
    const attributes = { type: "button", class: "quiet regenerate", onclick: this.regenerate };
    return h("button", attributes, icon("again"), caption);
  }
}

/** Three dots and a word while nothing has come. */
export function waitingDots(key) {
  const caption = h("span");
  setText(caption, key);
  const dots = h("span", { class: "dots", "aria-hidden": "true" }, h("i"), h("i"), h("i"));
  return h("p", { class: "waiting" }, dots, caption);
}

// Arguments arrive in pieces; until they are whole they are no JSON.
function indented(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
