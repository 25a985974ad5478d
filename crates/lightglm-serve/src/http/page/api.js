// The server's routes that the page calls, and what can go wrong on the way.

import { serverEvents } from "./sse.js";

// The page's files lie one folder below the routes, also behind a proxy that adds a prefix.
const BASE = new URL("..", import.meta.url);

/** Why a call failed. `status` is 0 where no reply came; `retryAfter` is in seconds, or null. */
export class ApiError extends Error {
  constructor({ kind, message = "", status = 0, retryAfter = null }) {
    super(message);
    this.kind = kind; // "network", "broken", "status", "reply" or "server" (told within a stream)
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Was this the user's own stop? */
export function isAbort(error) {
  return error?.name === "AbortError";
}

async function call(path, { key, signal, body } = {}) {
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  const request = { method: body ? "POST" : "GET", headers, signal, cache: "no-store", credentials: "same-origin" };
  if (body) request.body = JSON.stringify(body);
  let response;
  try {
    response = await fetch(new URL(path, BASE), request);
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError({ kind: "network" });
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const text = await response.text().catch(() => "");
  const { status } = response;
  return new ApiError({ kind: "status", status, message: messageOf(text), retryAfter: retryAfter(response) });
}

// `{"error": {"message": …}}`, or plain text where it is short.
function messageOf(text) {
  try {
    const { error } = JSON.parse(text);
    return typeof error === "string" ? error : String(error?.message ?? "");
  } catch {
    return text.length <= 300 && !text.trimStart().startsWith("<") ? text.trim() : "";
  }
}

function retryAfter(response) {
  const value = response.headers.get("Retry-After");
  if (value === null) return null;
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.min(3600, Math.max(0, Math.ceil(seconds))) : null;
}

async function json(response) {
  try {
    return await response.json();
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError({ kind: error instanceof SyntaxError ? "reply" : "broken" });
  }
}

/** The models that a request may name, and what each reads: { id, reads }, `reads` null where it is not told. */
export async function listModels(key) {
  const list = await json(await call("v1/models", { key }));
  return (list.data ?? []).map(({ id, architecture }) => {
    const reads = architecture?.input_modalities;
    return { id: String(id), reads: Array.isArray(reads) ? reads : null };
  });
}

/** The answer to a question about a text: { answer, finish_reason, usage }, the last two if told. */
export async function answerFrom(request, { key, signal }) {
  const reply = await json(await call("answer", { key, signal, body: request }));
  if (typeof reply.answer !== "string") throw new ApiError({ kind: "reply" });
  return reply;
}

/** The server's figures as Prometheus text. */
export async function metricsText(key, signal) {
  return (await call("metrics", { key, signal })).text();
}

/** The chunks of a streamed chat completion; throws where the stream ends before it is complete. */
export async function* chatChunks(request, { key, signal }) {
  const body = { ...request, stream: true, stream_options: { include_usage: true } };
  const response = await call("v1/chat/completions", { key, signal, body });
  let finished = false;
  try {
    for await (const data of serverEvents(response.body)) {
      if (data === "[DONE]") return;
      const chunk = parseChunk(data);
      finished ||= (chunk.choices ?? []).some((choice) => choice.finish_reason);
      yield chunk;
    }
  } catch (error) {
    if (isAbort(error) || error instanceof ApiError) throw error;
    throw new ApiError({ kind: "broken" });
  }
  if (!finished) throw new ApiError({ kind: "broken" });
}

function parseChunk(data) {
  let chunk;
  try {
    chunk = JSON.parse(data);
  } catch {
    throw new ApiError({ kind: "reply" });
  }
  if (!chunk.error) return chunk;
  const message = typeof chunk.error === "string" ? chunk.error : String(chunk.error.message ?? "");
  throw new ApiError({ kind: "server", message });
}
