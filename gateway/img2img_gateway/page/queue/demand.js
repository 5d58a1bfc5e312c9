/** What waits for which model, and who is there for it. */
import { Icon } from "../components/icon.js";
import { count, rough } from "../format.js";
import { html } from "../html.js";
import { queue as text, workers as ofWorkers } from "../strings.js";

/** `chosen` is the model that jobs are filtered by, or "". Its place is there before it is known what stands in it. */
export function Demand({ workers, demand, error, chosen, onChoose }) {
  // what does not come at all is told above the page
  if (!demand && error?.status) return html`<p class="warning" role="alert">${error.message}</p>`;
  if (!demand) return html`<div class="demands" aria-hidden="true"><div class="demand"><br /><br /><br /></div></div>`;
  if (!demand.length) {
    return html`<p class="demands"><span class="demand"><strong>${ofWorkers.none}</strong>
      <span class="muted">${ofWorkers.noneHelp}</span></span></p>`;
  }
  const one = (each) => {
    const serving = workers.filter((worker) => worker.model === each.model);
    const speed = serving.reduce((sum, worker) => sum + worker.rate, 0);
    const alone = !serving.length && each.images > 0;
    return html`<li key=${each.model}><button type="button" class="demand ${alone ? "alone" : ""}" aria-pressed=${chosen === each.model}
      onClick=${() => onChoose(chosen === each.model ? "" : each.model)}>
      <strong class="cut">${each.model}</strong>
      <span class="numbers">${text.waiting(count(each.waiting + each.later))} · ${text.running(count(each.running))}</span>
      <span class="muted numbers">${alone ? html`<span class="bad"><${Icon} name="warning" /> ${text.nobody}</span>`
        : text.serving(count(serving.length), rough(speed))}</span>
    </button></li>`;
  };
  return html`<ul class="demands" aria-label=${text.demand}>${demand.map(one)}</ul>`;
}
