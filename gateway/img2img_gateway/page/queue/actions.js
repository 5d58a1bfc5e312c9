/** What can be done to a job, by its state; those that cannot be undone are asked about before. */
import { post, remove } from "../api.js";
import { Button } from "../components/button.js";
import { Dialog } from "../components/dialog.js";
import { orSay, toast } from "../components/toast.js";
import { count } from "../format.js";
import { html, useState } from "../html.js";
import { app, queue as text } from "../strings.js";

export const nameOf = (job) => job.name ?? text.unnamed(job.id);

const ACTIONS = {
  pause: { icon: "pause", label: text.pause },
  resume: { icon: "play", label: text.resume },
  retry: { icon: "repeat", label: text.retry },
  cancel: { icon: "cancel", label: text.cancel, kind: "danger", asks: (job) => text.cancelAsk(nameOf(job), count(job.pending + job.running)) },
  remove: { icon: "trash", label: text.remove, kind: "danger", asks: (job) => text.removeAsk(nameOf(job), count(job.done)) },
};

function possible(job) {
  const found = [];
  if (["pending", "running"].includes(job.state)) found.push("pause");
  if (job.state === "paused") found.push("resume");
  if (job.failed > 0 && job.state !== "cancelled") found.push("retry");
  found.push(job.finished ? "remove" : "cancel");
  return found;
}

/** `onChange` is called when an action has changed the job, `onRemove` when it is gone. `labels`: with words. */
export function Actions({ job, onChange, onRemove, labels = false }) {
  const [asked, setAsked] = useState(null);
  const run = (name) => orSay(async () => {
    const address = `/v1/jobs/${job.id}`;
    if (name === "remove") {
      await remove(address);
      toast(text.removed(nameOf(job)));
      return onRemove();
    }
    const { changed } = await post(`${address}/${name}`);
    if (name === "retry") toast(text.retried(count(changed)));
    return onChange();
  });
  const ask = (name) => (ACTIONS[name].asks ? setAsked(name) : run(name));
  return html`<div class="actions">
    ${possible(job).map((name) => {
      const { icon, label, kind } = ACTIONS[name];
      return html`<${Button} key=${name} kind=${labels ? kind : "quiet"} icon=${icon} label=${labels ? undefined : `${label}: ${nameOf(job)}`}
        onClick=${() => ask(name)}>${labels ? label : undefined}<//>`;
    })}
    ${asked && html`<${Dialog} title=${ACTIONS[asked].label} onClose=${() => setAsked(null)} actions=${[
      html`<${Button} onClick=${() => setAsked(null)}>${app.cancel}<//>`,
      html`<${Button} kind="danger" icon=${ACTIONS[asked].icon} onClick=${() => { setAsked(null); return run(asked); }}>${ACTIONS[asked].label}<//>`,
    ]}><p>${ACTIONS[asked].asks(job)}</p><//>`}
  </div>`;
}
