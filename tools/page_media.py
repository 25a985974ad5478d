"""The checks of page_check.py on what goes along with a message: pictures and recordings."""

import base64
import json
import struct

from page_kept import IDLE
from page_probes import DESKTOP, PHONE, TOO_WIDE

SHOWN = "document.querySelectorAll('#tray .chip {}').length"
NOTE = "document.querySelector('#attach-note')"
# A picture of so many pixels as a file; a recording of a second, stereo with one channel silent, at 44.1 kHz.
FILES = """(() => {
  window.pictureFile = async (width, height, type = "image/png", name = "figure.png") => {
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d");
    context.fillStyle = "#27a";
    context.fillRect(0, 0, width / 2, height);
    return new File([await canvas.convertToBlob({ type })], name, { type });
  };
  window.soundFile = (name = "speech.wav") => {
    const [rate, seconds] = [44100, 1];
    const view = new DataView(new ArrayBuffer(44 + rate * seconds * 4));
    [..."RIFF"].forEach((c, i) => view.setUint8(i, c.charCodeAt(0)));
    [..."WAVEfmt "].forEach((c, i) => view.setUint8(8 + i, c.charCodeAt(0)));
    [..."data"].forEach((c, i) => view.setUint8(36 + i, c.charCodeAt(0)));
    view.setUint32(4, view.byteLength - 8, true);
    view.setUint32(16, 16, true);
    view.setUint16(20, 1, true);
    view.setUint16(22, 2, true);
    view.setUint32(24, rate, true);
    view.setUint32(28, rate * 4, true);
    view.setUint16(32, 4, true);
    view.setUint16(34, 16, true);
    view.setUint32(40, rate * seconds * 4, true);
    for (let i = 0; i < rate * seconds; i += 1) view.setInt16(44 + 4 * i, 8000 * Math.sin((i / rate) * 2 * Math.PI * 440), true);
    return new File([view.buffer], name, { type: "audio/wav" });
  };
  window.carrying = (files) => {
    const data = new DataTransfer();
    for (const file of files) data.items.add(file);
    return data;
  };
  window.pick = (files) => {
    const field = document.querySelector("#attach-file");
    field.files = window.carrying(files).files;
    field.dispatchEvent(new Event("change"));
  };
  window.drop = (files) => {
    const to = { dataTransfer: window.carrying(files), bubbles: true, cancelable: true };
    for (const name of ["dragenter", "dragover", "drop"]) document.querySelector("#log").dispatchEvent(new DragEvent(name, to));
  };
  window.paste = (files) => {
    const from = { clipboardData: window.carrying(files), bubbles: true, cancelable: true };
    document.querySelector("#message").dispatchEvent(new ClipboardEvent("paste", from));
  };
})()"""


class MediaChecks:
    def model(self, name: str):
        self.page.evaluate(f"""var field = document.querySelector('#model'); field.value = {json.dumps(name)};
            field.dispatchEvent(new Event('input'))""")

    def shown(self, tag: str, count: int):
        self.page.wait(f"{SHOWN.format(tag)} === {count}")

    def said(self, part: str):
        self.page.wait(f"!{NOTE}.hidden && {NOTE}.textContent.includes({json.dumps(part)})")

    def sent(self):
        return self.mock.requests[-1]["body"]["messages"]

    def text_models_offer_no_files(self):
        page = self.page
        page.click("#tab-chat")
        self.clear()
        page.evaluate(FILES)
        hidden = "document.querySelector('#{}').hidden"
        self.model("glm-4-9b-chat")
        assert page.evaluate(hidden.format("attach")) and page.evaluate(hidden.format("record"))
        page.evaluate("pictureFile(40, 30).then((file) => drop([file]))")
        self.said("does not take pictures")
        page.evaluate("paste([soundFile()])")
        self.said("does not take recordings")
        assert page.evaluate("document.querySelector('#tray').hidden")
        self.clean()

    def pictures_go_along(self):
        page = self.page
        self.model("glm-4.1v-9b")
        assert not page.evaluate("document.querySelector('#attach').hidden")
        assert page.evaluate("document.querySelector('#attach-file').accept") == "image/*"
        page.evaluate("pictureFile(3000, 2000).then((file) => pick([file]))")
        self.shown("img", 1)
        page.evaluate("pictureFile(64, 48, 'image/jpeg', 'photo.jpg').then((file) => drop([file]))")
        self.shown("img", 2)
        page.evaluate("pictureFile(8, 8).then((file) => paste([file]))")
        self.shown("img", 3)
        self.picture("desktop-attached")
        page.click("#tray .chip:last-child .chip-remove")
        self.shown("img", 2)
        self.ask("What is in these?")
        parts = self.sent()[-1]["content"]
        assert [part["type"] for part in parts] == ["image_url", "image_url", "text"], parts
        urls = [part["image_url"]["url"] for part in parts[:2]]
        assert urls[0].startswith("data:image/png;base64,") and urls[1].startswith("data:image/jpeg;base64,")
        width, height = struct.unpack(">II", base64.b64decode(urls[0].split(",")[1])[16:24])
        assert (width, height) == (1358, 905), (width, height)  # as many pixels as 1280 x 960
        assert parts[2]["text"] == "What is in these?"
        assert page.evaluate("document.querySelectorAll('.message.user .media img').length") == 2
        self.picture("desktop-pictures")
        self.ask("and now?")
        told = self.sent()
        assert len(told[0]["content"]) == 3 and told[2]["content"] == "and now?", told[2]
        self.clean()

    def a_picture_needs_no_text(self):
        page = self.page
        self.clear()
        assert page.evaluate("document.querySelector('#send').disabled")
        page.evaluate("pictureFile(8, 8).then((file) => pick([file]))")
        self.shown("img", 1)
        page.click("#send")
        page.wait(f"document.querySelectorAll('.message').length === 2 && {IDLE}")
        assert [part["type"] for part in self.sent()[-1]["content"]] == ["image_url"]

    def reload_and_files_keep_pictures(self):
        page = self.page
        source = page.evaluate("document.querySelector('.message.user img').src")
        page.reload()
        page.evaluate(FILES)
        page.wait("document.querySelector('#model').options.length > 1")
        assert page.evaluate("document.querySelector('.message.user img').src") == source
        hostile = {"format": "lightglm-conversation", "messages": [{"role": "user", "content": "x", "media": [
            {"kind": "image", "name": "<b>", "url": "https://example.com/a.png"}, {"kind": "script", "url": "data:,"},
            {"kind": "audio", "name": "y", "url": "javascript:alert(1)"}, None, 5]}]}
        page.evaluate(f"""(async () => {{ const {{ fromJson, contentOf }} = await import('/page/conversation.js');
            const [message] = fromJson({json.dumps(json.dumps(hostile))});
            window.cleaned = {{ urls: message.media.map((item) => item.url), content: contentOf(message) }}; }})()""")
        assert page.evaluate("window.cleaned") == {"urls": ["", ""], "content": "x"}
        self.clean()

    def recordings_go_along(self):
        page = self.page
        self.clear()
        self.model("glm-asr-nano")
        page.evaluate("pick([soundFile()])")
        self.shown("audio", 1)
        self.picture("desktop-recording")
        self.ask("What is said?")
        parts = self.sent()[-1]["content"]
        assert [part["type"] for part in parts] == ["input_audio", "text"], parts
        assert parts[0]["input_audio"]["format"] == "wav"
        wav = base64.b64decode(parts[0]["input_audio"]["data"])
        channels, rate, _, _, bits = struct.unpack("<HIIHH", wav[22:36])
        samples = struct.unpack(f"<{(len(wav) - 44) // 2}h", wav[44:])
        assert (channels, rate, bits) == (1, 16000, 16) and abs(len(samples) - 16000) < 8, (rate, len(samples))
        assert 3900 < max(samples) < 4100, max(samples)  # the other channel is silent
        self.clean()

    def files_that_are_none_are_refused(self):
        page = self.page
        self.model("glm-asr-nano")
        page.evaluate("pick([new File(['RIFF and nothing'], 'noise.wav', { type: 'audio/wav' })])")
        self.said("noise.wav cannot be read as a recording")
        page.evaluate("pick([new File(['x'], 'notes.txt', { type: 'text/plain' })])")
        self.said("notes.txt is neither")
        self.model("glm-4.1v-9b")
        for name, text in (("a.png", "no picture"), ("b.svg", "<svg xmlns='http://www.w3.org/2000/svg' onload='window.injected=1'/>")):
            kind = "image/svg+xml" if name.endswith("svg") else "image/png"
            page.evaluate(f"pick([new File([{json.dumps(text)}], {json.dumps(name)}, {{ type: '{kind}' }})])")
            self.said(f"{name} cannot be read as a picture")
        assert page.evaluate("document.querySelector('#tray').hidden && window.injected === undefined")
        page.evaluate("Promise.all([...Array(20)].map((_, n) => pictureFile(4, 4, 'image/png', `${n}.png`))).then(pick)")
        self.said("at most 16 files")
        self.shown("img", 16)
        page.viewport(*PHONE, phone=True)
        found = page.evaluate(TOO_WIDE)
        assert found == [], found
        self.picture("phone-attached")
        page.viewport(*DESKTOP)
        page.evaluate("document.querySelectorAll('#tray .chip-remove').forEach((button) => button.click())")
        assert page.evaluate("document.querySelector('#tray').hidden")
        self.clean()

    def the_microphone_records(self):
        page = self.page
        self.model("glm-asr-nano")
        for cancelled in (True, False):
            page.click("#record")
            page.wait("document.querySelector('#tray .recording')?.textContent.includes('0:01')")
            assert page.evaluate("document.querySelector('#send').disabled")
            if cancelled:
                page.focus("#message")
                page.key("Escape")
                page.wait("document.querySelector('#tray').hidden")
            else:
                self.picture("desktop-recording-now")
                page.click("#record")
                self.shown("audio", 1)
        self.ask("What was that?")
        wav = base64.b64decode(self.sent()[-1]["content"][0]["input_audio"]["data"])
        seconds = (len(wav) - 44) / 32000
        assert 0.8 < seconds < 5, seconds
        self.clean()
        self.model("glm-4-9b-chat")
        self.clear()
