// The conversation as files, and whether anything is kept at all.

import { asJson, asMarkdown, fromJson } from "./conversation.js";
import { download } from "./dom.js";
import { isKept, setKept } from "./store.js";
import { setText, t } from "./strings.js";

const MAX_FILE = 100_000_000; // bytes that are read of a file

export class Archive {
  constructor({ chat, markdown, json, open, file, note, keep, onKeep }) {
    Object.assign(this, { chat, file, note });
    markdown.addEventListener("click", () => this.saveMarkdown());
    json.addEventListener("click", () => download(`${fileName()}.json`, "application/json", asJson(chat.messages)));
    open.addEventListener("click", () => file.click());
    file.addEventListener("change", () => this.open(file.files[0]));
    keep.checked = isKept();
    keep.addEventListener("change", () => {
      setKept(keep.checked);
      if (!keep.checked) return;
      chat.save();
      onKeep();
    });
  }

  saveMarkdown() {
    const names = { you: t("you"), assistant: t("assistant"), reasoning: t("reasoned"), toolCall: t("toolCall") };
    Object.assign(names, { picture: t("pictureName"), recording: t("recordingName") });
    download(`${fileName()}.md`, "text/markdown", asMarkdown(this.chat.messages, names));
  }

  async open(file) {
    if (!file) return;
    const text = file.size > MAX_FILE ? "" : await file.text().catch(() => "");
    const messages = fromJson(text);
    this.file.value = ""; // the same file may be chosen again
    if (messages) this.chat.replace(messages);
    setText(this.note, messages ? "imported" : "importFailed");
  }
}

// As of now, in the reader's time: conversation-2026-11-30-1405.
function fileName() {
  const now = new Date();
  const two = (number) => String(number).padStart(2, "0");
  const date = [now.getFullYear(), two(now.getMonth() + 1), two(now.getDate())].join("-");
  return `conversation-${date}-${two(now.getHours())}${two(now.getMinutes())}`;
}
