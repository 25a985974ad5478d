// The conversation: what was said, the request under way, and the list that shows both.

import { chatChunks, isAbort } from "./api.js";
import { callsText, contentOf, emptyAnswer, messagesOf, take, withoutBytes } from "./conversation.js";
import { h, oncePerFrame } from "./dom.js";
import { failureOf } from "./failure.js";
import { ModelMessage, userMessage } from "./message.js";
import { load, save, saveLast } from "./store.js";
import { setText } from "./strings.js";

const SAVE_EVERY = 3000; // milliseconds, while an answer arrives

/** `messages` are as conversation.js says. */
export class Chat {
  constructor({ log, scroller, empty, status, settings, onState }) {
    Object.assign(this, { log, scroller, empty, status, settings, onState });
    this.messages = messagesOf(load("chat", [])) ?? [];
    this.cleared = null;
    this.abort = null; // of the request under way
    this.pinned = true; // the reader is at the end and wants to stay there
    this.draw = oncePerFrame(() => this.frame());
    this.scroller.addEventListener("scroll", () => this.noteScroll(), { passive: true });
    addEventListener("pagehide", () => this.save());
    this.showAll();
  }

  get running() {
    return this.abort !== null;
  }

  showAll() {
    this.log.replaceChildren();
    for (const message of this.messages) this.append(message);
    this.changed();
    this.toEnd();
  }

  append(message) {
    if (message.role === "user") {
      this.log.append(userMessage(message));
      return;
    }
    this.view = new ModelMessage(message, { regenerate: () => this.regenerate() });
    this.log.append(this.view.element);
    this.view.update(message.finish === null);
  }

  changed() {
    this.empty.hidden = this.messages.length > 0;
    this.onState({ running: this.running, empty: this.messages.length === 0, undo: this.cleared !== null });
  }

  save() {
    if (!save("chat", this.messages)) saveLast("chat", withoutBytes(this.messages));
  }

  /** Sends a message, with `media` before its text, and shows the answer as it comes. */
  send(content, media = []) {
    if (this.running || (content.trim() === "" && media.length === 0)) return;
    this.cleared = null;
    const message = { role: "user", content, media };
    this.messages.push(message);
    this.append(message);
    this.answer();
  }

  /** Ends the request; what came stays. */
  stop() {
    this.abort?.abort();
  }

  /** Asks for the last answer again. */
  regenerate() {
    if (this.running || this.messages.at(-1)?.role !== "assistant") return;
    this.messages.pop();
    this.log.lastElementChild.remove();
    this.answer();
  }

  clear() {
    this.stop();
    this.cleared = this.messages;
    this.messages = [];
    this.save();
    this.showAll();
  }

  /** Shows another conversation in place of this one. */
  replace(messages) {
    this.stop();
    this.messages = messages;
    this.cleared = null;
    this.save();
    this.showAll();
  }

  undoClear() {
    if (!this.cleared) return;
    this.messages = this.cleared;
    this.cleared = null;
    this.save();
    this.showAll();
  }

  async answer() {
    const message = emptyAnswer();
    const request = { ...this.settings.request(), messages: this.history() };
    const abort = new AbortController();
    const meter = new Meter();
    this.messages.push(message);
    this.abort = abort;
    this.append(message);
    this.changed();
    this.toEnd();
    this.log.setAttribute("aria-busy", "true");
    setText(this.status, "answering");
    try {
      const options = { key: this.settings.key(), signal: abort.signal };
      for await (const chunk of chatChunks(request, options)) this.take(message, chunk, meter);
      message.finish ??= "stop";
    } catch (error) {
      if (isAbort(error)) message.finish = "stopped";
      else Object.assign(message, { finish: "failed", failure: failureOf(error) });
    }
    this.ended(message, meter);
  }

  ended(message, meter) {
    message.stats = meter.read();
    this.abort = null;
    this.save();
    this.log.setAttribute("aria-busy", "false");
    // A cleared conversation has no view for it any more.
    if (this.messages.at(-1) !== message) return this.changed();
    this.view.update(false);
    setText(this.status, message.failure ? "errorBroken" : message.finish === "stopped" ? "stopped" : "answered");
    this.changed();
    if (this.pinned) this.toEnd();
  }

  take(message, chunk, meter) {
    const choice = chunk.choices?.[0];
    if (take(message, choice?.delta ?? {})) meter.piece();
    if (choice?.finish_reason) message.finish = choice.finish_reason;
    if (chunk.usage?.completion_tokens) meter.total(chunk.usage.completion_tokens);
    message.stats = meter.read();
    this.draw();
  }

  // One frame of an answer that arrives.
  frame() {
    if (!this.running) return;
    this.view.update(true);
    if (this.pinned) this.toEnd();
    if (performance.now() - (this.saved ?? 0) > SAVE_EVERY) {
      this.saved = performance.now();
      this.save();
    }
  }

  // The messages as the server wants them. An answer that never began is left out; a tool call is
  // told as text, since nobody here gives its result; what the model thought is not told.
  history() {
    const system = this.settings.system();
    const out = system ? [{ role: "system", content: system }] : [];
    for (const message of this.messages) {
      const content = contentOf(message) || callsText(message.tools ?? []);
      if (content) out.push({ role: message.role, content });
    }
    return out;
  }

  noteScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    this.pinned = scrollHeight - scrollTop - clientHeight < 48;
    this.scroller.classList.toggle("away", !this.pinned);
  }

  toEnd() {
    this.pinned = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }
}

// Time to the first token and tokens per second, as seen from here. One piece is taken for one token
// until the server says how many there were.
class Meter {
  constructor() {
    this.start = performance.now();
    this.first = null;
    this.last = null;
    this.pieces = 0;
    this.tokens = null;
  }

  piece() {
    this.last = performance.now();
    this.first ??= this.last;
    this.pieces += 1;
  }

  total(tokens) {
    this.tokens = tokens;
  }

  read() {
    if (this.first === null) return null;
    const tokens = this.tokens ?? this.pieces;
    const seconds = (this.last - this.first) / 1000;
    const rate = tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : null;
    return { ttft: (this.first - this.start) / 1000, rate, tokens };
  }
}

/** The questions offered where nothing was said yet. */
export function samples(list, ask) {
  for (const key of ["sample1", "sample2", "sample3", "sample4"]) {
    const button = h("button", { type: "button", class: "sample" });
    setText(button, key);
    button.addEventListener("click", () => ask(button.textContent));
    list.append(h("li", {}, button));
  }
}
