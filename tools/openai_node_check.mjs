// OpenAI's client for Node against a running server.
//
//     npm install --prefix DIR openai
//     node tools/openai_node_check.mjs --url http://127.0.0.1:8080 --modules DIR [--api-key KEY]
//
// One line per check; the exit code says whether all passed. Replies are kept short.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const option = (name, fallback) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? fallback : process.argv[at + 1];
};
const url = option("url", "http://127.0.0.1:8080").replace(/\/$/, "");
const modules = createRequire(pathToFileURL(`${option("modules", ".")}/package.json`));
const { default: OpenAI } = await import(pathToFileURL(modules.resolve("openai")));
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: option("api-key", "none"), maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const common = { model, temperature: 0, messages: [{ role: "user", content: "Say hi." }] };
const parameters = {
  type: "object",
  properties: { city: { type: "string", enum: ["Paris", "Beijing"] } },
  required: ["city"],
  additionalProperties: false,
};
const tool = { type: "function", function: { name: "get_weather", parameters, strict: true } };

const checks = {
  async "a chat, whole and streamed"() {
    const whole = await client.chat.completions.create({ ...common, max_tokens: 6 });
    const said = whole.choices[0].message.content;
    assert.ok(said.length > 0 && whole.usage.completion_tokens <= 6);
    let streamed = "";
    const stream = await client.chat.completions.create({
      ...common, max_tokens: 6, stream: true, stream_options: { include_usage: true },
    });
    let usage = null;
    for await (const chunk of stream) {
      streamed += chunk.choices[0]?.delta?.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.equal(streamed, said);
    assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
  },
  async "a forced call, put together from its pieces"() {
    const runner = client.chat.completions.stream({
      ...common, tools: [tool], tool_choice: "required", parallel_tool_calls: false, max_tokens: 80,
    });
    const message = await runner.finalMessage();
    const { city } = JSON.parse(message.tool_calls[0].function.arguments);
    assert.ok(parameters.properties.city.enum.includes(city), city);
  },
  async "a schema"() {
    const reply = await client.chat.completions.create({
      ...common, max_tokens: 60,
      response_format: { type: "json_schema", json_schema: { name: "place", schema: parameters, strict: true } },
    });
    assert.ok("city" in JSON.parse(reply.choices[0].message.content));
  },
  async "a response"() {
    const reply = await client.responses.create({ model, input: "Say hi.", max_output_tokens: 16 });
    assert.ok(reply.output_text.length > 0);
  },
  async "an error that names the field"() {
    const wrong = client.chat.completions.create({ ...common, temperature: 9 });
    await assert.rejects(wrong, (error) => error.status === 400 && error.param === "temperature");
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok: ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED: ${name}: ${error.stack}`);
  }
}
process.exit(failed === 0 ? 0 : 1);
