"""Scripts that page_check.py runs in the page, each an expression whose value it looks at."""

# What a relative luminance ratio must be for text: WCAG 2.2, 1.4.3, level AA.
CONTRAST = 4.5

# Seconds that an answer takes to show a piece at a time, in each shape that could be quadratic.
LONG_ANSWERS = """(async () => {
    const { MarkdownView } = await import(new URL('page/render.js', location.href));
    const shapes = { code: ['```\\n', 'let x = 1; // line\\n'], paragraphs: ['', 'Some **text** here.\\n\\n'],
        list: ['', '- an item with `code`\\n'], table: ['| a | b |\\n|---|---|\\n', '| x | **y** |\\n'],
        paragraph: ['', 'Some **text** and `code`. '], nested: ['> 1. a\\n', '>    - b **c**\\n'] };
    const out = {};
    for (const [name, [head, row]] of Object.entries(shapes)) {
        const view = new MarkdownView(document.createElement('div'));
        const start = performance.now();
        view.push(head);
        const rows = 60 * 1024 / row.length;
        for (let n = 0; n < rows; n += 1) { view.push(row); view.update(); }
        view.update(true);
        out[name] = (performance.now() - start) / 1000;
    }
    return out;
})()"""

# Whether an answer shown in pieces looks as one that is shown at once: the texts where it does not.
SHOWN_OTHERWISE = """(async (text) => {
    const { MarkdownView, renderMarkdown } = await import(new URL('page/render.js', location.href));
    const whole = document.createElement('div');
    renderMarkdown(whole, text);
    const wrong = [];
    for (const size of [1, 2, 3, 7, 50]) {
        const element = document.createElement('div');
        const view = new MarkdownView(element);
        for (let at = 0; at < text.length; at += size) { view.push(text.slice(at, at + size)); view.update(); }
        view.update(true);
        if (element.outerHTML !== whole.outerHTML) wrong.push(size);
    }
    return wrong;
})"""

# What the page would save as a file, once the element with this id was clicked: its name and its text.
SAVED_FILE = """(async (id) => {
    const { createObjectURL } = URL;
    const click = HTMLAnchorElement.prototype.click;
    let blob, name;
    URL.createObjectURL = (given) => { blob = given; return createObjectURL.call(URL, given); };
    HTMLAnchorElement.prototype.click = function () { name = this.download; };
    document.getElementById(id).click();
    URL.createObjectURL = createObjectURL;
    HTMLAnchorElement.prototype.click = click;
    return [name, await blob.text()];
})"""

# Opens a text as if the reader had chosen it as a file.
OPEN_FILE = """((text) => {
    const chosen = new DataTransfer();
    chosen.items.add(new File([text], 'conversation.json'));
    const input = document.querySelector('#import-file');
    input.files = chosen.files;
    input.dispatchEvent(new Event('change'));
})"""

# Whether elements survive what is written after them, one truth for each thing looked at.
KEPT_ELEMENTS = """(async () => {
    const { MarkdownView } = await import(new URL('page/render.js', location.href));
    const element = document.createElement('div');
    const view = new MarkdownView(element);
    view.push('Hello **wor'); view.update();
    const [first, bold] = [element.firstChild, element.querySelector('strong')?.textContent];
    view.push('ld**, more\\n\\n```py\\na = 1\\n'); view.update();
    const code = element.querySelector('pre');
    view.push('b = 2\\n'); view.update();
    view.push('```\\nend'); view.update(); view.update(true);
    return [first === element.firstChild, bold === 'wor', code === element.querySelector('pre'),
        code.textContent === 'a = 1\\nb = 2', element.lastChild.textContent === 'end'];
})()"""

# Keys of strings that one of the languages lacks.
MISSING_STRINGS = """(async () => {
    const { STRINGS } = await import(new URL('page/strings.js', location.href));
    const [en, zh] = [Object.keys(STRINGS.en), Object.keys(STRINGS.zh)];
    const used = [...document.querySelectorAll('[data-text], [data-label], [data-title], [data-placeholder]')]
        .flatMap((element) => ['text', 'label', 'title', 'placeholder'].map((name) => element.dataset[name]))
        .filter(Boolean);
    return [...en.filter((key) => !zh.includes(key)), ...zh.filter((key) => !en.includes(key)),
        ...used.filter((key) => !en.includes(key))];
})()"""

PHONE = (360, 740)
DESKTOP = (1280, 800)

# Elements that reach beyond the screen's width, but for those that scroll by themselves.
TOO_WIDE = """(() => { const width = document.documentElement.clientWidth;
    return [...document.querySelectorAll('body *')].filter((element) => {
        const box = element.getBoundingClientRect();
        const hidden = element.closest('.panel, .offscreen, .sprite, pre, .table, [hidden], svg');
        return !hidden && box.width > 0 && (box.right > width + 0.5 || box.left < -0.5);
    }).map((element) => `${element.tagName}.${element.className}#${element.id}`)
    .concat(document.documentElement.scrollWidth > width ? ['the page'] : []); })()"""

# How much a long answer to a text is taller than its card, which on a phone must hold all of it: there the
# page scrolls.
SPILLED = """(() => { const card = document.querySelector('#result');
    const tall = document.createElement('div'); tall.style.height = '900px'; card.append(tall);
    const spilled = card.scrollHeight - card.clientHeight; tall.remove(); return spilled; })()"""

# Text whose contrast with what is behind it is below CONTRAST. Disabled controls are exempt.
LOW_CONTRAST = f"""(() => {{
    const canvas = document.createElement('canvas').getContext('2d', {{ willReadFrequently: true }});
    const rgba = (colour) => {{
        canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    }};
    const luminance = (colour) => colour.slice(0, 3).map((v) => v / 255)
        .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (element) => {{
        for (; element; element = element.parentElement) {{
            const colour = rgba(getComputedStyle(element).backgroundColor);
            if (colour[3] === 255) return colour;
        }}
        return [255, 255, 255, 255];
    }};
    const low = [];
    for (const element of document.querySelectorAll('body *')) {{
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || element.matches(':disabled') || !element.checkVisibility({{ visibilityProperty: true }})) continue;
        if (element.closest('.offscreen, .skip')) continue;
        const pair = [luminance(rgba(getComputedStyle(element).color)), luminance(behind(element))].sort((a, b) => b - a);
        const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
        if (ratio < {CONTRAST}) low.push(`${{element.tagName}}.${{element.className}} ${{ratio.toFixed(2)}}`);
    }}
    return low;
}})()"""
