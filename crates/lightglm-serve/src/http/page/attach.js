// What goes along with the next message: picked, pasted, dropped or recorded, shown above the text.

import { h, icon } from "./dom.js";
import { kindOf, MAX_SECONDS, MediaError, readMedia } from "./media.js";
import { mediaView } from "./message.js";
import { setAttributeText, setText, t } from "./strings.js";

const MAX_ITEMS = 16; // of one message

export class Attachments {
  /** `onChange` runs when there is more or less to send. */
  constructor({ tray, note, pick, file, record, area, field, onChange }) {
    Object.assign(this, { tray, note, pick, file, record, area, field, onChange });
    this.items = []; // { media: null while it is read, view }
    this.recording = null; // { recorder, view, cancelled }
    this.takes = { image: false, audio: false };
    pick.addEventListener("click", () => file.click());
    file.addEventListener("change", () => {
      this.add([...file.files]);
      file.value = ""; // the same file may be chosen again
    });
    field.addEventListener("paste", (event) => this.pasted(event));
    for (const name of ["dragenter", "dragover"]) area.addEventListener(name, (event) => this.dragged(event));
    area.addEventListener("dragleave", (event) => {
      if (!area.contains(event.relatedTarget)) area.classList.remove("dropping");
    });
    area.addEventListener("drop", (event) => this.dropped(event));
    record.addEventListener("click", () => (this.recording ? this.recording.recorder.stop() : this.begin()));
    this.offer(this.takes);
  }

  /** Offers what the model takes. */
  offer(takes) {
    this.takes = takes;
    this.pick.hidden = !takes.image && !takes.audio;
    this.record.hidden = !takes.audio || !navigator.mediaDevices?.getUserMedia; // none over plain HTTP
    this.file.accept = [takes.image && "image/*", takes.audio && "audio/*"].filter(Boolean).join(",");
  }

  get empty() {
    return this.items.length === 0;
  }

  /** Is a file being read, or a recording made? */
  get busy() {
    return this.recording !== null || this.items.some((item) => item.media === null);
  }

  /** All of it, which is then gone from here. */
  take() {
    const media = this.items.map((item) => item.media);
    for (const item of [...this.items]) this.remove(item);
    return media;
  }

  pasted(event) {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0 || event.clipboardData.getData("text/plain") !== "") return; // text is what was meant
    event.preventDefault();
    this.add(files);
  }

  dragged(event) {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    this.area.classList.add("dropping");
  }

  dropped(event) {
    this.area.classList.remove("dropping");
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault(); // the browser would leave the page for the file
    this.add([...event.dataTransfer.files]);
  }

  add(files) {
    this.say(null);
    for (const file of files) {
      const kind = kindOf(file);
      if (this.items.length >= MAX_ITEMS) this.say("mediaTooMany", { most: MAX_ITEMS });
      else if (!kind) this.say("mediaUnknown", { name: file.name });
      else if (!this.takes[kind]) this.say(kind === "image" ? "noPictures" : "noRecordings");
      else this.read(kind, file, file.name);
    }
  }

  async read(kind, file, name) {
    const item = { media: null, view: chip(h("span", { class: "faint" }, name), () => this.remove(item)) };
    this.items.push(item);
    this.tray.append(item.view);
    this.changed();
    try {
      item.media = await readMedia(kind, file, name);
      item.view.firstElementChild.replaceWith(mediaView(item.media));
    } catch (error) {
      this.remove(item);
      this.say(error instanceof MediaError ? error.message : "fileUnread", { name });
    }
    this.changed();
  }

  remove(item) {
    const index = this.items.indexOf(item);
    if (index < 0) return;
    this.items.splice(index, 1);
    item.view.remove();
    this.changed();
    this.field.focus();
  }

  async begin() {
    this.say(null);
    this.record.disabled = true; // until the user has said yes or no
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true }).catch(() => null);
    this.record.disabled = false;
    if (!stream) return this.say("noMicrophone");
    const recorder = new MediaRecorder(stream);
    const began = performance.now();
    const time = h("span", { class: "recording" });
    const view = chip(time, () => this.cancel());
    const recording = { recorder, cancelled: false };
    const pieces = [];
    const tick = () => {
      const seconds = Math.floor((performance.now() - began) / 1000);
      setText(time, "recordingFor", { time: `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}` });
      if (seconds >= MAX_SECONDS - 1) recorder.stop();
    };
    const timer = setInterval(tick, 250);
    recorder.addEventListener("dataavailable", (event) => pieces.push(event.data));
    recorder.addEventListener("stop", () => {
      clearInterval(timer);
      for (const track of stream.getTracks()) track.stop();
      view.remove();
      this.recording = null;
      this.showRecording(false);
      const name = t("recordingName");
      if (!recording.cancelled) this.read("audio", new Blob(pieces, { type: recorder.mimeType }), name);
      this.changed();
    });
    recorder.start();
    this.recording = recording;
    this.tray.append(view);
    this.showRecording(true);
    tick();
    this.changed();
  }

  /** Ends a recording and throws it away. */
  cancel() {
    if (!this.recording) return;
    this.recording.cancelled = true;
    this.recording.recorder.stop();
    this.field.focus();
  }

  showRecording(running) {
    for (const name of ["label", "title"]) setAttributeText(this.record, name, running ? "recordStop" : "record");
    this.record.replaceChildren(icon(running ? "stop" : "record"));
  }

  say(key, values) {
    this.note.hidden = key === null;
    if (key !== null) setText(this.note, key, values);
  }

  changed() {
    this.tray.hidden = this.items.length === 0 && this.recording === null;
    this.onChange();
  }
}

// Something in the tray, with a button that takes it out.
function chip(content, remove) {
  const button = h("button", { type: "button", class: "chip-remove", onclick: remove }, icon("close"));
  for (const name of ["label", "title"]) setAttributeText(button, name, "remove");
  return h("li", { class: "chip" }, content, button);
}
