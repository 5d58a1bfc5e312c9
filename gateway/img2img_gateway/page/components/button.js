/** A button. One without `children` is its icon, and `label` is what a screen reader and a tooltip say. */
import { html, useState } from "../html.js";
import { Icon } from "./icon.js";

/** `kind`: "plain", "primary", "danger" or "quiet". While the promise of `onClick` is open, it is busy. */
export function Button({ kind = "plain", icon, label, children, onClick, busy = false, disabled, ...rest }) {
  const [waits, setWaits] = useState(false);
  const isBusy = busy || waits;
  const clicked = async (event) => {
    if (isBusy) return;
    const done = onClick?.(event);
    if (!done?.then) return;
    setWaits(true);
    try {
      await done;
    } finally {
      setWaits(false);
    }
  };
  const bare = children === undefined;
  return html`<button type="button" class="button ${kind} ${bare ? "bare" : ""}" aria-label=${label}
    title=${bare ? label : undefined} aria-busy=${isBusy || undefined} aria-disabled=${isBusy || undefined}
    disabled=${disabled} onClick=${clicked} ...${rest}>
    ${icon && html`<${Icon} name=${icon} />`}${children}
  </button>`;
}
