// Prometheus text to numbers, and a poll that rests while nobody looks.

import { metricsText } from "./api.js";

const SAMPLE = /^([A-Za-z_:][\w:]*)(?:\{.*\})?[ \t]+(\S+)/;
const PERIOD = 2000; // milliseconds

/** Every sample by name; those that differ in labels alone are added up. */
export function parsePrometheus(text) {
  const sums = new Map();
  for (const line of text.split("\n")) {
    const match = line.startsWith("#") ? null : SAMPLE.exec(line);
    const value = match ? Number(match[2]) : Number.NaN;
    if (Number.isFinite(value)) sums.set(match[1], (sums.get(match[1]) ?? 0) + value);
  }
  return sums;
}

/** What the page shows of them; null for what the server does not tell. */
export function figures(text) {
  const sums = parsePrometheus(text);
  const get = (name) => sums.get(`lightglm_${name}`) ?? null;
  return {
    used: get("kv_blocks_used"),
    cached: get("kv_blocks_cached"),
    total: get("kv_blocks") ?? get("kv_blocks_total"),
    running: get("requests_running"),
    waiting: get("requests_waiting"),
    generated: get("generated_tokens_total"),
  };
}

/** Calls `show(figures | null, error | null)` every two seconds while the page is visible. */
export function pollMetrics(key, show) {
  let timer = 0;
  let busy = false;
  let before = null; // { at, generated } of the last poll, for the rate

  const once = async () => {
    clearTimeout(timer);
    if (document.hidden || busy) return;
    busy = true;
    try {
      const now = figures(await metricsText(key(), AbortSignal.timeout(5000)));
      const at = performance.now();
      const known = before && now.generated !== null && now.generated >= before.generated;
      now.rate = known ? ((now.generated - before.generated) * 1000) / (at - before.at) : null;
      before = now.generated === null ? null : { at, generated: now.generated };
      show(now, null);
    } catch (error) {
      before = null;
      show(null, error);
    } finally {
      busy = false;
      timer = setTimeout(once, PERIOD);
    }
  };

  document.addEventListener("visibilitychange", () => {
    before = null;
    once();
  });
  once();
  return once;
}
