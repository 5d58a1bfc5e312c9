/** The workers that live. */
import { get } from "../api.js";
import { orSay } from "../components/toast.js";
import { bytes, count, rough } from "../format.js";
import { html, useEffect, useState } from "../html.js";
import { queue, workers as text } from "../strings.js";
import { Heading } from "../view.js";

export default function Workers() {
  const [workers, setWorkers] = useState(null);
  useEffect(() => void orSay(async () => setWorkers(await get("/v1/workers"))), []);
  return html`<${Heading} title=${text.title} />
    ${workers?.length === 0 && html`<div class="empty"><h2>${text.none}</h2><p>${text.noneHelp}</p></div>`}
    <ul class="workers">${workers?.map((each) => html`<li class="card" key=${each.id}><${Worker} worker=${each} /></li>`)}</ul>`;
}

function Worker({ worker }) {
  const used = worker.device_memory_total
    ? `${bytes(worker.device_memory)} / ${bytes(worker.device_memory_total)}`
    : bytes(worker.memory);
  const facts = [
    [text.model, worker.model],
    [text.device, worker.device],
    [text.running, `${count(worker.running)} / ${count(worker.slots)}`],
    [text.speed, queue.rate(rough(worker.rate))],
    [text.memory, used],
  ];
  return html`<h2 class="cut">${worker.id}</h2>
    ${worker.trouble && html`<p class="warning">${worker.trouble}</p>`}
    <dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd class="numbers">${value}</dd></div>`)}</dl>`;
}
