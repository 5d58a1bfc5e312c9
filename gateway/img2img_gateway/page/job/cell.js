/** One image of a job in its grid: what it looks like, or how far it is, or why it failed. */
import { get } from "../api.js";
import { Icon } from "../components/icon.js";
import { Thumbnail } from "../components/thumbnail.js";
import { html, useEffect, useState } from "../html.js";
import { Link } from "../router.js";
import { job as text, states } from "../strings.js";

/** Milliseconds between two looks at an image that is being rendered. */
const LOOK = 1500;

/** What an image looks like by now, while it is rendered; at first, the picture `before`. */
export function Preview({ job, index, alt, before }) {
  const [seen, setSeen] = useState(null);
  useEffect(() => {
    let last = null;
    let isGone = false;
    const look = async () => {
      if (document.hidden) return;
      const blob = await get(`/v1/jobs/${job}/images/${index}/preview`).catch(() => null);
      if (!blob || isGone) return;
      const next = URL.createObjectURL(blob);
      setSeen(next);
      if (last) URL.revokeObjectURL(last);
      last = next;
    };
    look();
    const timer = setInterval(look, LOOK);
    return () => {
      isGone = true;
      clearInterval(timer);
      if (last) URL.revokeObjectURL(last);
    };
  }, [job, index]);
  return seen ? html`<img class="thumbnail" src=${seen} alt=${alt} />`
    : html`<span class="waits"><${Thumbnail} src=${before} alt=${alt} icon="studio" /></span>`;
}

/** What an image is called: as its input, and which of that input's it is. */
export function imageName(image, index, perInput) {
  const name = image?.name ?? image?.path ?? text.image(index + 1);
  const repeat = index % perInput;
  return repeat ? `${name} (${repeat + 1})` : name;
}

/** `perInput`: how many images the job makes of each of its inputs. */
export function Cell({ job, index, perInput, state, image, name, chosen, onChoose, href }) {
  const label = text.open(name, states[state]);
  const input = `/v1/jobs/${job.id}/inputs/${Math.floor(index / perInput)}/thumbnail/image?size=256`;
  const picture = {
    done: () => html`<${Thumbnail} src=${`/v1/jobs/${job.id}/images/${index}/thumbnail?size=256`} />`,
    running: () => html`<${Preview} job=${job.id} index=${index} alt="" before=${input} />`,
    failed: () => html`<span class="thumbnail none bad"><${Icon} name="warning" /><span class="reason">${image?.reason}</span></span>`,
  }[state];
  return html`<div class="tile ${state} ${chosen ? "chosen" : ""}">
    <${Link} href=${href} aria-label=${label} title=${name}>${picture ? picture() : html`<${Thumbnail} src=${input} />`}<//>
    <div class="caption"><span class="state ${state}" aria-hidden="true" /><span class="cut" dir="auto">${name}</span>
      ${state === "done" && html`<input type="checkbox" aria-label=${text.choose(name)} checked=${chosen} onChange=${onChoose} />`}</div>
  </div>`;
}
