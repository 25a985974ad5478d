// What one message looks like. The data is chat.js's; the views only show it.

import { callsText } from "./conversation.js";
import { copyButton, h, icon } from "./dom.js";
import { failureCard } from "./failure.js";
import { JsonText } from "./json_text.js";
import { MarkdownView } from "./render.js";
import { setAttributeText, setText } from "./strings.js";

/** A picture, or a recording to listen to; the name alone where the bytes were too many to be kept. */
export function mediaView({ kind, name, url }) {
  const view = !url ? h("span", { class: "faint" }) : kind === "image" ? h("img", { src: url }) : h("audio", { controls: true, src: url });
  if (!url) setText(view, "notKept", { name });
  else setAttributeText(view, "label", kind === "image" ? "pictureOf" : "recordingOf", { name });
  return view;
}

/** A message of the user: what was attached, and plain text, as typed. */
export function userMessage({ content, media }) {
  const attached = media.length === 0 ? null : h("div", { class: "media" }, ...media.map(mediaView));
  const text = content === "" ? null : h("div", { class: "bubble" }, content);
  const element = h("article", { class: "message user" }, attached, text);
  setAttributeText(element, "label", "you");
  return element;
}

/** A message of the model, which grows. */
export class ModelMessage {
  constructor(message, { regenerate }) {
    this.message = message;
    this.regenerate = regenerate;
    this.text = h("div", { class: "markdown" });
    this.content = new Growing(this.text);
    this.thoughts = null; // what the model wrote before its answer
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
    const { content, reasoning, tools } = this.message;
    if (reasoning !== "") this.showThoughts(running);
    this.content.update(content, running);
    tools.forEach((tool, index) => this.showTool(tool, index, running));
    const begun = content !== "" || reasoning !== "" || tools.length > 0;
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

  // Unfolded while the model thinks, folded when the answer begins; then the reader's own choice holds.
  showThoughts(running) {
    const { reasoning, content, tools } = this.message;
    const thinking = running && content === "" && tools.length === 0;
    if (!this.thoughts) {
      const caption = h("span");
      const body = h("div", { class: "markdown", "aria-live": "off" });
      const element = h("details", { class: "thoughts", open: thinking }, h("summary", {}, caption), body);
      this.thoughts = { caption, element, growing: new Growing(body), thinking };
      this.element.prepend(element);
    }
    const { thoughts } = this;
    setText(thoughts.caption, thinking ? "reasoning" : "reasoned");
    if (thoughts.thinking && !thinking) thoughts.element.open = false;
    thoughts.thinking = thinking;
    thoughts.growing.update(reasoning, running);
  }

  showTool(tool, index, running) {
    if (!this.cards[index]) {
      const name = h("code");
      const body = document.createTextNode("");
      const label = h("span", { class: "tool-label" });
      setText(label, "toolCall");
      const copy = copyButton(() => body.data, "copy", "copied", setText);
      const head = h("div", { class: "tool-head" }, icon("tool"), label, name, copy);
      this.cards[index] = { name, body, json: new JsonText(), shown: 0 };
      this.tools.append(h("div", { class: "tool" }, head, h("pre", { tabindex: "0" }, h("code", {}, body))));
    }
    const card = this.cards[index];
    if (card.name.textContent !== tool.name) card.name.textContent = tool.name;
    if (card.shown < tool.arguments.length) card.body.appendData(card.json.push(tool.arguments.slice(card.shown)));
    card.shown = tool.arguments.length;
    // What is no JSON is shown as it came.
    if (!running && !isJson(tool.arguments)) card.body.data = tool.arguments;
  }

  finish(begun) {
    const { finish, failure, content, tools } = this.message;
    const parts = [];
    if (this.message.stats) parts.push(this.stats);
    const notes = { stopped: "stopped", length: "cutOff", repetition: "repeated", content_filter: "filtered" };
    if (Object.hasOwn(notes, finish)) {
      const note = h("span", { class: "note" });
      setText(note, notes[finish]);
      parts.push(note);
    }
    const actions = h("span", { class: "actions" });
    const copied = () => content || callsText(tools);
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

// A Markdown text that grows, and how much of it the view has.
class Growing {
  constructor(element) {
    this.view = new MarkdownView(element);
    this.shown = 0; // characters
    this.done = false;
  }

  update(text, running) {
    if (this.done || (running && this.shown === text.length)) return;
    this.view.push(text.slice(this.shown));
    this.shown = text.length;
    this.done = !running;
    this.view.update(this.done);
  }
}

function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
