/** The jobs, newest first. */
import { get } from "../api.js";
import { Progress, State } from "../components/state.js";
import { orSay } from "../components/toast.js";
import { Windowed } from "../components/windowed.js";
import { count, duration, rough } from "../format.js";
import { html, useEffect, useState } from "../html.js";
import { Link } from "../router.js";
import { queue as text } from "../strings.js";
import { Heading } from "../view.js";

export default function Queue() {
  const [jobs, setJobs] = useState(null);
  useEffect(() => void orSay(async () => setJobs((await get("/v1/jobs?limit=1000")).jobs)), []);
  return html`<${Heading} title=${text.title} />
    ${jobs?.length === 0 && html`<div class="empty"><h2>${text.none}</h2><p>${text.noneHelp}</p></div>`}
    ${jobs?.length > 0 && html`<${Windowed} label=${text.list} count=${jobs.length} height=${80} arrows
      keyOf=${(at) => jobs[at].id} render=${(at) => html`<${Job} job=${jobs[at]} />`} />`}`;
}

function Job({ job }) {
  const name = job.name ?? text.unnamed(job.id);
  return html`<article class="job">
    <div class="cut"><${Link} href=${`/jobs/${job.id}`}>${name}<//><div class="muted cut">${job.model}</div></div>
    <div><${Progress} job=${job} label=${text.progress(name)} />
      <span class="muted numbers">${text.counts(count(job.done), count(job.n))}
        ${job.failed > 0 && html` · <span class="bad">${text.failed(count(job.failed))}</span>`}</span></div>
    <div><${State} state=${job.state} /><div class="muted numbers">${job.state === "running" && job.rate > 0 && text.rate(rough(60 * job.rate))}
      ${job.eta != null && ` · ${text.eta(duration(job.eta))}`}</div></div>
  </article>`;
}
