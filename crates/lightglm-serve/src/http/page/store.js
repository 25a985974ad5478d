// What a reload must not lose. It stays in the tab: sessionStorage, gone when the tab closes.

const PREFIX = "lightglm.";

export function load(name, fallback) {
  try {
    return JSON.parse(sessionStorage.getItem(PREFIX + name)) ?? fallback;
  } catch {
    return fallback;
  }
}

export function save(name, value) {
  try {
    sessionStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // Full or forbidden: the page works on without it.
  }
}
