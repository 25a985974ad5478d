#!/usr/bin/env python3
"""LangChain, LlamaIndex, instructor and LiteLLM against running servers: what their users do first.

    python3 -m venv venv
    venv/bin/pip install 'langchain-openai>=1' 'llama-index-llms-openai-like>=0.5' instructor litellm
    venv/bin/python tools/clients_check.py --url http://127.0.0.1:8080 [--script-url URL]

--url serves any model; replies are kept short and are told by their form. --script-url serves a model that always
calls `get_weather` for 北京 (`--make-script FOLDER` writes it by the scripts beside the fixtures; it needs numpy and
safetensors). A library that is not installed is skipped, and said so.
"""

import argparse
import asyncio
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import traceback
import urllib.request
from pathlib import Path

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("ANONYMIZED_TELEMETRY", "False")

QUESTION = [{"role": "user", "content": "Bob is 5 years old. Who is he?"}]
CITY = {"city": "北京", "unit": "celsius"}


class Skipped(Exception):
    """A library or a server is not there."""


def needs(*names):
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise Skipped(f"{name} is not installed")


def person():
    from pydantic import BaseModel, ConfigDict, Field

    class Person(BaseModel):
        # A schema that does not forbid more lets a small model go on and on.
        model_config = ConfigDict(extra="forbid")
        name: str = Field(max_length=12)
        age: int = Field(ge=0, le=150)

    return Person


def langchain(url, model, script):
    needs("langchain_openai")
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI

    @tool
    def get_weather(city: str, unit: str = "celsius") -> str:
        """The weather of a city."""
        return f"sunny in {city}"

    Person = person()
    chat = ChatOpenAI(base_url=url, api_key="none", model=model, max_tokens=60, max_retries=0, temperature=0)
    reply = chat.invoke("Say hi.")
    assert reply.content and reply.usage_metadata["output_tokens"] > 0, reply
    parts = list(chat.stream("Say hi.", stream_usage=True))
    assert "".join(part.content for part in parts) == reply.content, parts
    assert any(part.usage_metadata for part in parts)
    # Not json_mode: of any object a small model finds no end.
    for method in ("json_schema", "function_calling"):
        found = chat.with_structured_output(Person, method=method).invoke("Bob is 5 years old.")
        assert isinstance(found, Person), found
    forced = chat.bind_tools([get_weather], tool_choice="any").invoke("Weather?")
    # One call or more; the last may be cut.
    assert {call["name"] for call in forced.tool_calls} == {"get_weather"}, forced
    if script is None:
        return
    chat = ChatOpenAI(base_url=script, api_key="none", model="tool1", max_retries=0, temperature=0)
    bound = chat.bind_tools([get_weather])
    call = bound.invoke("北京天气?").tool_calls[0]
    assert (call["name"], call["args"]) == ("get_weather", CITY), call
    whole = None
    for part in bound.stream("北京天气?"):
        whole = part if whole is None else whole + part
    assert whole.tool_calls[0]["args"] == CITY, whole


def llama_index(url, model, script):
    needs("llama_index.llms.openai_like" if importlib.util.find_spec("llama_index") else "llama_index")
    from llama_index.core.tools import FunctionTool
    from llama_index.llms.openai_like import OpenAILike

    Person = person()

    def get_weather(city: str, unit: str = "celsius") -> str:
        """The weather of a city."""
        return f"sunny in {city}"

    options = {"api_key": "none", "is_chat_model": True, "is_function_calling_model": True}
    options |= {"max_retries": 0, "temperature": 0, "context_window": 2048}
    llm = OpenAILike(model=model, api_base=url, max_tokens=60, **options)
    whole = llm.complete("Say hi.").text
    assert whole and "".join(part.delta for part in llm.stream_complete("Say hi.")) == whole
    found = llm.as_structured_llm(Person).complete("Bob is 5 years old.").raw
    assert isinstance(found, Person), found
    if script is None:
        return
    llm = OpenAILike(model="tool1", api_base=script, max_tokens=60, **options)
    reply = llm.chat_with_tools([FunctionTool.from_defaults(get_weather)], user_msg="北京天气?")
    calls = llm.get_tool_calls_from_response(reply)
    assert (calls[0].tool_name, calls[0].tool_kwargs) == ("get_weather", CITY), calls


def with_instructor(url, model, script):
    needs("instructor", "openai")
    import instructor
    from openai import OpenAI

    Person = person()
    modes = instructor.Mode
    for mode in (modes.TOOLS, modes.TOOLS_STRICT, modes.JSON_SCHEMA):
        client = OpenAI(base_url=url, api_key="none", max_retries=0)
        client = instructor.from_openai(client, mode=mode)
        found = client.chat.completions.create(
            model=model, messages=QUESTION, response_model=Person, max_tokens=60, max_retries=1, temperature=0
        )
        assert isinstance(found, Person), found


def with_litellm(url, model, script):
    needs("litellm")
    import litellm

    litellm.suppress_debug_info = True
    common = {"api_base": url, "api_key": "none", "num_retries": 0, "max_tokens": 6}
    for provider in ("openai", "hosted_vllm"):
        reply = litellm.completion(model=f"{provider}/{model}", messages=QUESTION, **common)
        assert reply.choices[0].message.content, reply
    parts = litellm.completion(
        model=f"openai/{model}", messages=QUESTION, stream=True, stream_options={"include_usage": True}, **common
    )
    assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    text = litellm.text_completion(model=f"text-completion-openai/{model}", prompt="Once upon", **common)
    assert text.choices[0].text, text
    messages = litellm.anthropic.messages.acreate(model=f"openai/{model}", messages=QUESTION, **common)
    assert asyncio.run(messages)["content"]
    if script is None:
        return
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}, "unit": {"type": "string"}}}}}
    reply = litellm.completion(
        model="openai/tool1", messages=QUESTION, tools=[tool], **{**common, "api_base": script, "max_tokens": 60}
    )
    assert json.loads(reply.choices[0].message.tool_calls[0].function.arguments) == CITY, reply


def make_script(folder):
    shared = Path(os.environ.get("LIGHTGLM_SHARED", Path(__file__).parents[2] / "shared"))
    script = shared / "cases/scripts/script_model.py"
    if not script.is_file():
        raise SystemExit(f"skipped: {script} is not there")
    needs("numpy", "safetensors")
    crates = Path(__file__).resolve().parents[1] / "crates"
    # The script knows the files where they once were.
    places = {
        "lightglm-model/src/text/glm4_0414.jinja": "glm4_0414.jinja",
        "lightglm-model/tests/data/text/tokenizer.json": "tests/data/text/tokenizer.json",
    }
    with tempfile.TemporaryDirectory() as project:
        for place, name in places.items():
            found = next(crates.rglob(name))
            copy = Path(project, "crates", place)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(found, copy)
        os.environ["PROJECT"] = project
        spec = importlib.util.spec_from_file_location("script_model", script)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        said = ["\nget_", "weather", "\n ", '{"city":', ' "北京"', ', "unit": "celsius"}']
        module.make(folder, said)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url")
    parser.add_argument("--script-url")
    parser.add_argument("--make-script", metavar="FOLDER")
    arguments = parser.parse_args()
    if arguments.make_script:
        return make_script(arguments.make_script)
    url = arguments.url.rstrip("/") + "/v1"
    script = arguments.script_url and arguments.script_url.rstrip("/") + "/v1"
    with urllib.request.urlopen(url + "/models", timeout=60) as answer:
        model = json.load(answer)["data"][0]["id"]
    failed = 0
    for check in (langchain, llama_index, with_instructor, with_litellm):
        try:
            check(url, model, script)
            print(f"ok: {check.__name__}")
        except Skipped as reason:
            print(f"skipped: {check.__name__}: {reason}")
        except Exception:  # each client's failure is shown, and the others are tried
            traceback.print_exc()
            print(f"FAILED: {check.__name__}")
            failed += 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
