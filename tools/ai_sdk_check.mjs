// The `ai` SDK against a running server, by OpenAI's Responses API and by Anthropic's Messages.
//
//     npm install --prefix DIR ai @ai-sdk/openai @ai-sdk/anthropic zod
//     node tools/ai_sdk_check.mjs --url http://127.0.0.1:8080 --modules DIR [--api-key KEY]
//
// One line per check; the exit code says whether all passed. Replies are kept short.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const option = (name, fallback) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? fallback : process.argv[at + 1];
};
const url = option("url", "http://127.0.0.1:8080").replace(/\/$/, "");
const apiKey = option("api-key", "none");
const modules = createRequire(pathToFileURL(`${option("modules", ".")}/package.json`));
const load = (name) => import(pathToFileURL(modules.resolve(name)));

const { generateText, streamText, Output, tool, stepCountIs } = await load("ai");
const { createOpenAI } = await load("@ai-sdk/openai");
const { createAnthropic } = await load("@ai-sdk/anthropic");
const { z } = await load("zod");

const headers = { Authorization: `Bearer ${apiKey}` };
const name = (await (await fetch(`${url}/v1/models`, { headers })).json()).data[0].id;
const models = {
  responses: createOpenAI({ baseURL: `${url}/v1`, apiKey }).responses(name),
  messages: createAnthropic({ baseURL: `${url}/v1`, apiKey, headers })(name),
};
const asked = { prompt: "My parcel has not arrived. What should I do?", maxRetries: 0, temperature: 0 };
// Without it the SDK names items of earlier turns by their ids, and nothing is stored.
const providerOptions = { openai: { store: false } };

let failed = 0;
const check = async (what, act) => {
  const began = Date.now();
  try {
    await act();
    console.log(`${what}: ok (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failed += 1;
    console.log(`${what}: FAILED: ${error.stack}`);
  }
};
const holds = (condition, ...seen) => {
  if (!condition) throw new Error(JSON.stringify(seen));
};

for (const [api, model] of Object.entries(models)) {
  const options = { ...asked, model, providerOptions };
  await check(`${api}: a text, whole and streamed`, async () => {
    const whole = await generateText({ ...options, maxOutputTokens: 16 });
    const stream = streamText({ ...options, maxOutputTokens: 16 });
    let text = "";
    for await (const piece of stream.textStream) text += piece;
    holds(whole.text && text === whole.text, text, whole.text);
    holds((await stream.usage).outputTokens === whole.usage.outputTokens, whole.usage);
    holds((await stream.finishReason) === whole.finishReason, whole.finishReason);
  });
  await check(`${api}: a schema`, async () => {
    const schema = z.object({ certain: z.boolean() });
    const { output } = await generateText({ ...options, maxOutputTokens: 80, output: Output.object({ schema }) });
    holds(typeof output.certain === "boolean", output);
  });
  await check(`${api}: a tool, and its result`, async () => {
    const cities = z.object({ city: z.enum(["Paris", "Beijing"]) });
    const get_weather = tool({ description: "d", inputSchema: cities, execute: async () => "sunny" });
    const result = await generateText({
      ...options,
      tools: { get_weather },
      maxOutputTokens: 60,
      stopWhen: stepCountIs(2),
      prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
    });
    holds(result.steps.length === 2 && result.steps[0].toolResults.length > 0, result.steps);
  });
}
process.exit(failed ? 1 : 0);
