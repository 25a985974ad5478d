// "Answer from a text": a question and the text that holds its answer, for POST /answer.

import { answerFrom, isAbort } from "./api.js";
import { copyButton, h } from "./dom.js";
import { failureCard, failureOf } from "./failure.js";
import { waitingDots } from "./message.js";
import { renderMarkdown } from "./render.js";
import { load, save } from "./store.js";
import { setText, t } from "./strings.js";

export class Answer {
  constructor({ form, context, question, count, result, settings, onState }) {
    Object.assign(this, { form, context, question, count, result, settings, onState });
    this.abort = null;
    this.state = stateOf(load("answer", {}));
    context.value = this.state.context;
    question.value = this.state.question;
    for (const field of [context, question]) field.addEventListener("input", () => this.edited());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.ask();
    });
    this.edited();
    this.show();
  }

  get running() {
    return this.abort !== null;
  }

  edited() {
    this.state.context = this.context.value;
    this.state.question = this.question.value;
    setText(this.count, "characters", { count: this.context.value.length.toLocaleString() });
    save("answer", this.state);
    this.onState({ running: this.running });
  }

  fillExample() {
    this.context.value = t("exampleText");
    this.question.value = t("exampleQuestion");
    this.edited();
    this.question.focus();
  }

  stop() {
    this.abort?.abort();
  }

  async ask() {
    const question = this.question.value.trim();
    const context = this.context.value.trim();
    if (this.running) return;
    const missing = context === "" ? this.context : question === "" ? this.question : null;
    if (missing) return missing.focus();
    this.abort = new AbortController();
    const start = performance.now();
    this.result.setAttribute("aria-busy", "true");
    this.result.replaceChildren(waitingDots("answerWaiting"));
    this.onState({ running: true });
    try {
      const options = { key: this.settings.key(), signal: this.abort.signal };
      const reply = await answerFrom({ ...this.settings.request(), question, context }, options);
      const seconds = (performance.now() - start) / 1000;
      const tokens = reply.usage?.completion_tokens ?? null;
      const cut = { length: "cutOff", repetition: "repeated" }[reply.finish_reason] ?? null;
      this.state.reply = { text: reply.answer, cut, tokens, seconds };
    } catch (error) {
      if (!isAbort(error)) this.state.reply = { failure: failureOf(error) };
    }
    this.abort = null;
    this.result.setAttribute("aria-busy", "false");
    this.show();
    this.edited();
  }

  show() {
    const { reply } = this.state;
    if (!reply) {
      const note = h("p", { class: "faint" });
      setText(note, "answerEmpty");
      this.result.replaceChildren(note);
    } else if (reply.failure) {
      this.result.replaceChildren(failureCard(reply.failure, () => this.ask()));
    } else {
      const text = h("div", { class: "markdown" });
      renderMarkdown(text, reply.text);
      const stats = h("span", { class: "stats" });
      const values = { seconds: reply.seconds.toFixed(2), tokens: reply.tokens };
      setText(stats, reply.tokens === null ? "statsTotal" : "statsTokens", values);
      const note = reply.cut ? h("span", { class: "note" }) : null;
      if (note) setText(note, reply.cut);
      const actions = h("span", { class: "actions" }, copyButton(() => reply.text, "copy", "copied", setText));
      this.result.replaceChildren(text, h("footer", {}, stats, note, actions));
    }
  }
}

// What storage holds, brought to its shape.
function stateOf(value) {
  const [context, question] = [value?.context, value?.question].map((text) => (typeof text === "string" ? text : ""));
  const { reply } = value ?? {};
  const isText = typeof reply?.text === "string" && Number.isFinite(reply.seconds);
  const isFailure = typeof reply?.failure?.kind === "string" && typeof reply.failure.message === "string";
  return { context, question, reply: isText || isFailure ? reply : null };
}
