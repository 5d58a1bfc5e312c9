/** The address bar as state: views are addresses, which can be reloaded, sent to others and gone back from. */
import { html, useEffect, useState } from "./html.js";

const listeners = new Set();
let moves = 0;
const notify = () => {
  moves += 1;
  listeners.forEach((each) => each());
};
window.addEventListener("popstate", notify);

const read = () => ({ path: location.pathname, query: new URLSearchParams(location.search) });

/** Whether another view was shown before: whoever comes from there is led to the new one's heading. */
export const hasMoved = () => moves > 0;

/** Go to another address of this page; `replace`: in place of the present one. */
export function go(address, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", address);
  if (!replace) window.scrollTo(0, 0);
  notify();
}

/** {path, query} of the address bar, again whenever it changes. */
export function useAddress() {
  const [address, setAddress] = useState(read);
  useEffect(() => {
    const changed = () => setAddress(read());
    listeners.add(changed);
    return () => listeners.delete(changed);
  }, []);
  return address;
}

/** A link within this page; one to a new tab, or with a key held down, is the browser's own. */
export function Link({ href, children, ...rest }) {
  const follow = (event) => {
    const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
    if (!plain || event.defaultPrevented) return;
    event.preventDefault();
    go(href);
  };
  return html`<a href=${href} onClick=${follow} ...${rest}>${children}</a>`;
}

/** The parts of `path` that `pattern` names ("/jobs/:job"), as they stand there; null: it is another address. */
export function match(pattern, path) {
  const names = pattern.split("/");
  const parts = path.split("/");
  if (names.length !== parts.length) return null;
  const found = {};
  for (const [at, name] of names.entries()) {
    if (name.startsWith(":") && parts[at]) found[name.slice(1)] = parts[at];
    else if (name !== parts[at]) return null;
  }
  return found;
}
