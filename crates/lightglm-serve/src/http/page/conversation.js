// A conversation as data: what is taken from storage or a file, and what is written to one.
//
//   { role: "user", content, media: [{ kind, name, url }] }
//   { role: "assistant", content, reasoning, tools: [{ name, arguments }], finish, stats, failure }
//
// `finish` is null while the answer arrives; everything is text from elsewhere, shown as text. `kind` is "image" or
// "audio"; `url` holds the bytes, or is empty where they were too many to be kept.

import { isMediaUrl, mediaPart } from "./media.js";

const FORMAT = "lightglm-conversation";
const MAX_TOOLS = 128; // calls in one message

export function emptyAnswer() {
  return { role: "assistant", content: "", reasoning: "", tools: [], finish: null, stats: null, failure: null };
}

/** Adds what a chunk of the stream says; whether it said anything. */
export function take(message, delta) {
  const content = textOf(delta.content);
  const reasoning = textOf(delta.reasoning_content ?? delta.reasoning);
  message.content += content;
  message.reasoning += reasoning;
  const calls = Array.isArray(delta.tool_calls) ? delta.tool_calls : [];
  for (const call of calls) {
    const index = call?.index ?? 0;
    if (!call || !Number.isInteger(index) || index < 0 || index >= MAX_TOOLS) continue;
    while (message.tools.length <= index) message.tools.push({ name: "", arguments: "" });
    message.tools[index].name += textOf(call.function?.name);
    message.tools[index].arguments += textOf(call.function?.arguments);
  }
  return content !== "" || reasoning !== "" || calls.length > 0;
}

function textOf(value) {
  return typeof value === "string" ? value : "";
}

function numberOf(value) {
  return Number.isFinite(value) ? value : null;
}

/** Tool calls as text, where there is no room for more. */
export function callsText(tools) {
  return tools.map((tool) => `${tool.name}(${tool.arguments})`).join("\n");
}

/** The messages of a list of unknown origin, each brought to its shape; null if it is none. */
export function messagesOf(value) {
  if (!Array.isArray(value)) return null;
  const messages = value.map(messageOf);
  return messages.includes(null) ? null : messages;
}

function messageOf(value) {
  if (value?.role === "user") {
    if (typeof value.content !== "string") return null;
    return { role: "user", content: value.content, media: mediaOf(value.media) };
  }
  if (value?.role !== "assistant") return null;
  const { stats, failure } = value;
  const tools = Array.isArray(value.tools) ? value.tools.slice(0, MAX_TOOLS) : [];
  return {
    role: "assistant",
    content: textOf(value.content),
    reasoning: textOf(value.reasoning),
    tools: tools.map((tool) => ({ name: textOf(tool?.name), arguments: textOf(tool?.arguments) })),
    finish: typeof value.finish === "string" ? value.finish : "stopped", // a reload cut it off
    stats: statsOf(stats),
    failure: failure && typeof failure === "object" ? failureFrom(failure) : null,
  };
}

function mediaOf(list) {
  const known = (Array.isArray(list) ? list : []).filter((item) => item?.kind === "image" || item?.kind === "audio");
  return known.map(({ kind, name, url }) => ({ kind, name: textOf(name), url: isMediaUrl(kind, url) ? url : "" }));
}

/** What a message says to the server: its text, or parts where files come before it. */
export function contentOf({ content, media }) {
  const parts = (media ?? []).filter((item) => item.url !== "").map(mediaPart);
  if (parts.length === 0) return content;
  return content === "" ? parts : [...parts, { type: "text", text: content }];
}

/** The messages without the bytes of files. */
export function withoutBytes(messages) {
  const named = (media) => media.map((item) => ({ ...item, url: "" }));
  return messages.map((message) => (message.media ? { ...message, media: named(message.media) } : message));
}

function statsOf(stats) {
  const [ttft, tokens] = [numberOf(stats?.ttft), numberOf(stats?.tokens)];
  return ttft === null || tokens === null ? null : { ttft, tokens, rate: numberOf(stats.rate) };
}

function failureFrom({ kind, status, message, retryAt }) {
  return { kind: textOf(kind), status: numberOf(status) ?? 0, message: textOf(message), retryAt: numberOf(retryAt) ?? 0 };
}

/** The conversation as a file that readFile reads. */
export function asJson(messages) {
  return `${JSON.stringify({ format: FORMAT, version: 1, messages }, null, 2)}\n`;
}

/** The messages in a file; null if it is none of ours. */
export function fromJson(text) {
  try {
    const value = JSON.parse(text);
    return value?.format === FORMAT ? messagesOf(value.messages) : null;
  } catch {
    return null;
  }
}

/** The conversation to read; `names` are the headings and labels in the reader's language. */
export function asMarkdown(messages, names) {
  const parts = messages.map((message) => {
    if (message.role === "user") {
      const files = message.media.map(({ kind, name }) => `*${kind === "image" ? names.picture : names.recording}: ${name}*`);
      return [`## ${names.you}`, ...files, ...(message.content ? [message.content] : [])];
    }
    const { content, reasoning, tools } = message;
    const out = [`## ${names.assistant}`];
    if (reasoning) out.push(`> ${names.reasoning}\n>\n${reasoning.trim().replace(/^/gm, "> ")}`);
    if (content) out.push(content);
    for (const tool of tools) out.push(`${names.toolCall}: \`${tool.name.replaceAll("`", "'")}\``, fenced(tool.arguments));
    return out;
  });
  return `${parts.flat().join("\n\n")}\n`;
}

// A code block whose fence is longer than any in the text.
function fenced(text) {
  const longest = (text.match(/`+/g) ?? []).reduce((most, run) => Math.max(most, run.length), 2);
  const fence = "`".repeat(longest + 1);
  return `${fence}json\n${text}\n${fence}`;
}
