// What a reload must not lose. It stays in the tab: sessionStorage, which no other tab shares and which is gone
// when the tab closes. Nothing of it is kept if the user says so; that choice alone outlives the tab.

const PREFIX = "lightglm.";
const CHOICE = "lightglm.keep";
const MAX_CHARACTERS = 2_000_000; // of one entry; browsers give an origin some 5 million

/** May anything be kept? */
export function isKept() {
  try {
    return localStorage.getItem(CHOICE) !== "no";
  } catch {
    return true;
  }
}

/** Keeps things from now on, or forgets what there is. */
export function setKept(kept) {
  try {
    if (kept) localStorage.removeItem(CHOICE);
    else localStorage.setItem(CHOICE, "no");
    if (kept) return;
    const names = Array.from({ length: sessionStorage.length }, (_, index) => sessionStorage.key(index));
    for (const name of names) if (name.startsWith(PREFIX)) sessionStorage.removeItem(name);
  } catch {
    // No storage, nothing to forget.
  }
}

export function load(name, fallback) {
  try {
    return JSON.parse(sessionStorage.getItem(PREFIX + name)) ?? fallback;
  } catch {
    return fallback;
  }
}

/** Keeps a value; says whether it did: it is not too large, and keeping is allowed. */
export function save(name, value) {
  if (!isKept()) return false;
  try {
    const text = JSON.stringify(value);
    if (text.length > MAX_CHARACTERS) return false;
    sessionStorage.setItem(PREFIX + name, text);
    return true;
  } catch {
    return false; // Full or forbidden: the page works on without it.
  }
}

/** Keeps as many items at the end of a list as there is room for. */
export function saveLast(name, items) {
  for (let from = 0; from <= items.length; from += Math.max(1, Math.ceil((items.length - from) / 2))) {
    if (save(name, items.slice(from))) return;
    if (!isKept()) return;
  }
}
