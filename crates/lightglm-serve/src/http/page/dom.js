// Building elements. Text becomes text nodes and nothing else: there is no innerHTML on this page.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes (an `on…` function listens, `class` and the rest are set) and children. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A picture of the sprite at the end of index.html; decoration, so hidden from screen readers. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** Calls `work` at most once per frame, or four times a second while the page cannot be seen. */
export function oncePerFrame(work) {
  let scheduled = false;
  const run = () => {
    scheduled = false;
    work();
  };
  return () => {
    if (scheduled) return;
    scheduled = true;
    if (document.hidden) setTimeout(run, 250);
    else requestAnimationFrame(run);
  };
}

/** Puts text on the clipboard; also where the page came over plain HTTP from another machine. */
export async function copyText(text) {
  if (navigator.clipboard && window.isSecureContext) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Not permitted: the old way may be.
    }
  }
  const area = h("textarea", { class: "offscreen", "aria-hidden": "true", tabindex: "-1" });
  const focused = document.activeElement;
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return done;
}

/** Hands a text to the reader as a file. */
export function download(name, type, text) {
  const href = URL.createObjectURL(new Blob([text], { type }));
  const link = h("a", { href, download: name, hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}

/** A button that copies what `text()` gives and says so for a moment. */
export function copyButton(text, label, done, setText) {
  const caption = h("span");
  setText(caption, label);
  const button = h("button", { type: "button", class: "quiet" }, icon("copy"), caption);
  let timer = 0;
  button.addEventListener("click", async () => {
    if (!(await copyText(text()))) return;
    setText(caption, done);
    clearTimeout(timer);
    timer = setTimeout(() => setText(caption, label), 1500);
  });
  return button;
}
