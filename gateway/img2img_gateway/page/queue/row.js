/** One job of the queue. */
import { Button } from "../components/button.js";
import { Dialog } from "../components/dialog.js";
import { Progress, State } from "../components/state.js";
import { Thumbnail } from "../components/thumbnail.js";
import { count, duration, rough, since } from "../format.js";
import { html, useState } from "../html.js";
import { Link } from "../router.js";
import { ACTIVE } from "../states.js";
import { queue as text, states } from "../strings.js";
import { Actions, nameOf } from "./actions.js";

/** Its thumbnails change when more is done, but not with each image. */
const shown = (job) => Math.min(job.done, 3);

/** "2 a minute · 3 min left": how fast a job goes, as far as that is known. */
export function pace(job) {
  const parts = [];
  if (job.state === "running" && job.rate > 0) parts.push(text.rate(rough(60 * job.rate)));
  if (job.state === "running" && job.eta != null) parts.push(text.eta(duration(job.eta)));
  return parts.join(" · ");
}

/** `narrowTo`: {owner, tag}, which list only the jobs that have the same. */
export function Row({ job, handle, narrow, dropped, narrowTo, onChange, onRemove }) {
  const [open, setOpen] = useState(false);
  const name = nameOf(job);
  const numbers = narrow || shown(job) < 2 ? [0] : [0, 1, 2].slice(0, shown(job));
  const about = [job.model, job.owner, since(job.created), ...job.tags].filter(Boolean).join(" · ");
  const then = (action) => () => {
    setOpen(false);
    return action();
  };
  const actions = (labels) => html`<${Actions} job=${job} labels=${labels} onChange=${then(onChange)} onRemove=${then(onRemove)} />`;
  return html`<article class="job ${dropped ?? ""}">
    <div class="grip">${ACTIVE.includes(job.state) && handle}</div>
    <div class="stack">${numbers.map((number) => html`<${Thumbnail} key=${number}
      src=${`/v1/jobs/${job.id}/thumbnail?number=${number}&size=128&done=${shown(job)}`} />`)}</div>
    <div class="title"><${Link} href=${`/jobs/${job.id}`} class="cut" dir="auto">${name}<//>
      <div class="muted about" title=${about}><bdi class="cut">${job.model}</bdi>
        ${job.owner && html`<button type="button" class="words cut" title=${text.onlyOwner(job.owner)} onClick=${() => narrowTo.owner(job.owner)}>${job.owner}</button>`}
        <span class="when">${since(job.created)}</span>
        ${job.tags.map((tag) => html`<button key=${tag} type="button" class="words cut" title=${text.onlyTag(tag)} onClick=${() => narrowTo.tag(tag)}>${tag}</button>`)}</div></div>
    <div class="bar-of"><${Progress} job=${job} label=${text.progress(name)} />
      <div class="muted numbers cut">${narrow && `${states[job.state]} · `}${text.counts(count(job.done), count(job.n))}${job.failed > 0
        && html` · <span class="bad">${text.failed(count(job.failed))}</span>`}</div></div>
    <div class="pace"><${State} state=${job.state} /><div class="muted numbers cut">${pace(job)}</div></div>
    ${narrow
      ? html`<${Button} kind="quiet" icon="more" label=${text.more(name)} onClick=${() => setOpen(true)} />`
      : actions(false)}
    ${open && html`<${Dialog} title=${name} onClose=${() => setOpen(false)}>${actions(true)}<//>`}
  </article>`;
}
