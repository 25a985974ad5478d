// Puts the page together: modes, fields, keys, and the figures of the server.

import { Answer } from "./answer.js";
import { listModels } from "./api.js";
import { Archive } from "./archive.js";
import { Attachments } from "./attach.js";
import { Chat, samples } from "./chat.js";
import { pollMetrics } from "./metrics.js";
import { Settings } from "./settings.js";
import { applyLanguage, language, setLanguage, setText } from "./strings.js";

const $ = (id) => document.getElementById(id);

applyLanguage();

const settings = new Settings({
  fields: {
    model: $("model"),
    temperature: $("temperature"),
    maxTokens: $("max-tokens"),
    seed: $("seed"),
    system: $("system"),
    key: $("api-key"),
  },
  temperatureOutput: $("temperature-value"),
  onKey: () => {
    offerModels();
    poll();
  },
  onModel: () => attachments.offer(settings.takes()),
});

// --- Chat -------------------------------------------------------------------------------------------

const message = $("message");

const chat = new Chat({
  log: $("log"),
  scroller: $("scroller"),
  empty: $("empty"),
  status: $("status"),
  settings,
  onState: ({ running, empty, undo }) => {
    const focused = document.activeElement === $("send") || document.activeElement === $("stop");
    $("send").hidden = running;
    $("stop").hidden = !running;
    $("clear").hidden = empty;
    $("undo-clear").hidden = !undo;
    for (const id of ["export-markdown", "export-json"]) $(id).disabled = empty;
    if (focused) message.focus();
  },
});

samples($("samples"), (text) => chat.send(text));

const attachments = new Attachments({
  tray: $("tray"),
  note: $("attach-note"),
  pick: $("attach"),
  file: $("attach-file"),
  record: $("record"),
  area: $("pane-chat"),
  field: message,
  onChange: () => fit(),
});

const nothingToSend = () => attachments.busy || (attachments.empty && message.value.trim() === "");

function send() {
  if (chat.running || nothingToSend()) return;
  const text = message.value;
  message.value = "";
  chat.send(text, attachments.take());
  fit();
}

// As high as its text; the style sheet says where that ends.
function fit() {
  message.style.height = "auto";
  message.style.height = `${message.scrollHeight}px`;
  $("send").disabled = nothingToSend();
}

message.addEventListener("input", fit);
message.addEventListener("keydown", (event) => {
  // While an input method composes, Enter takes its suggestion (229: browsers that tell it this way).
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  send();
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("stop").addEventListener("click", () => chat.stop());
$("clear").addEventListener("click", () => {
  chat.clear();
  message.focus();
});
$("undo-clear").addEventListener("click", () => chat.undoClear());
$("latest").addEventListener("click", () => chat.toEnd());
fit();

new Archive({
  chat,
  markdown: $("export-markdown"),
  json: $("export-json"),
  open: $("import-json"),
  file: $("import-file"),
  note: $("import-note"),
  keep: $("keep"),
  onKeep: () => {
    settings.save();
    answer.edited();
  },
});

// --- Answer from a text -----------------------------------------------------------------------------

const answer = new Answer({
  form: $("answer-form"),
  context: $("context"),
  question: $("question"),
  count: $("context-count"),
  result: $("result"),
  settings,
  onState: ({ running }) => {
    $("ask").hidden = running;
    $("ask-stop").hidden = !running;
  },
});

$("example").addEventListener("click", () => answer.fillExample());
$("ask-stop").addEventListener("click", () => answer.stop());
$("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  answer.ask();
});

// --- Modes ------------------------------------------------------------------------------------------

const tabs = [$("tab-chat"), $("tab-answer")];

function select(tab) {
  for (const other of tabs) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", String(chosen));
    other.tabIndex = chosen ? 0 : -1;
    $(other.getAttribute("aria-controls")).hidden = !chosen;
  }
  $("system-field").hidden = tab === tabs[1]; // POST /answer has none
}

for (const [index, tab] of tabs.entries()) {
  tab.addEventListener("click", () => {
    select(tab);
    history.replaceState(null, "", tab === tabs[1] ? "#answer" : "#chat");
  });
  tab.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const next = tabs[(index + 1) % tabs.length];
    next.click();
    next.focus();
  });
}

const modeOfAddress = () => select(location.hash === "#answer" ? tabs[1] : tabs[0]);
addEventListener("hashchange", modeOfAddress);
modeOfAddress();

// --- Language and side panel ------------------------------------------------------------------------

$("language").addEventListener("click", () => setLanguage(language() === "zh" ? "en" : "zh"));

const narrow = matchMedia("(max-width: 1079px)");
let panelOpen = false;

// On a narrow screen the panel lies over the page, and only one of the two can be used.
function showPanel(open) {
  panelOpen = open && narrow.matches;
  document.body.classList.toggle("panel-open", panelOpen);
  $("panel").inert = narrow.matches && !panelOpen;
  $("main").inert = panelOpen;
  $("panel-toggle").setAttribute("aria-expanded", String(panelOpen));
}

$("panel-toggle").addEventListener("click", () => {
  showPanel(!panelOpen);
  if (panelOpen) $("panel-close").focus();
});
function closePanel() {
  showPanel(false);
  $("panel-toggle").focus();
}
$("panel-close").addEventListener("click", closePanel);
$("backdrop").addEventListener("click", closePanel);
narrow.addEventListener("change", () => showPanel(false));
showPanel(false);

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.isComposing) return;
  if (panelOpen) closePanel();
  else if (attachments.recording) attachments.cancel();
  else if (chat.running) chat.stop();
  else answer.stop();
});

// --- The server -------------------------------------------------------------------------------------

let reached = false; // the last poll got through

async function offerModels() {
  try {
    settings.offer(await listModels(settings.key()));
  } catch {
    settings.offer([]);
  }
}

function showFigures(figures, error) {
  const wasReached = reached;
  reached = figures !== null || error.kind === "status";
  if (reached && !wasReached && $("model").disabled) offerModels();
  const state = !reached ? "offline" : error?.status === 401 ? "keyNeeded" : figures ? "online" : "metricsHidden";
  setText($("connection-text"), state);
  $("connection").dataset.state = state;
  const known = figures !== null && figures.total > 0 && figures.used !== null;
  const percent = known ? Math.round((100 * figures.used) / figures.total) : null;
  $("kv-meter").setAttribute("aria-valuenow", percent ?? 0);
  $("kv-used").style.width = `${percent ?? 0}%`;
  $("kv-cached").style.width = known && figures.cached ? `${(100 * figures.cached) / figures.total}%` : "0";
  $("kv-percent").textContent = percent === null ? "–" : `${percent}%`;
  const number = (value) => (value === null || value === undefined ? "–" : value.toLocaleString());
  const blocks = { used: number(figures?.used), cached: number(figures?.cached), total: number(figures?.total) };
  $("kv-blocks").hidden = !known;
  setText($("kv-blocks"), figures?.cached ? "kvUseCached" : "kvUse", blocks);
  $("running").textContent = number(figures?.running);
  $("waiting").textContent = number(figures?.waiting);
  const rate = figures?.rate ?? null;
  $("throughput").textContent = rate === null ? "–" : rate.toFixed(rate < 100 ? 1 : 0);
  const values = { kv: percent ?? "–", running: number(figures?.running), waiting: number(figures?.waiting) };
  setText($("strip-text"), figures ? "strip" : state, values);
  $("strip").dataset.state = state;
}

offerModels();
const poll = pollMetrics(() => settings.key(), showFigures);
addEventListener("online", poll);
