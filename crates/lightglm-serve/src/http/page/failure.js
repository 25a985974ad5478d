// A card that says what went wrong, in the server's words where it gave some, and offers another try.

import { h, icon } from "./dom.js";
import { setText } from "./strings.js";

/** What is kept of an ApiError: plain data, with the time from which another try makes sense. */
export function failureOf(error) {
  return {
    kind: error.kind ?? "page",
    status: error.status ?? 0,
    message: error.message ?? "",
    retryAt: error.retryAfter ? Date.now() + error.retryAfter * 1000 : 0,
  };
}

function headline({ kind, status }) {
  if (kind === "network") return "errorNetwork";
  if (kind === "broken" || kind === "server") return "errorBroken";
  if (kind !== "status") return "errorReply";
  if (status === 401 || status === 403) return "errorKey";
  return status === 429 || status === 503 ? "errorBusy" : "errorStatus";
}

/** The card. `retry` is called by its button, which waits for the server's Retry-After. */
export function failureCard(failure, retry) {
  const title = h("p", { class: "failure-title" });
  setText(title, headline(failure), { status: failure.status });
  const detail = failure.message ? h("p", { class: "failure-detail" }, failure.message) : null;
  const button = h("button", { type: "button", class: "button", onclick: retry });
  const card = h("div", { class: "failure", role: "alert" }, icon("alert"), h("div", {}, title, detail), button);
  countDown(card, button, failure.retryAt);
  return card;
}

function countDown(card, button, retryAt) {
  const seconds = Math.ceil((retryAt - Date.now()) / 1000);
  button.disabled = seconds > 0;
  if (seconds <= 0) {
    setText(button, "retry");
    return;
  }
  setText(button, "retryIn", { seconds });
  setTimeout(() => {
    if (card.isConnected) countDown(card, button, retryAt);
  }, 250);
}
