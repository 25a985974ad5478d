#!/usr/bin/env python3
"""The web page of lightglm-serve in headless Chromium: what a person does, and what must not happen.

    tools/page_check.py                                # against the server of page_mock.py
    tools/page_check.py --url http://127.0.0.1:8080    # against a real one, whatever its model says
    tools/page_check.py --screenshots OUT              # and pictures to look at

One line per check; the exit code says whether all passed. Checks that need answers known in advance
are left out with --url. Needs a Chromium or Chrome in PATH, or LIGHTGLM_BROWSER naming one
(Debian: apt-get install chromium fonts-noto-cjk); no Python packages.
"""

import argparse
import json
import pathlib
import sys
import time
import traceback

import page_mock
from page_browser import Browser, Page, find_browser
from page_kept import ANSWER, IDLE, TEXT, KeptChecks
from page_media import MediaChecks
from page_probes import DESKTOP, PHONE
from page_probes import KEPT_ELEMENTS, LONG_ANSWERS, LOW_CONTRAST, MISSING_STRINGS, SHOWN_OTHERWISE, SPILLED, TOO_WIDE

BUSY = "!document.querySelector('#stop').hidden"


class Check(KeptChecks, MediaChecks):
    def __init__(self, browser: Browser, url: str, mock: page_mock.State | None, pictures: pathlib.Path | None):
        self.browser = browser
        self.url = url
        self.mock = mock
        self.pictures = pictures
        self.page: Page | None = None

    def picture(self, name: str):
        if self.pictures:
            self.page.screenshot(self.pictures / f"{name}.png")

    def say(self, text: str):
        self.page.focus("#message")
        self.page.write(text)
        self.page.key("Enter")

    def ask(self, text: str, seconds: float = 60):
        before = self.page.evaluate("document.querySelectorAll('.message').length")
        self.say(text)
        self.page.wait(f"document.querySelectorAll('.message').length === {before + 2} && {IDLE}", seconds)

    def limit(self, tokens: str):
        """Answers of a real model are to end soon."""
        self.page.evaluate(f"""var limit = document.querySelector('#max-tokens');
            limit.value = '{tokens}'; limit.dispatchEvent(new Event('input'))""")

    def clear(self):
        if not self.page.evaluate("document.querySelector('#clear').hidden"):
            self.page.click("#clear")

    def clean(self):
        """No complaint so far; those of a check that provokes some are taken off by the check."""
        violations = self.page.evaluate("window.violations")
        assert violations == [], f"content security policy: {violations}"
        assert self.page.complaints == [], f"console: {self.page.complaints}"

    def expect_complaints(self, part: str):
        rest = [line for line in self.page.complaints if part not in line]
        assert rest == [], f"console: {rest}"
        self.page.complaints.clear()

    # --- The checks, in order ------------------------------------------------------------------------

    def loads(self):
        self.page = self.browser.page(self.url)
        self.page.viewport(*DESKTOP)
        self.page.scheme("light")
        self.page.wait("document.querySelector('#model').options.length > 0 && !document.querySelector('#model').disabled")
        self.page.wait("document.querySelector('#connection').dataset.state === 'online'")
        if not self.mock:
            self.limit("48")
        assert self.page.evaluate("document.documentElement.lang") == "en"
        assert self.page.evaluate("document.querySelectorAll('.sample').length") == 4
        self.clean()
        self.picture("desktop-empty")

    def figures_are_polled(self):
        number = "document.querySelector('#{}').textContent"
        self.page.wait(f"/^\\d+%$/.test({number.format('kv-percent')})")
        for name in ("running", "waiting"):
            self.page.wait(f"/^\\d+$/.test({number.format(name)})")
        self.page.wait(f"/^[\\d.]+$/.test({number.format('throughput')})", 10)
        if self.mock:
            assert self.page.evaluate(number.format("kv-percent")) == "37%"

    def answer_streams(self):
        page = self.page
        page.evaluate(f"""window.lengths = new Set();
            window.watch = new MutationObserver(() => window.lengths.add({TEXT}.length));
            window.watch.observe(document.querySelector('#log'), {{subtree: true, childList: true, characterData: true}})""")
        self.ask("What is a KV cache?")
        lengths = page.evaluate("window.watch.disconnect() ?? window.lengths.size")
        assert lengths > (20 if self.mock else 1), f"{lengths} sizes seen"
        stats = page.evaluate(f"{ANSWER}.querySelector('.stats').textContent")
        assert "first token" in stats and ("tokens/s" in stats or not self.mock), stats
        if self.mock:
            body = self.mock.requests[-1]["body"]
            assert body["stream"] is True and body["stream_options"] == {"include_usage": True}, body
            assert body["temperature"] == 0.7 and body["model"] == "glm-4-9b-chat", body
            assert "max_tokens" not in body and "seed" not in body, body
        self.clean()
        self.picture("desktop-light")

    def markdown_becomes_elements(self):
        counts = self.page.evaluate(f"""Object.fromEntries(['h5', 'ol > li', 'ol ul > li', 'table tbody tr',
            'td.align-center', 'blockquote', '.code pre code', 'strong', 'em', 'a[rel~=noopener]', 'p code, li code']
            .map((selector) => [selector, {ANSWER}.querySelectorAll(selector).length]))""")
        wanted = {
            "h5": 1, "ol > li": 2, "ol ul > li": 2, "table tbody tr": 2, "td.align-center": 2, "blockquote": 1,
            ".code pre code": 1, "strong": 1, "em": 1, "a[rel~=noopener]": 1, "p code, li code": 1,
        }
        assert counts == wanted, counts
        assert self.page.evaluate(f"{ANSWER}.querySelector('.language').textContent") == "rust"

    def code_is_copied(self):
        page = self.page
        page.evaluate("""navigator.clipboard.writeText = async (text) => { window.copied = text; }""")
        page.click(".message.model:last-child .code .quiet")
        assert page.wait("window.copied").startswith("/// Bytes that one token takes.\nfn bytes")

    def long_answer_is_cheap(self):
        seconds = self.page.evaluate(LONG_ANSWERS)
        print(f"    seconds: { {name: round(value, 2) for name, value in seconds.items()} }", flush=True)
        assert max(seconds.values()) < 20, seconds  # minutes where it were quadratic

    def pieces_look_as_the_whole(self):
        for text in (page_mock.MARKDOWN, page_mock.CHINESE, page_mock.HOSTILE, page_mock.THOUGHTS + "\n- [ ] a\n\n  b\n- [x] c"):
            wrong = self.page.evaluate(f"{SHOWN_OTHERWISE}({json.dumps(text)})")
            assert wrong == [], f"{wrong} characters a piece: {text[:40]!r}"

    def elements_are_kept(self):
        kept = self.page.evaluate(KEPT_ELEMENTS)
        assert all(kept), kept

    def keys(self):
        page = self.page
        count = page.evaluate("document.querySelectorAll('.message').length")
        page.focus("#message")
        page.write("first")
        page.key("Enter", shift=True)
        page.write("second ")
        page.compose("ni hao")
        # What browsers report while a composition is open: isComposing, and 229 as the key.
        page.evaluate("""document.querySelector('#message').dispatchEvent(
            new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, bubbles: true, cancelable: true }))""")
        page.key("Enter", code=229)
        assert page.evaluate("document.querySelectorAll('.message').length") == count, "a composition was sent"
        page.evaluate("document.querySelector('#message').value = ''")
        page.write("one")
        page.key("Enter", shift=True)
        page.write("two")
        assert page.evaluate("document.querySelector('#message').value") == "one\ntwo"
        page.key("Enter")
        page.wait(f"document.querySelectorAll('.message').length === {count + 2} && {IDLE}", 60)
        assert page.evaluate("[...document.querySelectorAll('.bubble')].at(-1).textContent") == "one\ntwo"

    def reload_keeps_the_conversation(self):
        before = self.page.evaluate(TEXT)
        self.page.reload()
        self.page.wait(f"{TEXT}.length > 0")
        assert self.page.evaluate(TEXT) == before

    def stop_stops(self):
        for how in ("button", "Escape"):
            self.clear()
            if not self.mock:
                self.limit("1000")
            disconnects = self.mock.disconnects if self.mock else 0
            self.say("Write a long, long answer: count from one to one thousand in words.")
            self.page.wait(f"{TEXT}.length > 60 || {IDLE}", 60)
            if not self.mock and self.page.evaluate(IDLE):
                print("    the model ended before it could be stopped", flush=True)
                continue
            if how == "button" and self.mock:
                self.reader_is_left_alone()
            if how == "button":
                self.page.click("#stop")
            else:
                self.page.key("Escape")
            self.page.wait(IDLE, 5)
            length = self.page.evaluate(f"{TEXT}.length")
            time.sleep(0.5)
            assert length > 0 and self.page.evaluate(f"{TEXT}.length") == length, "text came after the stop"
            assert "Stopped" in self.page.evaluate(f"{ANSWER}.querySelector('footer').textContent")
            end = time.monotonic() + 5
            while self.mock and self.mock.disconnects == disconnects:
                assert time.monotonic() < end, "the server was not told"
                time.sleep(0.05)
        if not self.mock:
            self.limit("48")
        self.clean()

    def reader_is_left_alone(self):
        """Who scrolls up while an answer arrives stays there, until the button goes down again."""
        page = self.page
        at = "document.querySelector('#scroller').scrollTop"
        page.wait("document.querySelector('#scroller').scrollHeight > 1000")
        self.picture("desktop-streaming")
        page.evaluate(f"{at} = 40")
        page.wait("document.querySelector('#scroller').classList.contains('away')")
        length = page.evaluate(f"{TEXT}.length")
        page.wait(f"{TEXT}.length > {length} + 100")
        assert page.evaluate(at) == 40
        self.picture("desktop-scrolled")
        page.click("#latest")
        page.wait(f"{at} > 40 && !document.querySelector('#scroller').classList.contains('away')")

    def regenerate_clear_undo(self):
        page = self.page
        self.clear()
        self.ask("hello")
        page.click(".message.model:last-child .regenerate")
        page.wait(BUSY)
        page.wait(IDLE, 60)
        assert page.evaluate("document.querySelectorAll('.message').length") == 2
        page.click("#clear")
        assert page.evaluate("document.querySelectorAll('.message').length") == 0
        page.click("#undo-clear")
        assert page.evaluate("document.querySelectorAll('.message').length") == 2
        self.clean()

    def injection_is_inert(self):
        page = self.page
        if self.mock:
            self.clear()
            self.ask("hostile")
            self.nothing_was_injected(ANSWER)
            page.reload()
            page.wait(f"{TEXT}.length > 0")
            self.nothing_was_injected(ANSWER)
            assert page.evaluate(f"{ANSWER}.querySelectorAll('.thoughts, .tool').length") == 2
            assert page.evaluate("'name' in []") is False, "a prototype was written to"
        page.evaluate(f"""(async () => {{
            const {{ renderMarkdown }} = await import(new URL('page/render.js', location.href));
            window.hostile = document.body.appendChild(document.createElement('div'));
            renderMarkdown(window.hostile, {json.dumps(page_mock.HOSTILE)});
        }})()""")
        self.nothing_was_injected("window.hostile")
        page.evaluate("window.hostile.remove()")
        self.clean()

    def nothing_was_injected(self, where: str):
        page = self.page
        page.evaluate(f"{where}.querySelectorAll('.markdown a').forEach((a) => a.dispatchEvent(new MouseEvent('mouseover')))")
        time.sleep(0.2)
        assert page.evaluate("window.injected") is None
        bad = page.evaluate(f"""[...{where}.querySelectorAll('*')].filter((element) =>
            ['SCRIPT', 'IMG', 'IFRAME', 'OBJECT', 'EMBED', 'STYLE', 'FORM'].includes(element.tagName)
            || [...element.attributes].some((attribute) => attribute.name.startsWith('on')
                || (attribute.name === 'href' && !/^(https?:|mailto:|#icon-)/.test(attribute.value))))
            .map((element) => element.outerHTML)""")
        assert bad == [], bad
        assert "<script>window.injected" in page.evaluate(f"{where}.textContent"), "shown as text"

    def tool_call_is_a_card(self):
        self.clear()
        self.ask("use a tool")
        head = self.page.evaluate(f"{ANSWER}.querySelector('.tool-head').textContent")
        body = self.page.evaluate(f"{ANSWER}.querySelector('.tool pre').textContent")
        assert "get_weather" in head, head
        assert json.loads(body) == {"city": "Beijing", "days": 3}, body
        self.picture("desktop-tool")

    def cut_off_is_said(self):
        self.clear()
        self.ask("cut")
        assert "token limit" in self.page.evaluate(f"{ANSWER}.querySelector('.note').textContent")

    def busy_server_is_shown(self):
        page = self.page
        self.clear()
        body = json.dumps({"error": {"message": "The queue is full: 256 requests wait.", "type": "rate_limit"}})
        headers = {"Retry-After": "2", "Content-Type": "application/json"}
        page.intercept([("/v1/chat/completions", 429, headers, body)])
        self.ask("hello")
        card = f"{ANSWER}.querySelector('.failure')"
        text = page.evaluate(f"{card}.textContent")
        assert "The server is busy." in text and "256 requests wait" in text, text
        assert page.evaluate(f"{card}.querySelector('button').disabled"), "no countdown"
        self.picture("desktop-busy")
        page.wait(f"!{card}.querySelector('button').disabled", 5)
        page.intercept([])
        self.expect_complaints("429")
        page.evaluate(f"{card}.querySelector('button').click()")
        page.wait(BUSY)
        page.wait(f"{IDLE} && {TEXT}.length > 0", 60)
        assert page.evaluate("document.querySelectorAll('.message').length") == 2

    def refused_request_is_shown(self):
        self.clear()
        body = json.dumps({"error": {"message": "max_tokens: must be at most 8192", "type": "invalid_request_error"}})
        self.page.intercept([("/v1/chat/completions", 400, {"Content-Type": "application/json"}, body)])
        self.ask("hello")
        self.page.intercept([])
        text = self.page.evaluate(f"{ANSWER}.textContent")
        assert "400" in text and "at most 8192" in text, text
        self.expect_complaints("400")

    def lost_connection_is_shown(self):
        page = self.page
        self.clear()
        page.offline(True)
        self.ask("hello")
        assert "cannot be reached" in page.evaluate(f"{ANSWER}.textContent")
        page.wait("document.querySelector('#connection').dataset.state === 'offline'", 8)
        page.offline(False)
        page.wait("document.querySelector('#connection').dataset.state === 'online'", 8)
        self.expect_complaints("ERR_INTERNET_DISCONNECTED")

    def broken_stream_keeps_what_came(self):
        self.clear()
        self.ask("drop")
        assert "broke off" in self.page.evaluate(f"{ANSWER}.textContent")
        assert self.page.evaluate(f"{TEXT}.length") > 50
        self.picture("desktop-broken")
        self.expect_complaints("ERR_")

    def missing_key_is_said(self):
        page = self.page
        self.clear()
        body = json.dumps({"error": {"message": "No API key was given.", "type": "invalid_request_error"}})
        headers = {"Content-Type": "application/json"}
        page.intercept([(path, 401, headers, body) for path in ("/v1/", "/metrics")])
        page.wait("document.querySelector('#connection').dataset.state === 'keyNeeded'", 8)
        self.ask("hello")
        assert "asks for an API key" in page.evaluate(f"{ANSWER}.textContent")
        self.picture("desktop-no-key")
        page.intercept([])
        page.wait("document.querySelector('#connection').dataset.state === 'online'", 8)
        self.expect_complaints("401")

    def settings_are_sent(self):
        page = self.page
        self.clear()
        page.evaluate("""for (const [id, value] of Object.entries({ temperature: '0.2', 'max-tokens': '64', seed: '7',
            system: 'Be brief.', 'api-key': 'secret', model: 'glm-4-9b-chat:support-zh' })) {
            const field = document.getElementById(id);
            field.value = value;
            field.dispatchEvent(new Event('input', { bubbles: true }));
        }""")
        self.ask("hello")
        request = self.mock.requests[-1]
        body = request["body"]
        assert body["temperature"] == 0.2 and body["max_tokens"] == 64 and body["seed"] == 7, body
        assert body["model"] == "glm-4-9b-chat:support-zh", body
        assert [m["role"] for m in body["messages"]] == ["system", "user"], body
        assert request["key"] == "Bearer secret", request
        page.reload()
        page.wait("document.querySelector('#seed').value === '7' && document.querySelector('#model').value.endsWith('zh')")
        page.evaluate("""const seed = document.querySelector('#seed');
            seed.value = '-3'; seed.dispatchEvent(new Event('input'))""")
        assert page.evaluate("document.querySelector('#seed').getAttribute('aria-invalid')") == "true"
        page.evaluate("sessionStorage.removeItem('lightglm.settings')")
        page.reload()

    def language_switches(self):
        page = self.page
        self.clear()
        missing = page.evaluate(MISSING_STRINGS)
        assert missing == [], missing
        page.click("#language")
        assert page.evaluate("document.documentElement.lang") == "zh-CN"
        assert page.evaluate("document.querySelector('#send').textContent.trim()") == "发送"
        self.picture("desktop-chinese-empty")
        self.ask("什么是 KV 缓存？")
        self.picture("desktop-chinese")
        assert "词元/秒" in page.evaluate(f"{ANSWER}.querySelector('footer').textContent") or not self.mock
        page.click("#language")
        assert page.evaluate("document.querySelector('#send').textContent.trim()") == "Send"
        assert "first token" in page.evaluate(f"{ANSWER}.querySelector('footer').textContent"), "the past is translated"

    def language_follows_the_browser(self):
        english, self.page = self.page, self.browser.page(self.url, "zh-CN")
        try:
            assert self.page.evaluate("document.documentElement.lang") == "zh-CN"
            assert self.page.evaluate("document.querySelector('#tab-chat').textContent") == "对话"
            self.clean()
        finally:
            self.page = english

    def answers_from_a_text(self):
        page = self.page
        page.click("#tab-answer")
        self.picture("desktop-context-empty")
        page.click("#example")
        page.click("#ask")
        page.wait("document.querySelector('#result .markdown') !== null", 60)
        if self.mock:
            request = self.mock.requests[-1]
            assert request["path"] == "/answer" and {"question", "context"} <= set(request["body"]), request
            assert "14 tokens" in page.evaluate("document.querySelector('#result .stats').textContent")
            assert page.evaluate("document.querySelector('#result strong').textContent") == "10"
        self.clean()
        self.picture("desktop-context")
        page.intercept([("/answer", 413, {"Content-Type": "application/json"}, '{"error":{"message":"context: too long"}}')])
        page.click("#ask")
        page.wait("document.querySelector('#result .failure')?.textContent.includes('context: too long')")
        page.intercept([])
        self.expect_complaints("413")
        page.click("#ask")
        page.wait("document.querySelector('#result .markdown') !== null", 60)

    def fits_a_phone(self):
        page = self.page
        page.viewport(*PHONE, phone=True)
        for language in ("en", "zh"):
            for tab in ("#tab-answer", "#tab-chat"):
                page.click(tab)
                found = page.evaluate(TOO_WIDE)
                assert found == [], f"{language} {tab}: {found}"
                spilled = page.evaluate(SPILLED)
                assert spilled <= 1, f"{language} {tab}: the answer is {spilled} pixels taller than its card"
                self.picture(f"phone-{language}-{tab[5:]}")
            if language == "en":
                self.clear()
                self.picture("phone-empty")
                page.click("#language")
                self.ask("什么是 KV 缓存？")
        page.click("#panel-toggle")
        page.wait("getComputedStyle(document.querySelector('#panel')).visibility === 'visible'")
        self.picture("phone-panel")
        page.evaluate("document.querySelector('#keep').scrollIntoView()")
        self.picture("phone-panel-end")
        page.key("Escape")
        page.wait("document.activeElement.id === 'panel-toggle'")
        page.click("#language")
        page.viewport(*DESKTOP)
        self.clean()

    def contrast_and_names(self):
        page = self.page
        self.clear()
        self.ask("What is a KV cache?")
        for scheme in ("light", "dark"):
            page.scheme(scheme)
            self.picture(f"desktop-{scheme}-answered")
            for tab in ("#tab-answer", "#tab-chat"):
                page.click(tab)
                time.sleep(0.1)
                low = page.evaluate(LOW_CONTRAST)
                assert low == [], f"{scheme} {tab}: {low}"
                unnamed = page.unnamed_controls()
                assert unnamed == [], f"{tab}: {unnamed}"
                if scheme == "dark":
                    self.picture(f"desktop-dark-{tab[5:]}")
        page.viewport(*PHONE, phone=True)
        self.picture("phone-dark")
        page.viewport(*DESKTOP)
        page.scheme("light")
        assert page.evaluate("document.querySelector('#log').getAttribute('aria-live')") == "polite"

    def nothing_leaves_the_origin(self):
        self.clean()
        outside = [url[:80] for url in self.page.requested if not url.startswith((self.url, "data:"))]
        assert outside == [], outside


# Each with whether it needs the mock's answers.
CHECKS = [
    (Check.loads, False),
    (Check.figures_are_polled, False),
    (Check.answer_streams, False),
    (Check.markdown_becomes_elements, True),
    (Check.code_is_copied, True),
    (Check.long_answer_is_cheap, False),
    (Check.pieces_look_as_the_whole, False),
    (Check.elements_are_kept, False),
    (Check.keys, False),
    (Check.reload_keeps_the_conversation, False),
    (Check.stop_stops, False),
    (Check.regenerate_clear_undo, False),
    (Check.injection_is_inert, False),
    (Check.thoughts_are_folded, True),
    (Check.files_hold_the_conversation, False),
    (Check.broken_storage_is_survived, False),
    (Check.nothing_is_kept_if_told, False),
    (Check.tool_call_is_a_card, True),
    (Check.cut_off_is_said, True),
    (Check.busy_server_is_shown, False),
    (Check.refused_request_is_shown, False),
    (Check.lost_connection_is_shown, False),
    (Check.broken_stream_keeps_what_came, True),
    (Check.missing_key_is_said, False),
    (Check.settings_are_sent, True),
    (Check.language_switches, False),
    (Check.language_follows_the_browser, False),
    (Check.answers_from_a_text, False),
    (Check.text_models_offer_no_files, True),
    (Check.pictures_go_along, True),
    (Check.a_picture_needs_no_text, True),
    (Check.reload_and_files_keep_pictures, True),
    (Check.recordings_go_along, True),
    (Check.files_that_are_none_are_refused, True),
    (Check.the_microphone_records, True),
    (Check.fits_a_phone, False),
    (Check.contrast_and_names, False),
    (Check.nothing_leaves_the_origin, False),
]


def run(check: Check) -> tuple[int, int, int]:
    passed = failed = left_out = 0
    for function, needs_mock in CHECKS:
        name = function.__name__.replace("_", " ")
        if needs_mock and not check.mock:
            left_out += 1
            continue
        began = time.monotonic()
        try:
            function(check)
        except Exception as error:  # noqa: BLE001: every check is to be tried
            failed += 1
            print(f"FAILED  {name}: {error}", flush=True)
            if not isinstance(error, AssertionError):
                traceback.print_exc()
            if check.page is None:
                break
            check.page.complaints.clear()
            check.picture(f"failed-{function.__name__}")
        else:
            passed += 1
            print(f"ok      {name} ({time.monotonic() - began:.1f} s)", flush=True)
    return passed, failed, left_out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a running server; without it page_mock.py answers")
    parser.add_argument("--screenshots", type=pathlib.Path, help="a folder for pictures")
    parser.add_argument("--skip-without-browser", action="store_true", help="exit 0 where no browser is found")
    arguments = parser.parse_args()
    executable = find_browser()
    if executable is None:
        print("skipped: no Chromium or Chrome in PATH (Debian: apt-get install chromium)")
        return 0 if arguments.skip_without_browser else 1
    if arguments.screenshots:
        arguments.screenshots.mkdir(parents=True, exist_ok=True)
    mock = None
    url = arguments.url
    if url is None:
        server = page_mock.start()
        mock = server.RequestHandlerClass.state
        url = f"http://127.0.0.1:{server.server_address[1]}"
    with Browser(executable) as browser:
        check = Check(browser, url.rstrip("/") + "/", mock, arguments.screenshots)
        passed, failed, left_out = run(check)
    skipped = f", {left_out} skipped" if left_out else ""
    print(f"{passed} passed, {failed} failed{skipped}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
