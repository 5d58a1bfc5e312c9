/** Begins the page: who is signed in, the frame around all views, and which of them the address means. */
import { onAway, onSignedOut, session, signOut } from "./api.js";
import { Button } from "./components/button.js";
import { Icon } from "./components/icon.js";
import { Toasts, orSay } from "./components/toast.js";
import { html, render, useEffect, useErrorBoundary, useState } from "./html.js";
import { Link, match, useAddress } from "./router.js";
import { SignIn } from "./sign_in.js";
import { app, errors } from "./strings.js";
import { Heading, Session } from "./view.js";

/** A view is a module with a default component; it gets what the pattern names, and `query`. */
const VIEWS = [
  { pattern: "/", load: () => import("./queue/queue.js"), icon: "queue", name: app.queue },
  { pattern: "/studio", load: () => import("./studio/studio.js"), icon: "studio", name: app.studio },
  { pattern: "/jobs/:job", load: () => import("./job/job.js") },
  { pattern: "/workers", load: () => import("./workers/workers.js"), icon: "worker", name: app.workers },
];

function Page() {
  const [who, setWho] = useState({ state: "asked" });
  const ask = async () => {
    try {
      setWho({ state: "in", session: await session() });
    } catch (error) {
      setWho(error.status === 401 ? { state: "out" } : { state: "failed", error });
    }
  };
  useEffect(() => {
    onSignedOut(() => setWho({ state: "out" }));
    ask();
  }, []);
  if (who.state === "asked") return null;
  if (who.state === "failed") return html`<${Failure} error=${who.error} again=${ask} />`;
  if (who.state === "out") return html`<${SignIn} onDone=${(found) => setWho({ state: "in", session: found })} />`;
  return html`<${Session.Provider} value=${who.session}><${Frame} session=${who.session} /><${Away} /><${Toasts} /><//>`;
}

/** That the gateway does not answer, over what was there before. */
function Away() {
  const [isAway, setAway] = useState(false);
  useEffect(() => void onAway(setAway), []);
  return html`<div class="away" role="status">${isAway && html`<p class="warning"><${Icon} name="warning" />${app.away}</p>`}</div>`;
}

function Frame({ session: who }) {
  const { path, query } = useAddress();
  return html`
    <a class="skip" href="#content">${app.skip}</a>
    <header class="bar">
      <${Link} href="/" class="name"><img src=${new URL("icon.svg", import.meta.url).pathname} alt="" width="24" height="24" /> ${app.name}<//>
      <nav aria-label=${app.navigation}>${VIEWS.filter((view) => view.name).map((view) => html`<${Link} key=${view.pattern}
        href=${view.pattern} aria-current=${match(view.pattern, path) ? "page" : undefined}>
        <${Icon} name=${view.icon} />${view.name}<//>`)}
      </nav>
      <div class="tools">
        <a href="/docs" title=${app.referenceTitle}>${app.reference}</a>
        <${Theme} />
        ${who.csrf && html`<span class="who" title=${app.signedInAs(who.owner)}>${who.owner}</span>
          <${Button} kind="quiet" icon="signOut" label=${app.signOut} onClick=${() => orSay(signOut)} />`}
      </div>
    </header>
    <main id="content" tabindex="-1"><${View} key=${path} path=${path} query=${query} /></main>`;
}

function View({ path, query }) {
  const [found, setFound] = useState({});
  const [error, reset] = useErrorBoundary();
  const view = VIEWS.find((each) => match(each.pattern, path));
  const load = () => view?.load().then((module) => setFound({ view: module.default }), (failed) => setFound({ failed }));
  useEffect(() => void load(), []);
  if (!view) return html`<${Heading} title=${app.missing} /><p>${app.missingHelp} <${Link} href="/">${app.toQueue}<//></p>`;
  if (error || found.failed) return html`<${Failure} error=${error ?? found.failed} again=${() => { reset(); load(); }} />`;
  if (!found.view) return html`<p class="loading" role="status">${app.loading}</p>`;
  return html`<${found.view} ...${match(view.pattern, path)} query=${query} />`;
}

function Failure({ error, again }) {
  return html`<div class="notice" role="alert"><h1>${errors.crashed}</h1><p>${error.message}</p>
    <${Button} kind="primary" onClick=${again}>${app.retry}<//></div>`;
}

const KEPT = "theme";
const systemTheme = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");

function Theme() {
  const [theme, setTheme] = useState(() => localStorage.getItem(KEPT) ?? systemTheme());
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
  }, [theme]);
  const next = theme === "dark" ? "light" : "dark";
  const change = () => {
    if (next === systemTheme()) localStorage.removeItem(KEPT);
    else localStorage.setItem(KEPT, next);
    setTheme(next);
  };
  return html`<${Button} kind="quiet" icon=${next === "dark" ? "moon" : "sun"} label=${app.theme(app[next].toLowerCase())}
    onClick=${change} />`;
}

render(html`<${Page} />`, document.getElementById("page"));
