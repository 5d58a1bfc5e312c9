/** What waits for which model, and who is there for it. */
import { Icon } from "../components/icon.js";
import { count, rough } from "../format.js";
import { html } from "../html.js";
import { queue as text } from "../strings.js";

/** `chosen` is the model that jobs are filtered by, or "". */
export function Demand({ workers, demand, chosen, onChoose }) {
  if (!demand?.length) return null;
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
