/** One job: how it stands, and all its images. */
import { Button } from "../components/button.js";
import { Progress, State } from "../components/state.js";
import { Windowed } from "../components/windowed.js";
import { count, date, since } from "../format.js";
import { html, useCallback, useEffect, useMemo, useState } from "../html.js";
import { useNarrow } from "../narrow.js";
import { Actions, nameOf } from "../queue/actions.js";
import { pace } from "../queue/row.js";
import { Link, go } from "../router.js";
import { IMAGE_STATES } from "../states.js";
import { job as text, queue, states as stateNames } from "../strings.js";
import { Heading } from "../view.js";
import { Cell, imageName } from "./cell.js";
import { useImages } from "./store.js";
import { Viewer } from "./viewer.js";
import { asRanges } from "./ranges.js";

export default function Job({ job: id, query }) {
  const { images, version } = useImages(id);
  const job = images?.job;
  const error = images?.error;
  if (!job) {
    return html`<${Heading} title=${text.title} />${error
      ? html`<div class="warning" role="alert"><p>${error.message}</p></div><p><${Link} href="/">${text.toQueue}<//></p>`
      : html`<p class="loading" role="status">${text.loading}</p>`}`;
  }
  const name = nameOf(job);
  return html`
    <${Heading} title=${name} tab=${name}>
      <a class="button" href=${`/v1/jobs/${id}/results.zip`} download aria-disabled=${!job.done}>${text.downloadAll}</a>
      <${Actions} job=${job} labels onChange=${() => images.look()} onRemove=${() => go("/")} />
      <${Link} class="button primary" href=${`/studio?job=${id}`}>${text.again}<//>
    <//>
    ${error && html`<div class="warning" role="alert"><p>${error.message}</p><${Button} onClick=${() => images.look()}>${queue.again}<//></div>`}
    <${Standing} job=${job} params=${images.params} name=${name} />
    <${Images} images=${images} version=${version} job=${job} query=${query} />`;
}

function Standing({ job, params, name }) {
  const facts = [
    [text.model, job.model],
    [text.owner, job.owner],
    [text.priority, job.priority],
    [text.created, html`<time datetime=${job.created} title=${date(job.created)}>${since(job.created)}</time>`],
    [text.tags, job.tags.join(", ")],
  ];
  return html`<section class="standing card" aria-label=${text.standing}>
    <div class="line"><${State} state=${job.state} /><span class="numbers">${queue.counts(count(job.done), count(job.n))}</span>
      ${job.failed > 0 && html`<span class="bad numbers">${queue.failed(count(job.failed))}</span>`}
      <span class="muted numbers">${pace(job)}</span></div>
    <${Progress} job=${job} label=${queue.progress(name)} />
    ${job.waits_for && html`<p class="muted">${text.waitsFor(job.waits_for)}</p>`}
    ${params.prompt && html`<p class="prompt" dir="auto">${params.prompt}</p>`}
    <dl class="inline">${facts.filter(([, value]) => value || value === 0).map(([label, value]) => html`<div key=${label}><dt>${label}</dt><dd>${value}</dd></div>`)}</dl>
  </section>`;
}

function Images({ images, version, job, query }) {
  const narrow = useNarrow();
  const [tab, setTab] = useState("");
  const [chosen, setChosen] = useState(() => new Set());
  const indexes = useMemo(() => (tab ? images.of(tab) : null), [images, version, tab]);
  const total = indexes ? indexes.length : job.n;
  const at = useCallback((place) => (indexes ? indexes[place] : place), [indexes]);
  const seen = useCallback((first, end) => {
    const shown = [];
    for (let place = first; place < end; place += 1) shown.push(at(place));
    images.name(shown, tab);
  }, [images, at, tab]);
  const perInput = images.params.images_per_input;
  const stateOf = (index) => IMAGE_STATES[images.states[index]] ?? "pending";
  const nameOfImage = (index) => imageName(images.known.get(index), index, perInput);
  const address = (index) => `/jobs/${job.id}?image=${index}`;
  const choose = (index) => setChosen((before) => {
    const next = new Set(before);
    if (!next.delete(index)) next.add(index);
    return next;
  });
  const cell = (place) => {
    const index = at(place);
    return html`<${Cell} job=${job} index=${index} perInput=${perInput} state=${stateOf(index)} image=${images.known.get(index)} name=${nameOfImage(index)}
      chosen=${chosen.has(index)} onChoose=${() => choose(index)} href=${address(index)} />`;
  };
  const open = query.has("image") ? Number(query.get("image")) : null;
  useEffect(() => {
    if (open !== null) images.name([open], "");
  }, [open]);
  const step = (by, asks = false) => {
    const place = (indexes ? indexes.indexOf(open) : open) + by;
    const isThere = place >= 0 && place < total;
    if (isThere && !asks) go(address(at(place)), { replace: true });
    return isThere;
  };
  const counts = { pending: job.n - job.done - job.failed - job.running - job.cancelled, ...job };
  const tabs = ["", ...IMAGE_STATES.filter((state) => counts[state] > 0 || state === tab)];
  return html`
    <div class="toolbar">
      <div class="tabs" role="group" aria-label=${text.filter}>${tabs.map((state) => html`<button key=${state} type="button" aria-pressed=${tab === state}
        onClick=${() => setTab(state)}>${state ? stateNames[state] : text.all} <span class="numbers">${count(state ? Math.max(0, counts[state]) : job.n)}</span></button>`)}</div>
      ${chosen.size > 0 && html`<div class="chosen-bar" role="status"><span class="numbers">${text.chosen(count(chosen.size))}</span>
        <a class="button" href=${`/v1/jobs/${job.id}/results.zip?only=${asRanges(chosen)}`} download>${text.downloadChosen}</a>
        <${Button} kind="quiet" onClick=${() => setChosen(new Set())}>${text.clear}<//></div>`}
    </div>
    <div class="images"><${Windowed} key=${tab} label=${text.images} count=${total} width=${narrow ? 110 : 176} height=${narrow ? 150 : 216} arrows
      render=${cell} onRange=${seen} keyOf=${at} /></div>
    ${open !== null && open < job.n && html`<${Viewer} job=${job} index=${open} state=${stateOf(open)} name=${nameOfImage(open)}
      onStep=${step} onClose=${() => go(`/jobs/${job.id}`, { replace: true })} />`}`;
}
