/** A job that was sent, as its results come in. */
import { follow, post } from "../api.js";
import { Button } from "../components/button.js";
import { Progress, State } from "../components/state.js";
import { orSay } from "../components/toast.js";
import { html, useEffect, useState } from "../html.js";
import { Preview } from "../job/cell.js";
import { Link } from "../router.js";
import { ENDED } from "../states.js";
import { studio as text } from "../strings.js";

/** Results that are shown: the latest. The job's own view has all. */
const SHOWN = 24;
/** Results up to which they are shown in their full size. */
const FEW = 4;
/** Images under way that are looked at. */
const LOOKS = 4;

/** `sent`: {job, axes}, what `send` gave, and the labels of a grid. `onUse` gets the address of a result. */
export function Results({ sent, onUse }) {
  const { job, axes } = sent;
  const [now, setNow] = useState({ ...job, images: {}, latest: [] });
  useEffect(() => {
    const told = (update) => setNow((old) => withUpdate(old, update));
    const close = follow(() => `/v1/jobs/${job.id}/events`, {
      news: told,
      end: (update) => {
        close();
        told(update);
      },
    });
    return close;
  }, []);
  return html`<section class="card results" aria-labelledby="results">
    <header><h2 id="results" tabindex="-1">${text.results}</h2><${State} state=${now.state} />
      <${Link} href="/jobs/${job.id}">${text.openJob}<//></header>
    <${Progress} job=${now} label=${text.progress} />
    <p class="numbers" role="status">${text.counts(now.done, now.n, now.failed)}</p>
    ${!ENDED.includes(now.state) && html`<${Button} icon="cancel" onClick=${() => orSay(() => post(`/v1/jobs/${job.id}/cancel`))}>${text.cancelJob}<//>`}
    ${Object.entries(now.images).filter(([, each]) => each.state === "failed").slice(0, 5).map(([index, each]) => html`
      <p class="error" key=${index}>${text.failed(Number(index) + 1, each.reason)}</p>`)}
    ${axes ? html`<${Table} job=${now} axes=${axes} onUse=${onUse} />` : html`<${Latest} job=${now} onUse=${onUse} />`}
  </section>`;
}

function withUpdate(old, { events, ...counts }) {
  const images = { ...old.images };
  let { latest } = old;
  for (const { index, state, reason } of events) {
    if (index === null) continue;
    images[index] = { state, reason };
    if (state === "done") latest = [index, ...latest.filter((each) => each !== index)].slice(0, SHOWN);
  }
  return { ...old, ...counts, images, latest };
}

const picture = (job, index) => `/v1/jobs/${job.id}/images/${index}/picture`;
/** Of many results, the small ones. */
const shownOf = (job, index) => (job.n > FEW ? `/v1/jobs/${job.id}/images/${index}/thumbnail?size=512` : picture(job, index));
/** Images under way that are looked at. */
const lookedAt = (job) =>
  Object.entries(job.images)
    .filter(([, each]) => each.state === "running")
    .map(([index]) => Number(index))
    .slice(0, LOOKS);

function Latest({ job, onUse }) {
  return html`<ul class="pictures-grid">
    ${lookedAt(job).map((index) => html`<li key=${index}><${UnderWay} job=${job} index=${index} /></li>`)}
    ${job.latest.map((index) => html`<li key=${index}><${Result} ...${{ job, index, onUse }} /></li>`)}
  </ul>`;
}

function Result({ job, index, onUse, label = text.resultOf(index + 1) }) {
  return html`<figure class="result"><a href=${picture(job, index)} target="_blank" rel="noopener"><img src=${shownOf(job, index)}
    alt=${label} loading="lazy" /></a>
    <${Button} kind="quiet" icon="repeat" label=${text.useResult(label)} onClick=${() => onUse(picture(job, index), index)} /></figure>`;
}

/** An image under way. */
const UnderWay = ({ job, index }) => html`<figure class="result under-way"><${Preview} job=${job.id} index=${index} alt="" />
  <figcaption>${text.underWay(index + 1)}</figcaption></figure>`;

/** A grid's results, by its axes: a table for each picture. */
function Table({ job, axes, onUse }) {
  const columns = axes.x.values.length || 1;
  const rows = axes.y.values.length || 1;
  const each = job.n / axes.pictures.length;
  const perCell = each / (columns * rows);
  const looks = lookedAt(job);
  return axes.pictures.map((path, which) => html`<div class="grid-table" key=${which} tabindex="0" role="region" aria-label=${text.gridOf(path)}>
    <table><caption>${path}</caption>
      <thead><tr><td></td>${axes.x.values.map((value) => html`<th scope="col">${axes.x.title} ${String(value)}</th>`)}
        ${!axes.x.values.length && html`<th scope="col">${text.result}</th>`}</tr></thead>
      <tbody>${Array.from({ length: rows }, (_, row) => html`<tr key=${row}>
        <th scope="row">${axes.y.values.length ? `${axes.y.title} ${axes.y.values[row]}` : ""}</th>
        ${Array.from({ length: columns }, (__, column) => {
          const index = which * each + (row * columns + column) * perCell;
          const state = job.images[index]?.state;
          return html`<td key=${column}>${state === "done" ? html`<${Result} ...${{ job, index, onUse }} label=${cellLabel(axes, row, column)} />`
            : looks.includes(index) ? html`<${UnderWay} job=${job} index=${index} />` : html`<span class="muted">${text.cell(state)}</span>`}</td>`;
        })}</tr>`)}</tbody></table></div>`);
}

function cellLabel({ x, y }, row, column) {
  const parts = [x.values.length && `${x.title} ${x.values[column]}`, y.values.length && `${y.title} ${y.values[row]}`];
  return parts.filter(Boolean).join(", ");
}
