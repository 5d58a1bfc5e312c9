/** The pictures of a job: dropped, chosen or pasted, with folders; and each one's mask. */
import { Button } from "../components/button.js";
import { Icon } from "../components/icon.js";
import { Thumbnail } from "../components/thumbnail.js";
import { toast } from "../components/toast.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { studio as text } from "../strings.js";
import { filesOf, inputOf, movingIn, pictureOf, picturesIn } from "./files.js";

/** Pictures that are shown before somebody asks for more. */
const SHOWN = 24;

/** A path of which the folder gives way first: pictures of one folder are told apart by their names. */
function Path({ path }) {
  const at = path.lastIndexOf("/") + 1;
  return html`<figcaption title=${path}>${at > 0 && html`<span class="cut">${path.slice(0, at)}</span>`}<span
    class="cut">${path.slice(at)}</span></figcaption>`;
}

/** `onChange` gets the pictures; `onMask` the index of one whose mask is to be painted; `onInfotext` a file with one. */
export function Pictures({ pictures, mask, error, onChange, onMask, onInfotext }) {
  const [isOver, setOver] = useState(false);
  const [shown, setShown] = useState(SHOWN);
  const files = useRef();
  const folder = useRef();
  const latest = useRef();
  latest.current = pictures;

  const add = async (found) => {
    const taken = picturesIn(await found);
    if (!taken.length) return;
    onChange([...latest.current, ...taken.map((each) => inputOf(pictureOf(each)))]);
    onInfotext(taken.length === 1 ? taken[0].file : null);
    const moving = await movingIn(taken);
    if (moving.length) toast(text.moving(moving), "error");
  };
  const chosen = (event) => {
    add([...event.target.files].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
    event.target.value = "";
  };
  const dropped = (event) => {
    event.preventDefault();
    setOver(false);
    add(filesOf(event.dataTransfer));
  };
  useEffect(() => {
    const pasted = (event) => {
      const inText = event.target.closest?.("input, textarea, dialog");
      if (!inText && event.clipboardData?.files.length) add(filesOf(event.clipboardData));
    };
    document.addEventListener("paste", pasted);
    return () => document.removeEventListener("paste", pasted);
  }, []);
  const remove = (index) => {
    const [gone] = pictures.slice(index, index + 1);
    if (gone.image.file) URL.revokeObjectURL(gone.image.url);
    onChange(pictures.filter((_, at) => at !== index));
  };

  return html`<section class="card pictures ${isOver ? "over" : ""}" aria-labelledby="pictures" onDrop=${dropped}
    onDragOver=${(event) => { event.preventDefault(); setOver(true); }} onDragLeave=${() => setOver(false)}>
    <header><h2 id="pictures">${text.pictures}</h2>
      ${pictures.length > 0 && html`<span class="muted">${text.nPictures(pictures.length)}</span>`}</header>
    ${error && html`<p class="error" role="alert">${error}</p>`}
    ${pictures.length > 0 && html`<ul class="thumbs">${pictures.slice(0, shown).map((picture, index) => html`
      <li key=${picture.id}>
        <figure><${Thumbnail} src=${picture.image.url} />
          ${(picture.mask ?? mask) && html`<img class="own-mask" src=${(picture.mask ?? mask).url} alt=${text.masked} loading="lazy" />`}
          <${Path} path=${picture.image.path} /></figure>
        <${Button} kind="quiet" icon="brush" label=${text.paintMask(picture.image.path)} onClick=${() => onMask(index)} />
        <${Button} kind="quiet" icon="cancel" label=${text.removePicture(picture.image.path)} onClick=${() => remove(index)} />
      </li>`)}</ul>`}
    ${pictures.length > shown && html`<${Button} onClick=${() => setShown(shown + 10 * SHOWN)}>${text.more(pictures.length - shown)}<//>`}
    <div class="drop">
      ${!pictures.length && html`<${Icon} name="image" /><p>${text.drop}</p>`}
      <div class="row">
        <${Button} onClick=${() => files.current.click()}>${text.choosePictures}<//>
        <${Button} onClick=${() => folder.current.click()}>${text.chooseFolder}<//>
        ${pictures.length > 1 && html`<${Button} kind="quiet" onClick=${() => onChange([])}>${text.removeAll}<//>`}
      </div>
      <input hidden type="file" multiple accept="image/*" ref=${files} onChange=${chosen} />
      <input hidden type="file" multiple webkitdirectory ref=${folder} onChange=${chosen} />
    </div>
  </section>`;
}
