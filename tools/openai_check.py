#!/usr/bin/env python3
"""The official openai client against a running server: shapes and constraints, whatever its model says.

    python3 -m venv venv && venv/bin/pip install openai==3.57.0
    venv/bin/python tools/openai_check.py --url http://127.0.0.1:8080 [--model NAME] [--api-key KEY]

One line per check; the exit code says whether all passed. Replies are kept short, so a small model on a
CPU takes about a minute. Checks of wrong keys are left out without --api-key.
"""

import argparse
import asyncio
import json
import sys
import time
import traceback
import urllib.request

import openai
from pydantic import BaseModel

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "enum": ["Paris", "Beijing"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
CLOCK = {
    "type": "function",
    "function": {
        "name": "get_time",
        "description": "The time in a zone",
        "parameters": {
            "type": "object",
            "properties": {"zone": {"type": "string", "enum": ["UTC", "CET"]}},
            "required": ["zone"],
            "additionalProperties": False,
        },
    },
}
PARCEL = {
    "type": "object",
    "properties": {
        "status": {"type": "string", "enum": ["lost", "late", "delivered"]},
        "days": {"type": "integer", "minimum": 0, "maximum": 30},
        "refund": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["status", "days", "refund", "tags"],
    "additionalProperties": False,
}


class Verdict(BaseModel):
    """What `parse` is to return."""

    certain: bool
    score: int


def ask(text):
    return [{"role": "user", "content": text}]


QUESTION = ask("My parcel has not arrived. What should I do?")


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def weather_is_right(arguments):
    value = json.loads(arguments)
    assert set(value) == {"city", "days"}, value
    assert value["city"] in ("Paris", "Beijing") and type(value["days"]) is int and 1 <= value["days"] <= 7, value


def parcel_is_right(text):
    value = json.loads(text)
    assert set(value) == {"status", "days", "refund", "tags"}, value
    assert value["status"] in ("lost", "late", "delivered"), value
    assert type(value["days"]) is int and 0 <= value["days"] <= 30 and type(value["refund"]) is bool, value
    assert len(value["tags"]) <= 3 and set(value["tags"]) <= {"a", "b"}, value


class Check:
    def __init__(self, url, model, key):
        self.url = url.rstrip("/")
        self.key = key
        self.client = self.with_key(key or "none")
        self.model = model or self.client.models.list().data[0].id

    def with_key(self, key, kind=openai.OpenAI):
        return kind(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=120)

    def chat(self, messages=QUESTION, **options):
        options = {"max_tokens": 24, "temperature": 0, **options}
        return self.client.chat.completions.create(model=self.model, messages=messages, **options)

    def metric(self, name):
        request = urllib.request.Request(f"{self.url}/metrics")
        if self.key:
            request.add_header("Authorization", f"Bearer {self.key}")
        with urllib.request.urlopen(request, timeout=10) as response:
            lines = response.read().decode().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith((f"{name} ", f"{name}{{"))))

    def refused(self, kind, param, act, status=None):
        try:
            act()
        except kind as error:
            assert param is None or error.param == param, f"param is {error.param!r}, not {param!r}: {error}"
            assert status is None or error.status_code == status, f"{error.status_code}: {error}"
            assert error.body["message"] and error.body["type"] and error.request_id, (error.body, error.request_id)
            return error
        raise AssertionError(f"{kind.__name__} was not raised (param {param})")

    # --- Chats -----------------------------------------------------------------------------------------

    def chat_answers(self):
        reply = self.chat()
        choice = reply.choices[0]
        assert reply.object == "chat.completion" and reply.model == self.model and reply.id, reply
        assert abs(reply.created - time.time()) < 600, reply.created
        assert choice.message.role == "assistant" and choice.message.content, choice
        assert choice.finish_reason in ("stop", "length") and not choice.message.tool_calls, choice
        usage = reply.usage
        assert usage.prompt_tokens > 0 and 0 < usage.completion_tokens <= 24, usage
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage

    def max_tokens_holds(self):
        for name in ("max_tokens", "max_completion_tokens"):
            options = {"max_tokens": openai.NOT_GIVEN, name: 5}
            reply = self.chat(**options, extra_body={"ignore_eos": True})
            assert reply.usage.completion_tokens == 5 and reply.choices[0].finish_reason == "length", reply

    def stream_has_usage(self):
        whole = self.chat().choices[0]
        chunks = list(self.chat(stream=True, stream_options={"include_usage": True}))
        assert len({chunk.id for chunk in chunks}) == 1
        assert all(chunk.object == "chat.completion.chunk" and chunk.model == self.model for chunk in chunks)
        *parts, last = chunks
        assert last.choices == [] and last.usage.completion_tokens > 0, last
        assert all(chunk.usage is None for chunk in parts)
        assert parts[0].choices[0].delta.role == "assistant", parts[0]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in parts)
        assert text == whole.message.content, f"{text!r} is not {whole.message.content!r}"
        reasons = [chunk.choices[0].finish_reason for chunk in parts]
        assert reasons[-1] == whole.finish_reason and set(reasons[:-1]) <= {None}, reasons

    def stream_without_usage(self):
        chunks = list(self.chat(stream=True))
        assert all(chunk.usage is None and chunk.choices for chunk in chunks)

    def system_and_parts(self):
        parts = [{"type": "text", "text": "Hello"}, {"type": "text", "text": "there"}]
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]
        assert self.chat(messages, max_tokens=4).usage.prompt_tokens > 0

    def seeds_are_reproducible(self):
        texts = [self.chat(temperature=1, seed=seed).choices[0].message.content for seed in (7, 7, 8)]
        assert texts[0] == texts[1], texts
        assert texts[0] != texts[2], texts

    def choices_have_their_seeds(self):
        both = self.chat(temperature=1, seed=7, n=2)
        assert [choice.index for choice in both.choices] == [0, 1], both
        alone = [self.chat(temperature=1, seed=seed).choices[0].message.content for seed in (7, 8)]
        assert [choice.message.content for choice in both.choices] == alone, (both, alone)

    def batch_mates_change_nothing(self):
        seeds = range(20, 28)

        async def one(client, seed):
            reply = await client.chat.completions.create(
                model=self.model, messages=QUESTION, temperature=1, seed=seed, max_tokens=24
            )
            return reply.choices[0].message.content

        async def together():
            async with self.with_key(self.key or "none", openai.AsyncOpenAI) as client:
                return await asyncio.gather(*(one(client, seed) for seed in seeds))

        batched = asyncio.run(together())
        alone = [self.chat(temperature=1, seed=seed).choices[0].message.content for seed in seeds]
        assert batched == alone, [pair for pair in zip(batched, alone) if pair[0] != pair[1]]

    def stop_strings_end_it(self):
        text = self.chat().choices[0].message.content
        stop = text[len(text) // 2 :][:4]
        choice = self.chat(stop=[stop, "\x01never"]).choices[0]
        assert choice.message.content == text[: text.index(stop)], (text, stop, choice)
        assert choice.finish_reason == "stop", choice
        streamed = self.chat(stop=stop, stream=True)
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
        assert streamed == choice.message.content, (streamed, choice)

    def logprobs_add_up(self):
        choice = self.chat(logprobs=True, top_logprobs=3, max_tokens=12).choices[0]
        entries = choice.logprobs.content
        assert 0 < len(entries) <= 12, entries
        for entry in entries:
            top = [other.logprob for other in entry.top_logprobs]
            assert entry.logprob <= 0 and len(top) == 3 and top == sorted(top, reverse=True), entry
            assert entry.logprob == top[0], "greedy takes the likeliest"
        text = b"".join(bytes(entry.bytes) for entry in entries).decode(errors="replace")
        assert text.rstrip("\ufffd").startswith(choice.message.content.rstrip("\ufffd")), (text, choice)
        assert self.chat(max_tokens=2).choices[0].logprobs is None

    def bias_forbids(self):
        first = self.chat(max_tokens=1).choices[0].message.content
        ids = self.post("/tokenize", {"text": first, "add_special_tokens": False})["tokens"]
        other = self.chat(max_tokens=1, logit_bias={str(ids[0]): -100}).choices[0].message.content
        assert other != first, first

    # --- Structured output -----------------------------------------------------------------------------

    def json_schema_holds(self):
        form = {"type": "json_schema", "json_schema": {"name": "parcel", "schema": PARCEL, "strict": True}}
        for seed in range(3):
            choice = self.chat(response_format=form, temperature=1, seed=seed, max_tokens=200).choices[0]
            assert choice.finish_reason == "stop", choice
            parcel_is_right(choice.message.content)
        streamed = self.chat(response_format=form, max_tokens=200, stream=True)
        parcel_is_right("".join(chunk.choices[0].delta.content or "" for chunk in streamed))

    def json_object_holds(self):
        choice = self.chat(response_format={"type": "json_object"}, max_tokens=120).choices[0]
        if choice.finish_reason == "stop":
            assert type(json.loads(choice.message.content)) is dict, choice
        else:
            assert choice.message.content.lstrip().startswith("{"), choice

    def parse_gives_a_model(self):
        reply = self.client.chat.completions.parse(
            model=self.model, messages=QUESTION, response_format=Verdict, max_tokens=200, temperature=0
        )
        assert isinstance(reply.choices[0].message.parsed, Verdict), reply

    def regex_holds(self):
        for seed in range(2):
            body = {"guided_regex": "[A-C]{2}-[0-9]{3}"}
            text = self.chat(temperature=1, seed=seed, extra_body=body).choices[0].message.content
            assert len(text) == 6 and text[2] == "-" and set(text[:2]) <= set("ABC") and text[3:].isdigit(), text

    # --- Tools -----------------------------------------------------------------------------------------

    def calls_of(self, message, reason):
        assert message.tool_calls and reason == "tool_calls", (message, reason)
        for call in message.tool_calls:
            assert call.id and call.type == "function", call
            if call.function.name == "get_weather":
                weather_is_right(call.function.arguments)
            else:
                assert call.function.name == "get_time", call
                assert json.loads(call.function.arguments)["zone"] in ("UTC", "CET"), call
        assert len({call.id for call in message.tool_calls}) == len(message.tool_calls)
        return message.tool_calls

    def tools_may_be_called(self):
        choice = self.chat(ask("What is the weather in Paris?"), tools=[WEATHER, CLOCK]).choices[0]
        assert choice.finish_reason in ("stop", "length", "tool_calls"), choice
        assert choice.message.content is not None or choice.message.tool_calls, choice
        none = self.chat(tools=[WEATHER], tool_choice="none").choices[0]
        assert not none.message.tool_calls and none.message.content, none

    def tools_must_be_called(self):
        for seed in range(3):
            choice = self.chat(
                tools=[WEATHER, CLOCK], tool_choice="required", parallel_tool_calls=False,
                temperature=1, seed=seed, max_tokens=120,
            ).choices[0]
            assert len(self.calls_of(choice.message, choice.finish_reason)) == 1, choice

    def the_named_tool_is_called(self):
        named = {"type": "function", "function": {"name": "get_weather"}}
        choice = self.chat(tools=[CLOCK, WEATHER], tool_choice=named, max_tokens=120).choices[0]
        calls = self.calls_of(choice.message, choice.finish_reason)
        assert [call.function.name for call in calls] == ["get_weather"], calls

    def tool_calls_stream(self):
        named = {"type": "function", "function": {"name": "get_weather"}}
        calls, reason = {}, None
        for chunk in self.chat(tools=[WEATHER], tool_choice=named, max_tokens=120, stream=True):
            choice = chunk.choices[0]
            reason = choice.finish_reason or reason
            for delta in choice.delta.tool_calls or []:
                call = calls.setdefault(delta.index, {"id": None, "name": "", "arguments": ""})
                call["id"] = delta.id or call["id"]
                call["name"] += delta.function.name or ""
                call["arguments"] += delta.function.arguments or ""
        assert list(calls) == [0] and reason == "tool_calls", (calls, reason)
        assert calls[0]["id"] and calls[0]["name"] == "get_weather", calls
        weather_is_right(calls[0]["arguments"])

    def the_stream_helper_agrees(self):
        """The client's own assembly of a stream."""
        named = {"type": "function", "function": {"name": "get_weather"}}
        options = {"model": self.model, "messages": QUESTION, "max_tokens": 120, "temperature": 0, "seed": 1}
        options |= {"tools": [WEATHER], "tool_choice": named}
        with self.client.chat.completions.stream(**options) as stream:
            for _ in stream:
                pass
            streamed = stream.get_final_completion().choices[0].message.tool_calls[0].function
        whole = self.client.chat.completions.create(**options).choices[0].message.tool_calls[0].function
        assert (streamed.name, streamed.arguments) == (whole.name, whole.arguments), (streamed, whole)

    def tool_results_go_back(self):
        named = {"type": "function", "function": {"name": "get_weather"}}
        message = self.chat(tools=[WEATHER], tool_choice=named, max_tokens=120).choices[0].message
        result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": '{"rain": true}'}
        reply = self.chat([*QUESTION, message, result], tools=[WEATHER], max_tokens=8)
        assert reply.usage.completion_tokens > 0, reply

    # --- Other routes ----------------------------------------------------------------------------------

    def completions_answer(self):
        create = self.client.completions.create
        options = {"model": self.model, "max_tokens": 8, "temperature": 0}
        one = create(prompt="The capital of France is", **options)
        assert one.object == "text_completion" and one.choices[0].text and one.usage.prompt_tokens > 0, one
        several = create(prompt=["The capital of France is", "Two and two are"], n=2, **options)
        assert [choice.index for choice in several.choices] == [0, 1, 2, 3], several
        assert several.choices[0].text == one.choices[0].text, several
        ids = self.post("/tokenize", {"text": "The capital of France is"})["tokens"]
        assert create(prompt=ids, **options).choices[0].text == one.choices[0].text
        *parts, last = create(
            prompt="The capital of France is", stream=True, stream_options={"include_usage": True}, **options
        )
        assert "".join(part.choices[0].text for part in parts) == one.choices[0].text, parts
        assert last.choices == [] and last.usage.completion_tokens == one.usage.completion_tokens, last
        logprobs = create(prompt="Hello", logprobs=2, **options).choices[0].logprobs
        sizes = {len(logprobs.tokens), len(logprobs.token_logprobs), len(logprobs.top_logprobs), len(logprobs.text_offset)}
        assert len(sizes) == 1 and all(value <= 0 for value in logprobs.token_logprobs), logprobs

    def models_are_listed(self):
        models = self.client.models.list().data
        assert self.model in [model.id for model in models] and models[0].object == "model", models
        assert self.client.models.retrieve(self.model).id == self.model

    def embeddings_point_the_same_way(self):
        create = self.client.embeddings.create
        if self.embedding_model is None:
            self.refused(openai.APIStatusError, None, lambda: create(model=self.model, input="x"), 501)
            return
        model = self.embedding_model
        texts = ["How do I return an order?", "I want to send my parcel back.", "It rains in June."]
        # The client asks for base64 unless it is told otherwise.
        several = create(model=model, input=texts)
        assert [item.index for item in several.data] == [0, 1, 2] and several.model == model, several
        assert several.usage.prompt_tokens == several.usage.total_tokens > 20, several.usage
        floats = create(model=model, input=texts, encoding_format="float")
        for ours, theirs in zip(floats.data, several.data, strict=True):
            # Decimal digits of an f32, and its bytes.
            assert max(abs(x - y) for x, y in zip(ours.embedding, theirs.embedding, strict=True)) < 1e-7
        query, near, far = (item.embedding for item in several.data)
        assert dot(query, near) > dot(query, far) + 0.2, (dot(query, near), dot(query, far))
        one = create(model=model, input=texts[0], dimensions=len(query)).data[0].embedding
        assert one == query and abs(dot(one, one) - 1) < 1e-5
        ids = create(model=model, input=[[101, 2129, 102], [101, 102]])
        assert len(ids.data) == 2 and ids.usage.prompt_tokens == 5, ids
        long = "word " * 5000
        refused = self.refused(openai.BadRequestError, "input", lambda: create(model=model, input=long))
        assert refused.code == "context_length_exceeded", refused
        cut = create(model=model, input=long, extra_body={"truncate": True})
        assert 100 < cut.usage.prompt_tokens < 5000, cut.usage
        self.refused(openai.BadRequestError, "dimensions", lambda: create(model=model, input="x", dimensions=7))
        self.refused(openai.BadRequestError, "model", lambda: create(model=self.model, input="x"))
        assert model in [listed.id for listed in self.client.models.list().data]

    def documents_are_ranked(self):
        if self.embedding_model is None:
            return
        documents = ["It rains in June.", {"text": "Orders can be sent back within seven days."}]
        body = {"query": "How do I return an order?", "documents": documents, "top_n": 1, "return_documents": True}
        answer = self.post("/v1/rerank", body)
        assert [result["index"] for result in answer["results"]] == [1], answer
        assert answer["results"][0]["document"] == documents[1] and answer["usage"]["total_tokens"] > 10, answer

    def post(self, path, body):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        if self.key:
            request.add_header("Authorization", f"Bearer {self.key}")
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    # --- Errors ----------------------------------------------------------------------------------------

    def wrong_fields_are_named(self):
        broken = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
        for options, param in [
            ({"temperature": 3}, "temperature"),
            ({"top_p": -1}, "top_p"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"n": 1000}, "n"),
            ({"logprobs": True, "top_logprobs": 1000}, "top_logprobs"),
            ({"stop": ["x"] * 1000}, "stop"),
            ({"messages": []}, "messages"),
            ({"tool_choice": "required"}, "tool_choice"),
            ({"response_format": broken}, "response_format.json_schema.schema"),
        ]:
            error = self.refused(openai.BadRequestError, None, lambda: self.chat(**options))
            assert (error.param or "").startswith(param), f"param is {error.param!r}, not {param!r}"
            assert error.code == "invalid_value", error.code
        self.refused(openai.BadRequestError, "messages", lambda: self.chat(ask("word " * 200_000)))

    def unknown_models_are_not_found(self):
        create = self.client.chat.completions.create
        error = self.refused(openai.NotFoundError, "model", lambda: create(model="no-such-model", messages=QUESTION))
        assert error.code == "model_not_found", error.code
        self.refused(openai.NotFoundError, "model", lambda: self.client.models.retrieve("no/such"))

    def wrong_keys_are_refused(self):
        for key in ("wrong", self.key + "x", self.key[:-1] or "x"):
            self.refused(openai.AuthenticationError, None, lambda: self.with_key(key).models.list())

    def closed_streams_are_cancelled(self):
        name = "lightglm_requests_cancelled_total"
        before = self.metric(name)
        stream = self.chat(max_tokens=2000, stream=True, extra_body={"ignore_eos": True})
        for _, _ in zip(range(3), stream):
            pass
        stream.close()
        end = time.monotonic() + 10
        while self.metric(name) == before:
            assert time.monotonic() < end, "the server did not notice"
            time.sleep(0.1)

    ALL = [
        chat_answers, max_tokens_holds, stream_has_usage, stream_without_usage, system_and_parts,
        seeds_are_reproducible, choices_have_their_seeds, batch_mates_change_nothing, stop_strings_end_it,
        logprobs_add_up, bias_forbids, json_schema_holds, json_object_holds, parse_gives_a_model, regex_holds,
        tools_may_be_called, tools_must_be_called, the_named_tool_is_called, tool_calls_stream,
        the_stream_helper_agrees, tool_results_go_back, completions_answer, models_are_listed,
        embeddings_point_the_same_way, documents_are_ranked,
        wrong_fields_are_named, unknown_models_are_not_found, wrong_keys_are_refused,
        closed_streams_are_cancelled,
    ]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", help="the server's first one if omitted")
    parser.add_argument("--api-key")
    parser.add_argument("--embedding-model", help="its name, where the server has one")
    arguments = parser.parse_args()
    check = Check(arguments.url, arguments.model, arguments.api_key)
    check.embedding_model = arguments.embedding_model
    print(f"openai {openai.__version__}, {check.model}", flush=True)
    failed = 0
    for step in Check.ALL:
        name = step.__name__.replace("_", " ")
        if step is Check.wrong_keys_are_refused and not arguments.api_key:
            print(f"skip {name}: no --api-key", flush=True)
            continue
        began = time.monotonic()
        try:
            step(check)
            print(f"ok   {name} ({time.monotonic() - began:.1f} s)", flush=True)
        except Exception:
            failed += 1
            print(f"FAIL {name}\n{traceback.format_exc(limit=-2)}", flush=True)
    print(f"{failed} failed" if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
