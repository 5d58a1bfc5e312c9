/** What all views stand on: who is signed in, and their headings. */
import { createContext, html, useContext, useEffect, useRef } from "./html.js";
import { hasMoved } from "./router.js";
import { app } from "./strings.js";

/** What `GET /v1/session` says: {tenant, owner, operates, priority}. */
export const Session = createContext(null);
export const useSession = () => useContext(Session);

/** What the browser calls things that it keeps for somebody: who else signs in there does not see them. */
export const keptName = (name, { csrf, tenant, owner }) => (csrf ? [name, tenant, owner].join(":") : name);

/** A view's heading, which is the tab's title too, and gets the focus when the view is come to. */
export function Heading({ title, tab = title, children }) {
  const element = useRef();
  useEffect(() => {
    if (hasMoved()) element.current.focus({ preventScroll: true });
  }, []);
  useEffect(() => {
    document.title = `${tab} · ${app.name}`;
  }, [tab]);
  return html`<div class="heading"><h1 tabindex="-1" ref=${element}>${title}</h1>${children}</div>`;
}
