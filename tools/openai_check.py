#!/usr/bin/env python3
"""Drives a running server with OpenAI's own Python client.

    pip install openai
    python tools/openai_check.py --base-url http://127.0.0.1:8080/v1 [--api-key KEY] [--only chat,errors]

Every check states what must hold for any model; what the model says is not looked at, except where a
schema or a tool's parameters force its form (`json_schema` and `tools` need structured output).
"""

import argparse
import json
import sys

import openai

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "maxLength": 20}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]
HELLO = [{"role": "user", "content": "Say hello."}]


def models(client, model):
    names = [entry.id for entry in client.models.list()]
    assert model in names, names
    assert client.models.retrieve(model).id == model


def chat(client, model):
    fields = dict(model=model, messages=HELLO, max_tokens=16, seed=5, temperature=0.8)
    first = client.chat.completions.create(**fields)
    again = client.chat.completions.create(**fields)
    choice = first.choices[0]
    assert choice.message.role == "assistant" and choice.finish_reason in ("stop", "length")
    assert choice.message.content == again.choices[0].message.content, "a seed decides"
    usage = first.usage
    assert 0 < usage.completion_tokens <= 16
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    several = client.chat.completions.create(**fields, n=3, logprobs=True, top_logprobs=2)
    assert [other.index for other in several.choices] == [0, 1, 2]
    assert several.choices[0].message.content == choice.message.content
    entry = several.choices[0].logprobs.content[0]
    assert len(entry.top_logprobs) == 2 and entry.logprob <= 0


def streaming(client, model):
    fields = dict(model=model, messages=HELLO, max_tokens=16, seed=5, temperature=0.8)
    whole = client.chat.completions.create(**fields)
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(**fields, stream=True, stream_options=options))
    deltas = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert deltas[0].delta.role == "assistant"
    assert "".join(delta.delta.content or "" for delta in deltas) == whole.choices[0].message.content
    assert deltas[-1].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len({chunk.id for chunk in chunks}) == 1
    # A client that leaves in the middle does no harm.
    stream = client.chat.completions.create(**{**fields, "max_tokens": 200}, stream=True)
    next(iter(stream))
    stream.close()
    assert client.chat.completions.create(**fields).choices


def completions(client, model):
    fields = dict(model=model, prompt=["One two", "Three"], max_tokens=8, seed=5, logprobs=2)
    whole = client.completions.create(**fields)
    assert [choice.index for choice in whole.choices] == [0, 1]
    logprobs = whole.choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset)
    texts = ["", ""]
    for chunk in client.completions.create(**fields, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [choice.text for choice in whole.choices]


def tools(client, model):
    fields = dict(model=model, messages=HELLO, tools=TOOLS, max_tokens=64, seed=5)
    named = {"type": "function", "function": {"name": "get_weather"}}
    for choice in ("required", named):
        reply = client.chat.completions.create(**fields, tool_choice=choice)
        assert reply.choices[0].finish_reason == "tool_calls", reply
        call = reply.choices[0].message.tool_calls[0]
        assert call.function.name == "get_weather"
        assert isinstance(json.loads(call.function.arguments)["city"], str)
    with client.chat.completions.stream(**fields, tool_choice=named) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert streamed.function.arguments == call.function.arguments
    # The call and what it returned go back into the conversation.
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    messages = HELLO + [reply.choices[0].message, result]
    reply = client.chat.completions.create(model=model, messages=messages, max_tokens=4, tools=TOOLS)
    assert reply.choices
    none = client.chat.completions.create(**fields, tool_choice="none")
    assert not none.choices[0].message.tool_calls


def json_schema(client, model):
    schema = TOOLS[0]["function"]["parameters"]
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema, "strict": True}}
    fields = dict(model=model, messages=HELLO, max_tokens=64, seed=5)
    reply = client.chat.completions.create(**fields, response_format=form)
    assert isinstance(json.loads(reply.choices[0].message.content)["city"], str)


def errors(client, model):
    def refused(kind, param, code, **fields):
        try:
            client.chat.completions.create(**{"model": model, "messages": HELLO, **fields})
        except kind as error:
            assert (error.param, error.code) == (param, code), (error.param, error.code)
            assert error.request_id
        else:
            raise AssertionError(f"{fields} was accepted")

    refused(openai.NotFoundError, "model", "model_not_found", model="no-such-model")
    bad = dict(kind=openai.BadRequestError, code="invalid_value")
    refused(**bad, param="temperature", temperature=-1)
    refused(**bad, param="top_p", top_p=2)
    refused(**bad, param="n", n=100000)
    refused(**bad, param="max_tokens", max_tokens=-5)
    refused(**bad, param="top_logprobs", logprobs=True, top_logprobs=1000)
    refused(**bad, param="stop", stop=["a"] * 1000)
    refused(**bad, param="messages", messages=[])
    refused(**bad, param="seed", seed="x")
    try:
        client.embeddings.create(model=model, input="x")
    except openai.APIStatusError as error:
        assert error.status_code == 501
    else:
        raise AssertionError("embeddings were given")


CHECKS = [models, chat, streaming, completions, tools, json_schema, errors]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base-url", default="http://127.0.0.1:8080/v1")
    parser.add_argument("--api-key", default="none")
    parser.add_argument("--model", help="the first one that the server names, unless given")
    parser.add_argument("--only", help="names of checks, with commas between them")
    arguments = parser.parse_args()
    client = openai.OpenAI(base_url=arguments.base_url, api_key=arguments.api_key, max_retries=0)
    model = arguments.model or next(iter(client.models.list())).id
    only = arguments.only.split(",") if arguments.only else None
    failed = 0
    for check in CHECKS:
        if only is not None and check.__name__ not in only:
            continue
        try:
            check(client, model)
            print(f"ok      {check.__name__}")
        except Exception as error:  # noqa: BLE001
            failed += 1
            print(f"FAILED  {check.__name__}: {type(error).__name__}: {error}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
