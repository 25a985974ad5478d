#!/usr/bin/env python3
"""Clients of the other APIs against a running server: OpenAI's Responses, Anthropic's Messages, Ollama's, and
LiteLLM, which speaks the first by a bridge from chats.

    python3 -m venv venv && venv/bin/pip install openai anthropic ollama litellm
    venv/bin/python tools/dialects_check.py --url http://127.0.0.1:8080 [--api-key KEY]

One line per check; the exit code says whether all passed. A client that is not installed is skipped, and said so.
Replies are kept short: half a minute for a small model on a CPU.
"""

import argparse
import importlib.util
import json
import os
import sys
import time
import traceback
import urllib.request

QUESTION = "My parcel has not arrived. What should I do?"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Beijing"]}},
    "required": ["city"],
    "additionalProperties": False,
}


def city_is_right(arguments):
    assert set(arguments) == {"city"} and arguments["city"] in ("Paris", "Beijing"), arguments


def raised(kind, act):
    try:
        act()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


class Responses:
    """OpenAI's client."""

    needs = ["openai", "pydantic"]

    def __init__(self, url, model, key):
        import openai

        self.openai, self.model = openai, model
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=120)
        self.tool = {"type": "function", "name": "get_weather", "strict": True, "parameters": SCHEMA}

    def ask(self, input=QUESTION, **options):
        options = {"model": self.model, "max_output_tokens": 16, "temperature": 0, **options}
        return self.client.responses.create(input=input, **options)

    def verdict(self):
        import pydantic

        return pydantic.create_model("Verdict", certain=(bool, ...))

    def create(self):
        reply = self.ask(instructions="Be brief.", metadata={"a": "b"})
        assert reply.output_text and reply.status in ("completed", "incomplete"), reply
        assert 0 < reply.usage.output_tokens <= 16 and reply.metadata == {"a": "b"}, reply
        cut = self.ask(max_output_tokens=2)
        assert cut.status == "incomplete" and cut.incomplete_details.reason == "max_output_tokens", cut

    def streams_agree(self):
        whole = self.ask().output_text
        events = list(self.ask(stream=True))
        assert [event.sequence_number for event in events] == list(range(len(events))), events
        assert events[0].type == "response.created", events[0]
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        assert text == whole == events[-1].response.output_text, (text, whole)

    def stream_helper(self):
        options = {"model": self.model, "input": QUESTION, "max_output_tokens": 60, "temperature": 0}
        with self.client.responses.stream(**options, text_format=self.verdict()) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_response()
        assert "response.output_text.done" in kinds and final.output_parsed.certain in (True, False), final

    def parse(self):
        reply = self.client.responses.parse(
            model=self.model, input=QUESTION, text_format=self.verdict(), max_output_tokens=60, temperature=0
        )
        assert reply.output_parsed.certain in (True, False), reply

    def tool_loop(self):
        input = [{"role": "user", "content": "Is it raining in Paris?"}]
        options = {"tools": [self.tool], "max_output_tokens": 60}
        first = self.client.responses.parse(
            model=self.model, input=input, tool_choice="required", parallel_tool_calls=False, temperature=0, **options
        )
        (call,) = first.output
        assert call.type == "function_call" and first.status == "completed", first
        city_is_right(call.parsed_arguments)
        input += [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in first.output]
        input.append({"type": "function_call_output", "call_id": call.call_id, "output": "sunny"})
        assert self.ask(input, tools=[self.tool], tool_choice="none").output_text
        named = {"type": "function", "name": "get_weather"}
        events = list(self.ask(input[:1], stream=True, tool_choice=named, **options))
        deltas = "".join(e.delta for e in events if e.type == "response.function_call_arguments.delta")
        city_is_right(json.loads(deltas))

    def refusals(self):
        error = raised(self.openai.BadRequestError, lambda: self.ask(previous_response_id="resp_1"))
        assert error.param == "previous_response_id", error
        error = raised(self.openai.BadRequestError, lambda: self.ask(tools=[{"type": "web_search"}]))
        assert error.param == "tools[0].type", error
        raised(self.openai.NotFoundError, lambda: self.client.responses.retrieve("resp_1"))


class Anthropic:
    """Anthropic's client."""

    needs = ["anthropic"]

    def __init__(self, url, model, key):
        import anthropic

        self.anthropic, self.model = anthropic, model
        self.client = anthropic.Anthropic(base_url=url, auth_token=key, max_retries=0, timeout=120)
        self.tools = [{"name": "get_weather", "input_schema": SCHEMA}]

    def options(self, content=QUESTION, **options):
        messages = [{"role": "user", "content": content}]
        # Newer versions of the client have no argument for it.
        greedy = {"extra_body": {"temperature": 0}}
        return {"model": self.model, "max_tokens": 16, "messages": messages, **greedy, **options}

    def create(self):
        message = self.client.messages.create(**self.options(system="Be brief."))
        assert message.content[0].text and message.stop_reason in ("end_turn", "max_tokens"), message
        assert message.role == "assistant" and 0 < message.usage.output_tokens <= 16, message

    def streams_agree(self):
        options = self.options()
        whole = self.client.messages.create(**options)
        with self.client.messages.stream(**options) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        assert text == final.content[0].text == whole.content[0].text, (text, whole)
        assert (final.stop_reason, final.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)

    def stops(self):
        text = self.client.messages.create(**self.options()).content[0].text
        stop = text[len(text) // 2 :][:4]
        options = self.options(stop_sequences=["\x01never", stop])
        message = self.client.messages.create(**options)
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", stop), message

    def tool_loop(self):
        options = self.options("Is it raining in Paris?", tools=self.tools)
        options["max_tokens"] = 60
        choice = {"type": "any", "disable_parallel_tool_use": True}
        first = self.client.messages.create(**options, tool_choice=choice)
        assert first.stop_reason == "tool_use", first
        (call,) = [block for block in first.content if block.type == "tool_use"]
        city_is_right(call.input)
        with self.client.messages.stream(**options, tool_choice=choice) as stream:
            streamed = stream.get_final_message()
        assert [block.input for block in streamed.content] == [call.input], streamed
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
        options["messages"] += [
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [result]},
        ]
        last = self.client.messages.create(**{**options, "max_tokens": 8}, tool_choice={"type": "none"})
        assert last.content[0].text, last

    def count_tokens(self):
        options = self.options(system="Be brief.")
        usage = self.client.messages.create(**options).usage
        del options["max_tokens"]
        counted = self.client.messages.count_tokens(**options).input_tokens
        assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0), (counted, usage)

    def refusals(self):
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "eA=="}}
        error = raised(
            self.anthropic.BadRequestError, lambda: self.client.messages.create(**self.options([image]))
        )
        assert error.body["error"]["type"] == "invalid_request_error" and error.request_id, error.body
        options = {**self.options(), "model": "nobody"}
        raised(self.anthropic.NotFoundError, lambda: self.client.messages.create(**options))


class Ollama:
    """Ollama's client."""

    needs = ["ollama"]

    def __init__(self, url, model, key):
        import ollama

        self.ollama, self.model = ollama, model
        self.client = ollama.Client(host=url, headers={"Authorization": f"Bearer {key}"}, timeout=120)
        self.messages = [{"role": "user", "content": QUESTION}]
        self.options = {"temperature": 0, "num_predict": 16}

    def chat(self):
        options = {"model": self.model, "messages": self.messages, "options": self.options}
        whole = self.client.chat(**options)
        assert whole.message.content and whole.done and whole.eval_count <= 16 and whole.eval_duration > 0, whole
        parts = list(self.client.chat(**options, stream=True))
        assert "".join(part.message.content for part in parts) == whole.message.content, parts
        assert parts[-1].done_reason == whole.done_reason, (parts[-1], whole)

    def generate(self):
        whole = self.client.generate(f"{self.model}:latest", QUESTION, system="Be brief.", options=self.options)
        assert whole.response and whole.prompt_eval_count > 0, whole
        assert self.client.generate(self.model).done_reason == "load"

    def formats(self):
        options = {**self.options, "num_predict": 60}
        reply = self.client.chat(self.model, self.messages, format=SCHEMA, options=options)
        city_is_right(json.loads(reply.message.content))

    def tools(self):
        def get_weather(city: str) -> str:
            """The weather of a city"""
            return f"sunny in {city}"

        messages = [
            *self.messages,
            {"role": "assistant", "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}]},
            {"role": "tool", "content": "sunny", "tool_name": "get_weather"},
        ]
        reply = self.client.chat(self.model, messages, tools=[get_weather], options=self.options)
        assert reply.message.content or reply.message.tool_calls, reply

    def models(self):
        assert self.model in [model.model for model in self.client.list().models]
        assert self.model in [model.model for model in self.client.ps().models]
        shown = self.client.show(self.model)
        assert "completion" in shown.capabilities, shown
        assert shown.modelinfo["lightglm.context_length"] > 0, shown

    def refusals(self):
        act = lambda: self.client.generate(self.model, QUESTION, suffix="x")
        error = raised(self.ollama.ResponseError, act)
        assert error.status_code == 400 and "suffix" in error.error, error
        error = raised(self.ollama.ResponseError, lambda: self.client.chat("nobody", self.messages))
        assert error.status_code == 404, error


class LiteLLM:
    """LiteLLM: responses, and its bridges from chats to responses and to messages."""

    needs = ["litellm"]

    def __init__(self, url, model, key):
        # Prices would be fetched before the first call.
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        import litellm

        self.litellm, self.url, self.model, self.key = litellm, url, model, key

    def responses(self):
        options = {"api_base": f"{self.url}/v1", "api_key": self.key, "max_output_tokens": 16}
        reply = self.litellm.responses(model=f"openai/{self.model}", input=QUESTION, **options)
        assert reply.output[0].content[0].text, reply

    def bridge(self):
        options = {"api_base": f"{self.url}/v1", "api_key": self.key, "max_tokens": 16, "temperature": 0}
        options |= {"model": f"openai/responses/{self.model}", "messages": [{"role": "user", "content": QUESTION}]}
        whole = self.litellm.completion(**options).choices[0].message.content
        streamed = self.litellm.completion(**options, stream=True)
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
        assert whole and streamed == whole, (streamed, whole)

    def messages(self):
        options = {"api_base": self.url, "api_key": self.key, "max_tokens": 16, "temperature": 0}
        options |= {"model": f"anthropic/{self.model}", "messages": [{"role": "user", "content": QUESTION}]}
        reply = self.litellm.completion(**options)
        assert reply.choices[0].message.content and reply.usage.completion_tokens > 0, reply

    def ollama(self):
        options = {"api_base": self.url, "api_key": self.key, "max_tokens": 16, "temperature": 0}
        options |= {"model": f"ollama_chat/{self.model}", "messages": [{"role": "user", "content": QUESTION}]}
        assert self.litellm.completion(**options).choices[0].message.content


def missing(kind):
    for name in kind.needs:
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--api-key", default="none")
    args = parser.parse_args()
    url = args.url.rstrip("/")
    request = urllib.request.Request(f"{url}/v1/models", headers={"Authorization": f"Bearer {args.api_key}"})
    with urllib.request.urlopen(request, timeout=10) as response:
        model = json.load(response)["data"][0]["id"]
    failed = checked = 0
    for kind in (Responses, Anthropic, Ollama, LiteLLM):
        reason = missing(kind)
        if reason:
            print(f"skipped: {kind.__name__}: {reason}")
            continue
        check = kind(url, model, args.api_key)
        helpers = ("ask", "verdict", "options")
        names = [name for name, it in vars(kind).items() if callable(it) and name[0] != "_" and name not in helpers]
        for name in names:
            began = time.monotonic()
            try:
                getattr(check, name)()
                outcome = "ok"
            except Exception:
                outcome = "FAILED\n" + traceback.format_exc()
                failed += 1
            checked += 1
            print(f"{kind.__name__}.{name}: {outcome} ({time.monotonic() - began:.1f} s)", flush=True)
    print(f"{checked} checks, {failed} failed")
    return 1 if failed or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
