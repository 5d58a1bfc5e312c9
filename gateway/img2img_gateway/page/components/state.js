/** How a job or an image stands: its state in words, and its counts as a bar. */
import { count } from "../format.js";
import { html } from "../html.js";
import { states } from "../strings.js";

export function State({ state }) {
  return html`<span class="state ${state}">${states[state] ?? state}</span>`;
}

/** The counts of `job` beside each other; `label` says them. */
export function Progress({ job, label }) {
  const share = (value) => ({ width: `${(100 * value) / job.n}%` });
  return html`<div class="progress" role="progressbar" aria-label=${label} aria-valuemin="0" aria-valuemax=${job.n}
    aria-valuenow=${job.done} aria-valuetext="${count(job.done)} / ${count(job.n)}">
    <i class="done" style=${share(job.done)} /><i class="failed" style=${share(job.failed)} />
    <i class="running" style=${share(job.running)} />
  </div>`;
}
