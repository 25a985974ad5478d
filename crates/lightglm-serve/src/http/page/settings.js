// The fields of the side panel: kept in the tab, read when a request is made.

import { h } from "./dom.js";
import { load, save } from "./store.js";
import { setText, t } from "./strings.js";

const DEFAULTS = { model: "", temperature: "0.7", maxTokens: "", seed: "", system: "", key: "" };

export class Settings {
  /** `fields`: the form's elements by the names of DEFAULTS; `onKey` runs when the key changed, `onModel` when another
   * model is chosen. */
  constructor({ fields, temperatureOutput, onKey, onModel }) {
    this.fields = fields;
    this.onModel = onModel;
    this.models = [];
    const stored = Object.entries({ ...load("settings", {}) });
    const known = stored.filter(([name, value]) => Object.hasOwn(DEFAULTS, name) && typeof value === "string");
    this.values = { ...DEFAULTS, ...Object.fromEntries(known) };
    for (const [name, field] of Object.entries(fields)) {
      if (name !== "model") field.value = this.values[name];
      field.addEventListener("input", () => this.changed(name));
    }
    fields.key.addEventListener("change", onKey);
    this.temperatureOutput = temperatureOutput;
    this.showTemperature();
  }

  changed(name) {
    this.values[name] = this.fields[name].value;
    this.save();
    if (name === "temperature") this.showTemperature();
    if (name === "model") this.onModel();
    if (name === "maxTokens") this.whole(name, 1);
    if (name === "seed") this.whole(name, 0);
  }

  save() {
    save("settings", this.values);
  }

  showTemperature() {
    this.temperatureOutput.textContent = Number(this.values.temperature).toFixed(2);
  }

  // The number in a field, or undefined where it is empty or no whole number of at least `min`.
  whole(name, min) {
    const field = this.fields[name];
    const value = field.valueAsNumber;
    const valid = Number.isSafeInteger(value) && value >= min;
    const wrong = !valid && (field.value !== "" || field.validity.badInput);
    field.setAttribute("aria-invalid", String(wrong));
    field.setCustomValidity(wrong ? t("wholeNumber", { min }) : "");
    if (wrong) field.title = t("wholeNumber", { min });
    else field.removeAttribute("title");
    return valid ? value : undefined;
  }

  /** The models to choose from, as api.js lists them; the chosen one stays if it is among them. */
  offer(models) {
    const { model } = this.fields;
    const names = models.map(({ id }) => id);
    this.models = models;
    if (models.length === 0) {
      const none = h("option", { value: "" });
      setText(none, "noModels");
      model.replaceChildren(none);
    } else {
      model.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
    }
    model.disabled = models.length === 0;
    model.value = names.includes(this.values.model) ? this.values.model : (names[0] ?? "");
    this.values.model = model.value;
    this.onModel();
  }

  /** Whether the chosen model takes pictures and recordings; one that does not say is asked. */
  takes() {
    const chosen = this.models.find(({ id }) => id === this.values.model);
    const takes = (kind) => chosen !== undefined && (chosen.reads?.includes(kind) ?? true);
    return { image: takes("image"), audio: takes("audio") };
  }

  key() {
    return this.values.key.trim();
  }

  system() {
    return this.values.system.trim();
  }

  /** The fields of a chat request, but for the messages; what is undefined is not sent. */
  request() {
    return {
      model: this.values.model || undefined,
      temperature: Number(this.values.temperature),
      max_tokens: this.whole("maxTokens", 1),
      seed: this.whole("seed", 0),
    };
  }
}
