/** A labelled control with its help and its error, all of them tied together for screen readers. */
import { html, useId } from "../html.js";

/** `children` is a function, which gets what the control is to be given: id, aria-describedby, aria-invalid. */
export function Field({ label, help, error, hidden = false, children }) {
  const id = useId();
  const described = [help && `${id}-help`, error && `${id}-error`].filter(Boolean).join(" ");
  const given = { id, "aria-describedby": described || undefined, "aria-invalid": error ? "true" : undefined };
  return html`<div class="field">
    <label for=${id} class=${hidden ? "unseen" : ""}>${label}</label>
    ${children(given)}
    ${help && html`<p class="help" id="${id}-help">${help}</p>`}
    ${error && html`<p class="error" id="${id}-error">${error}</p>`}
  </div>`;
}
