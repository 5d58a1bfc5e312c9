/** The queue: jobs under way in the order in which they go, then those that have ended. */
import { put } from "../api.js";
import { Button } from "../components/button.js";
import { Field } from "../components/field.js";
import { orSay, toast } from "../components/toast.js";
import { Windowed } from "../components/windowed.js";
import { count } from "../format.js";
import { html, useCallback, useEffect, useRef, useState } from "../html.js";
import { useNarrow } from "../narrow.js";
import { ACTIVE } from "../states.js";
import { queue as text } from "../strings.js";
import { Heading, useSession } from "../view.js";
import { useFarm } from "../workers/farm.js";
import { Demand } from "./demand.js";
import { Handle, priorityAt } from "./priority.js";
import { Row } from "./row.js";
import { useJobs } from "./store.js";

const TABS = [
  { name: text.all, states: [] },
  { name: text.active, states: ACTIVE },
  { name: text.done, states: ["done"] },
  { name: text.withFailures, states: ["failed"] },
  { name: text.cancelled, states: ["cancelled"] },
];
/** Milliseconds without a key after which is searched. */
const TYPED = 250;

export default function Queue() {
  const [tab, setTab] = useState(0);
  const [typed, setTyped] = useState("");
  const [search, setSearch] = useState("");
  const [model, setModel] = useState("");
  const [owner, setOwner] = useState("");
  const [tags, setTags] = useState([]);
  const farm = useFarm();
  const found = useJobs({ search, model, owner, tags, states: TABS[tab].states });
  useEffect(() => {
    const timer = setTimeout(() => setSearch(typed.trim()), TYPED);
    return () => clearTimeout(timer);
  }, [typed]);
  const isFiltered = search || model || owner || tags.length > 0 || tab > 0;
  const without = (name) => setTags(tags.filter((tag) => tag !== name));
  const narrowTo = { owner: setOwner, tag: (name) => setTags([...new Set([...tags, name])]) };
  return html`
    <${Heading} title=${text.title}>
      <${Field} label=${text.search} hidden>${(given) => html`<input type="search" class="search" ...${given} placeholder=${text.search}
        value=${typed} onInput=${(event) => setTyped(event.target.value)} />`}<//>
    <//>
    <${Demand} ...${farm} chosen=${model} onChoose=${setModel} />
    <div class="tabs" role="group" aria-label=${text.filter}>${TABS.map(({ name }, at) => html`<button key=${at} type="button"
      aria-pressed=${tab === at} onClick=${() => setTab(at)}>${name}</button>`)}</div>
    ${(owner || tags.length > 0) && html`<div class="chips" role="group" aria-label=${text.onlyThose}>
      ${owner && html`<${Chosen} name=${text.ofOwner(owner)} onRemove=${() => setOwner("")} />`}
      ${tags.map((tag) => html`<${Chosen} key=${tag} name=${text.withTag(tag)} onRemove=${() => without(tag)} />`)}</div>`}
    ${found.error && html`<div class="warning" role="alert"><p>${found.error.message}</p><${Button} onClick=${found.reload}>${text.again}<//></div>`}
    ${found.jobs.length > 0
      ? html`<${Jobs} found=${found} narrowTo=${narrowTo} />`
      : !found.isLoading && !found.error && html`<div class="empty"><h2>${isFiltered ? text.nothing : text.none}</h2>
          <p>${isFiltered ? text.nothingHelp : text.noneHelp}</p></div>`}`;
}

/** What the list is narrowed to, and how it is widened again. */
const Chosen = ({ name, onRemove }) => html`<span class="chip">${name}<${Button} kind="quiet" icon="cancel" label=${text.notOnly(name)} onClick=${onRemove} /></span>`;

function Jobs({ found, narrowTo }) {
  const { jobs, hasMore, more, look, drop } = found;
  const { priority: most } = useSession();
  const narrow = useNarrow();
  const [place, setPlace] = useState(null);
  const list = useRef();
  const active = jobs.filter((job) => ACTIVE.includes(job.state));

  const prioritise = (job, priority) => orSay(async () => {
    await put(`/v1/jobs/${job.id}/priority`, { priority });
    await look(job.id);
  });
  const placeAt = (y) => {
    const box = list.current.getBoundingClientRect();
    const cell = list.current.querySelector(".cell");
    if (!cell) return 0;
    return Math.max(0, Math.min(active.length, Math.round((y - box.top) / cell.offsetHeight)));
  };
  const moveTo = (job, y) => {
    const at = placeAt(y);
    const from = active.indexOf(job);
    const others = active.filter((each) => each !== job);
    const priority = priorityAt(job, others, at > from ? at - 1 : at, most);
    if (priority === null) toast(text.sharing);
    else prioritise(job, priority);
  };
  const seen = useCallback((first, end) => hasMore && end > jobs.length - 30 && more(), [hasMore, jobs.length]);
  const row = (at) => {
    const job = jobs[at];
    const handle = html`<${Handle} job=${job} most=${most} onStep=${(priority) => prioritise(job, priority)}
      onDrag=${(y) => setPlace(y === null ? null : placeAt(y))} onDrop=${(y) => moveTo(job, y)} />`;
    const dropped = place === at ? "drop-before" : place === at + 1 && at + 1 === active.length ? "drop-behind" : "";
    return html`<${Row} job=${job} handle=${handle} narrow=${narrow} dropped=${dropped} narrowTo=${narrowTo}
      onChange=${() => look(job.id)} onRemove=${() => drop(job.id)} />`;
  };
  return html`<p class="unseen" role="status">${text.shown(count(jobs.length))}</p>
    <div class="jobs" ref=${list}><${Windowed} label=${text.list} count=${jobs.length} height=${narrow ? 108 : 76} render=${row} onRange=${seen}
      keyOf=${(at) => jobs[at].id} /></div>`;
}
