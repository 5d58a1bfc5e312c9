/** One image large: before and after, what it was made from, its parameters; the arrow keys go to the next. */
import { get } from "../api.js";
import { Button } from "../components/button.js";
import { copyText } from "../components/copy.js";
import { Dialog } from "../components/dialog.js";
import { State } from "../components/state.js";
import { orSay, toast } from "../components/toast.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { Link } from "../router.js";
import { app, job as text } from "../strings.js";
import { Preview } from "./cell.js";
import { Compare } from "./compare.js";

const TEXTS = ["prompt", "negative_prompt"];

/** `onStep(-1 | 1)` goes to the image before or behind, and gives whether there is one; `onStep(by, true)` only tells. */
export function Viewer({ job, index, state, name, onClose, onStep }) {
  const [found, setFound] = useState(null);
  const [error, setError] = useState(null);
  const [view, setView] = useState("compare");
  useEffect(() => {
    const closed = new AbortController();
    setError(null);
    get(`/v1/jobs/${job.id}/images/${index}/details`, { signal: closed.signal })
      .then(setFound, (failed) => failed.name !== "AbortError" && setError(failed));
    return () => closed.abort();
  }, [job.id, index, state]);
  useEffect(() => {
    const pressed = (event) => {
      if (event.target.matches("input, textarea")) return;
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step && onStep(step)) event.preventDefault();
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  }, [onStep]);

  const details = found?.image.index === index ? found : null;
  const result = `/v1/jobs/${job.id}/images/${index}/picture`;
  const input = (role) => `/v1/jobs/${job.id}/inputs/${details.image.input}/${role}`;
  /** What the gateway makes of a picture of a kind that browsers do not show (TIFF, HEIC). */
  const showSmall = (role) => ({ target }) => {
    const small = `${input(`thumbnail/${role}`)}?size=512`;
    if (!target.src.endsWith(small)) target.src = small;
  };
  const roles = details ? Object.keys(details.pictures) : [];
  const hasBefore = state === "done" && roles.includes("image");
  const views = [hasBefore && "compare", state === "done" && "result", ...roles].filter(Boolean);
  const shown = views.includes(view) ? view : views[0];
  const kind = details?.params.output_format ?? "png";
  return html`<${Dialog} wide title=${name} onClose=${onClose}>
    <div class="viewer">
      <div class="stage">
        ${error && html`<p class="warning" role="alert">${error.message}</p>`}
        ${views.length > 1 && html`<div class="tabs" role="group" aria-label=${text.views}>${views.map((each) => html`<button key=${each} type="button"
          aria-pressed=${each === shown} onClick=${() => setView(each)}>${text.view(each)}</button>`)}</div>`}
        <div class="picture">
          ${state === "running" && html`<${Preview} job=${job.id} index=${index} alt=${text.previewOf(name)} />`}
          ${state === "failed" && html`<p class="warning">${details?.image.reason}</p>`}
          ${details && shown === "compare" && html`<${Compare} key=${index} before=${input("image")} onBeforeError=${showSmall("image")} after=${result} alt=${name} resizeMode=${details.params.resize_mode ?? 0} />`}
          ${shown === "result" && html`<img src=${result} alt=${name} />`}
          ${details && roles.includes(shown) && state !== "running" && html`<img src=${input(shown)} onError=${showSmall(shown)} alt=${text.viewOf(shown, name)} />`}
        </div>
        <div class="steps">
          <${Button} kind="quiet" icon="back" label=${text.before} disabled=${!onStep(-1, true)} onClick=${() => onStep(-1)} />
          <${State} state=${state} />
          <${Button} kind="quiet" icon="chevron" label=${text.behind} disabled=${!onStep(1, true)} onClick=${() => onStep(1)} />
        </div>
      </div>
      <aside aria-label=${text.facts}>
        <div class="actions">
          ${state === "done" && html`<a class="button" href=${result} download=${`${name}.${kind === "jpeg" ? "jpg" : kind}`}>${text.download}</a>`}
          <${Link} class="button primary" href=${`/studio?job=${job.id}&image=${index}`}>${text.again}<//>
        </div>
        ${details && html`<${Facts} details=${details} />`}
      </aside>
    </div>
  <//>`;
}

function Facts({ details }) {
  const { params, infotext, image } = details;
  const shownText = useRef();
  const copy = () => orSay(async () => {
    await copyText(infotext, shownText.current);
    toast(text.copied);
  });
  const shown = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));
  const rest = Object.entries(params).filter(([name]) => !TEXTS.includes(name));
  return html`
    ${TEXTS.filter((name) => params[name]).map((name) => html`<section key=${name}><h3>${text.parameter(name)}</h3><p class="prompt" dir="auto">${params[name]}</p></section>`)}
    <section><h3>${text.parameters}</h3><dl class="facts">${rest.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd class="mono">${shown(value)}</dd></div>`)}
      ${image.path && html`<div><dt>${text.file}</dt><dd>${image.path}</dd></div>`}
      <div><dt>${text.attempts}</dt><dd>${image.attempt}</dd></div></dl></section>
    ${infotext && html`<section><h3>${text.infotext}</h3><pre tabindex="0" ref=${shownText} aria-label=${text.infotext}>${infotext}</pre><${Button} onClick=${copy}>${text.copy}<//></section>`}`;
}
