"""The checks of page_check.py on what becomes of a conversation: folded thoughts, files, what is stored."""

import json

import page_mock
from page_probes import OPEN_FILE, SAVED_FILE

ANSWER = "document.querySelector('.message.model:last-child')"
TEXT = f"({ANSWER}?.querySelector(':scope > .markdown').textContent ?? '')"
IDLE = "document.querySelector('#stop').hidden"


class KeptChecks:
    def thoughts_are_folded(self):
        page = self.page
        self.clear()
        self.say("think first")
        thoughts = f"{ANSWER}?.querySelector('.thoughts')"
        page.wait(f"{thoughts}?.open && {thoughts}.textContent.includes('Two points')")
        assert "Thinking" in page.evaluate(f"{thoughts}.querySelector('summary').textContent")
        self.picture("desktop-thinking")
        page.wait(f"{IDLE} && document.querySelectorAll('.message').length === 2", 60)
        assert page.evaluate(f"{thoughts}.open") is False
        assert page.evaluate(f"{thoughts}.querySelectorAll('li').length") == 2
        page.evaluate(f"{thoughts}.querySelector('summary').click()")
        assert page.evaluate(f"{thoughts}.open") is True
        page.evaluate(f"{thoughts}.scrollIntoView()")
        self.picture("desktop-thought")
        assert "Two points" not in page.evaluate(f"{ANSWER}.querySelector(':scope > .markdown').textContent")
        self.ask("and then?")
        told = json.dumps(self.mock.requests[-1]["body"]["messages"])
        assert "Two points" not in told, "what the model thought was sent back"

    def files_hold_the_conversation(self):
        page = self.page
        self.clear()
        self.ask("think, then use no tool")
        before = page.evaluate("document.querySelector('#log').textContent")
        name, text = page.evaluate(f"{SAVED_FILE}('export-markdown')")
        assert name.endswith(".md") and "## You" in text and "think, then use no tool" in text, text[:200]
        if self.mock:
            assert "> What the model thought" in text and page_mock.MARKDOWN.strip() in text, text
        name, text = page.evaluate(f"{SAVED_FILE}('export-json')")
        assert name.endswith(".json") and len(json.loads(text)["messages"]) == 2, text[:200]
        self.clear()
        for wrong in ("", "[1", '{"format":"other","messages":[]}', '{"format":"lightglm-conversation","messages":[{"role":"x"}]}'):
            page.evaluate("document.querySelector('#import-note').textContent = ''")
            page.evaluate(f"{OPEN_FILE}({json.dumps(wrong)})")
            page.wait("document.querySelector('#import-note').textContent.includes('holds no conversation')")
            assert page.evaluate("document.querySelectorAll('.message').length") == 0
        page.evaluate(f"{OPEN_FILE}({json.dumps(text)})")
        page.wait("document.querySelectorAll('.message').length === 2")
        after = page.evaluate("document.querySelector('#log').textContent")
        assert after == before, (before, after)
        self.clean()

    def broken_storage_is_survived(self):
        page = self.page
        broken = ["{", '"text"', "[null]", '{"__proto__":{"a":1}}', """[{"role":"assistant","content":{},"tools":[null,5],
            "stats":{"ttft":"x"},"failure":{"retryAt":"x"}}]"""]
        for value in broken:
            page.evaluate(f"""for (const name of ['chat', 'settings', 'answer'])
                sessionStorage.setItem('lightglm.' + name, {json.dumps(value)});""")
            page.evaluate("addEventListener('pagehide', (event) => event.stopImmediatePropagation(), true)")
            page.reload()
            page.wait("!document.querySelector('#model').disabled")
            self.clean()
        if not self.mock:
            self.limit("48")
        self.clear()
        self.ask("hello")
        self.clean()

    def nothing_is_kept_if_told(self):
        page = self.page
        kept = "Object.keys(sessionStorage).filter((name) => name.startsWith('lightglm.'))"
        page.click("#keep")
        self.ask("hello")
        assert page.evaluate(kept) == []
        page.reload()
        page.wait("!document.querySelector('#model').disabled")
        assert page.evaluate("document.querySelectorAll('.message').length") == 0
        assert page.evaluate("document.querySelector('#keep').checked") is False
        assert page.evaluate(kept) == []
        if not self.mock:
            self.limit("48")
        page.click("#keep")
        self.ask("hello")
        assert "lightglm.chat" in page.evaluate(kept)
