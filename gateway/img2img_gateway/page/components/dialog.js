/** A modal dialog: the browser's own, which keeps the focus inside and gives it back, and closes on Escape. */
import { html, useId, useLayoutEffect, useRef } from "../html.js";
import { app } from "../strings.js";
import { Button } from "./button.js";

/** `actions` stand below, the last one at the right. `wide`: as large as the window. */
export function Dialog({ title, onClose, actions, wide = false, children }) {
  const element = useRef();
  const id = useId();
  // open before those who use it look for a place in it to focus
  useLayoutEffect(() => {
    const dialog = element.current;
    dialog.showModal();
    return () => dialog.close();
  }, []);
  // not the browser's own way, which closes on a second Escape whatever the first was answered with
  const pressed = (event) => {
    if (event.key !== "Escape" || event.defaultPrevented) return;
    event.preventDefault();
    event.stopPropagation();
    onClose();
  };
  const outside = (event) => event.target === element.current && onClose();
  return html`<dialog class=${wide ? "wide" : ""} ref=${element} aria-labelledby=${id} onClick=${outside} onKeyDown=${pressed}
    onCancel=${(event) => { event.preventDefault(); onClose(); }}>
    <div class="dialog">
      <header><h2 id=${id}>${title}</h2><${Button} kind="quiet" icon="cancel" label=${app.close} onClick=${onClose} /></header>
      <div class="content">${children}</div>
      ${actions && html`<footer>${actions}</footer>`}
    </div>
  </dialog>`;
}
