"""Loaded by schemathesis (see api_fuzz.py): replies of a few tokens, so that time goes into requests."""

import schemathesis

GENERATING = ("/v1/chat/completions", "/v1/completions", "/answer")
LENGTHS = ("max_tokens", "max_completion_tokens")
# The server's own limit: what is beyond stays as it is, for it must be refused.
LARGEST = 8192
SHORT = 4


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body
    if case.operation.path not in GENERATING or not isinstance(body, dict):
        return
    shorter = dict(body)
    for name in LENGTHS:
        length = shorter.get(name)
        if type(length) is int and SHORT < length <= LARGEST:
            shorter[name] = SHORT
    if all(shorter.get(name) is None for name in LENGTHS):
        shorter["max_tokens"] = SHORT
    if type(shorter.get("min_tokens")) is int and SHORT < shorter["min_tokens"] <= LARGEST:
        shorter["min_tokens"] = SHORT
    case.body = shorter
