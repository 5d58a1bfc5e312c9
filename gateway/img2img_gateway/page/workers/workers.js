/** The workers that live: what they serve, how fast, what is wrong with them; and what they are to do. */
import { put } from "../api.js";
import { Button } from "../components/button.js";
import { Dialog } from "../components/dialog.js";
import { orSay, toast } from "../components/toast.js";
import { bytes, count, duration, rough } from "../format.js";
import { html, useState } from "../html.js";
import { app, queue, workers as text } from "../strings.js";
import { Heading, useSession } from "../view.js";
import { useFarm } from "./farm.js";

export default function Workers() {
  const { workers, demand, error, look } = useFarm();
  const { operates } = useSession();
  const waiting = (demand ?? []).filter((each) => each.images > 0 && !workers.some((worker) => worker.model === each.model));
  return html`<${Heading} title=${text.title} />
    ${error && html`<p class="warning" role="alert">${error.message}</p>`}
    ${waiting.map((each) => html`<p class="warning" key=${each.model}>${text.wanted(each.model, count(each.images))}</p>`)}
    ${workers?.length === 0 && html`<div class="empty"><h2>${text.none}</h2><p>${text.noneHelp}</p></div>`}
    <ul class="workers">${workers?.map((each) => html`<li class="card" key=${each.id}><${Worker} worker=${each} operates=${operates} look=${look} /></li>`)}</ul>`;
}

function Worker({ worker, operates, look }) {
  const [asks, setAsks] = useState(false);
  const order = (wanted, told) => orSay(async () => {
    await put(`/v1/workers/${encodeURIComponent(worker.id)}/order`, { order: wanted });
    toast(told(worker.id));
    await look();
  });
  const drain = () => {
    setAsks(false);
    return order("drain", text.draining);
  };
  const ofDevice = worker.device_memory_total > 0;
  const used = ofDevice ? worker.device_memory / worker.device_memory_total : null;
  const facts = [
    [text.model, worker.model],
    [text.device, worker.device],
    [text.running, text.atATime(count(worker.running), count(worker.slots))],
    [text.speed, queue.rate(rough(worker.rate))],
    [text.uptime, duration(worker.uptime)],
    [text.memory, ofDevice ? `${bytes(worker.device_memory)} / ${bytes(worker.device_memory_total)}` : bytes(worker.memory)],
  ];
  return html`<h2 class="cut" title=${worker.id}>${worker.id}</h2>
    ${worker.trouble && html`<p class="warning">${worker.trouble}</p>`}
    <dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd class="numbers">${value}</dd></div>`)}</dl>
    ${used !== null && html`<div class="progress" role="meter" aria-label=${text.memoryOf(worker.id)} aria-valuemin="0" aria-valuemax="100"
      aria-valuenow=${Math.round(100 * used)}><i class=${used > 0.95 ? "failed" : "running"} style=${{ width: `${100 * used}%` }} /></div>`}
    ${worker.last_error && html`<p class="error"><strong>${text.lastError(duration(worker.last_error_ago))}</strong> ${worker.last_error}</p>`}
    ${operates && html`<div class="actions">
      ${worker.trouble
        ? html`<${Button} onClick=${() => order(null, text.enabling)}>${text.enable}<//>`
        : html`<${Button} onClick=${() => order("disable", text.disabling)}>${text.disable}<//>`}
      <${Button} kind="danger" onClick=${() => setAsks(true)}>${text.drain}<//></div>`}
    ${asks && html`<${Dialog} title=${text.drainTitle(worker.id)} onClose=${() => setAsks(false)} actions=${[
      html`<${Button} onClick=${() => setAsks(false)}>${app.cancel}<//>`,
      html`<${Button} kind="danger" onClick=${drain}>${text.drain}<//>`,
    ]}><p>${text.drainHelp}</p><//>`}`;
}
