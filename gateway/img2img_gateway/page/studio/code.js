/** The same job as words for other programs, to be copied. */
import { Button } from "../components/button.js";
import { copyText } from "../components/copy.js";
import { toast } from "../components/toast.js";
import { html, useRef, useState } from "../html.js";
import { studio as text } from "../strings.js";
import { useSession } from "../view.js";
import { asCurl, asPython, asShell } from "./request_code.js";

/** Inputs up to which all are written out. */
const MOST = 200;

export function Code({ job }) {
  const [kind, setKind] = useState("shell");
  const shown = useRef();
  const session = useSession();
  const few = { ...job, inputs: job.inputs.slice(0, MOST) };
  const gateway = { origin: location.origin, withKey: Boolean(session.csrf) };
  const words = { shell: asShell, python: asPython, curl: asCurl }[kind](few, gateway);
  const painted = [...new Set(job.inputs.flatMap(({ pictures }) => Object.values(pictures)).concat(Object.values(job.shared)))].filter(
    (each) => each.isPainted,
  );
  const copy = async () => {
    await copyText(words, shown.current);
    toast(text.copied);
  };
  return html`<details class="card group code">
    <summary><h3>${text.code}</h3><span class="muted cut">${text.codeHelp}</span></summary>
    <div class="row">
      <div class="tabs" role="group" aria-label=${text.code}>${["shell", "python", "curl"].map((each) => html`<button type="button" key=${each}
        aria-pressed=${each === kind} onClick=${() => setKind(each)}>${text[each]}</button>`)}</div>
      <${Button} icon="copy" onClick=${copy}>${text.copy}<//>
    </div>
    ${gateway.withKey && html`<p class="muted">${text.keyHelp}</p>`}
    ${job.inputs.length > MOST && html`<p class="muted">${text.firstOf(MOST, job.inputs.length)}</p>`}
    <pre tabindex="0" ref=${shown} aria-label=${text[kind]}><code>${words}</code></pre>
    ${painted.length > 0 && html`<p>${text.painted} ${painted.map((each) => html`<a key=${each.path} href=${each.url}
      download=${each.path.split("/").at(-1)}>${each.path}</a> `)}</p>`}
  </details>`;
}
