/** Short messages of what has happened, read out by screen readers; errors stay until they are dismissed. */
import { html, useEffect, useState } from "../html.js";
import { app } from "../strings.js";
import { Button } from "./button.js";

const SHOWN = 5000;
let nextId = 0;
let add = () => {};

/** Say `message`. `kind`: "info" or "error". */
export const toast = (message, kind = "info") => add({ id: nextId++, message, kind });

/** Run `action`; what it throws is said. Gives whether it went well. */
export async function orSay(action) {
  try {
    await action();
    return true;
  } catch (error) {
    toast(error.message, "error");
    return false;
  }
}

export function Toasts() {
  const [shown, setShown] = useState([]);
  const drop = (id) => setShown((all) => all.filter((each) => each.id !== id));
  useEffect(() => {
    add = (one) => {
      setShown((all) => [...all.slice(-3), one]);
      if (one.kind !== "error") setTimeout(() => drop(one.id), SHOWN);
    };
  }, []);
  const of = (kind) => shown.filter((each) => each.kind === kind).map((each) => html`<div class="toast ${kind}" key=${each.id}>
    <p>${each.message}</p><${Button} kind="quiet" icon="cancel" label=${app.dismiss} onClick=${() => drop(each.id)} />
  </div>`);
  return html`<div class="toasts"><div role="status">${of("info")}</div><div role="alert">${of("error")}</div></div>`;
}
