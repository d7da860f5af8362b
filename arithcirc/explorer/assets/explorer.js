// What the pages do in the browser: colour scheme, addresses, keyboard, downloads. No request is made here.
(function () {
  "use strict";

  // -- light and dark: a cookie tells the server which template figures get; drawn figures are restyled here -----------

  const root = document.documentElement;
  const dark = () => root.getAttribute("data-mantine-color-scheme") === "dark";

  function tell(isDark) {
    document.cookie = "scheme=" + (isDark ? "dark" : "light") + "; path=/; max-age=31536000; SameSite=Strict";
    (document.body || root).dataset.agThemeMode = isDark ? "dark" : "light";
  }

  let kept = null;
  try { kept = localStorage.getItem("mantine-color-scheme-value"); } catch (e) { kept = null; }
  tell(kept === "dark" || (kept !== "light" && window.matchMedia("(prefers-color-scheme: dark)").matches));

  let drawn = null;
  function restyle() {
    const now = dark();
    tell(now);
    if (now === drawn) return;
    const first = drawn === null;
    drawn = now;
    if (first || !window.Plotly) return;
    fetch("/_templates/" + (now ? "dark" : "light") + ".json").then((r) => r.json()).then((template) => {
      document.querySelectorAll(".js-plotly-plot").forEach((plot) => window.Plotly.relayout(plot, { template }));
    });
  }
  new MutationObserver(restyle).observe(root, { attributes: true, attributeFilter: ["data-mantine-color-scheme"] });

  function flip() {
    const next = dark() ? "light" : "dark";
    try { localStorage.setItem("mantine-color-scheme-value", next); } catch (e) { /* private window: not kept */ }
    root.setAttribute("data-mantine-color-scheme", next);
  }

  // -- a line while the server answers: Dash then puts an element beside its app. (`body:has()` in the style sheet would
  // say the same, and have every change of a page restyle all of it.) -------------------------------------------------

  function busy() { root.classList.toggle("busy", !!document.querySelector("._dash-loading-callback")); }
  document.addEventListener("DOMContentLoaded", () => {
    const entry = document.getElementById("react-entry-point");
    if (entry) new MutationObserver(busy).observe(entry, { childList: true });
  });

  // -- downloads ----------------------------------------------------------------------------------------------------

  function download(button) {
    const plot = button.closest(".figure").querySelector(".js-plotly-plot");
    if (!plot || !window.Plotly) return;
    const box = plot.getBoundingClientRect();
    const background = getComputedStyle(root).getPropertyValue("--panel").trim();
    const layout = Object.assign({}, plot.layout, { paper_bgcolor: background || "#ffffff", autosize: false });
    const drawn = { data: plot.data, layout, config: { staticPlot: true } };
    const size = { width: Math.round(box.width), height: Math.round(box.height), scale: 2 };
    window.Plotly.downloadImage(drawn, Object.assign({ format: button.dataset.download, filename: button.dataset.name }, size));
  }

  function csv(button) {
    const api = window.dash_ag_grid && window.dash_ag_grid.getApi(button.dataset.csv);
    if (api) api.exportDataAsCsv({ fileName: button.dataset.name + ".csv" });
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.id === "scheme") flip();
    else if (button.dataset.download) download(button);
    else if (button.dataset.csv) csv(button);
  });

  // -- keyboard: an element with data-key is clicked (or, a field, focused) by that key -------------------------------

  const typing = (el) => el.closest("input, textarea, select, [contenteditable], [role=slider], [role=tab], .ag-root-wrapper");
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) {
      if (event.key === "Escape" && event.target.blur) event.target.blur();
      return;
    }
    const held = document.querySelector('[data-key="' + CSS.escape(event.key) + '"]');
    if (!held) return;
    const field = held.matches("input, textarea") ? held : held.querySelector("input, textarea");
    event.preventDefault();
    if (field) { field.focus(); field.select(); } else held.click();
  });

  // -- addresses ----------------------------------------------------------------------------------------------------

  function address(page, changes, keep) {
    const held = new URLSearchParams(keep ? window.location.search : "");
    Object.entries(changes).forEach(([name, value]) => {
      if (value === null || value === undefined || value === "") held.delete(name);
      else held.set(name, String(value));
    });
    const query = held.toString();
    return { path: "/" + page, query: query ? "?" + query : "" };
  }

  const shown = { frame: null };
  const no = () => window.dash_clientside.no_update;
  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    arithcirc: {
      steps(checkpoints) {
        const held = checkpoints || [];
        const marks = held.map((_, i) => ({ value: i }));
        return [held.length < 2, Math.max(1, held.length - 1), marks];
      },
      stepName(at, checkpoints) {
        const held = checkpoints || [];
        return held[at] ? held[at][1] : "";
      },
      // What the router drew, in the frame's controls.
      fill(frame) {
        if (!frame) return;
        shown.frame = frame;
        if (frame.title) document.title = frame.title;
        if (frame.address) setTimeout(() => window.history.replaceState(window.history.state, "", frame.address), 100);
        const set = window.dash_clientside.set_props;
        set("frame-run", { data: frame.runs, value: frame.run });
        set("frame-op", { data: frame.ops, value: frame.op });
        set("frame-step", { value: frame.step });
        set("frame-page", { value: frame.page });
        window.dash_clientside.typed.drawn();
      },
      // A control of the frame was moved by the reader: the address that shows it, over what the address says already.
      go(run, op, step, page, checkpoints, view) {
        const held = shown.frame;
        if (!view || !held) return [no(), no()];
        const at = (checkpoints || [])[step] || ["", ""];
        const changes = {};
        if (run && run !== held.run) Object.assign(changes, { run, model: "", revision: "" });
        else if (step !== held.step && at[1]) Object.assign(changes, { model: at[0], revision: at[1] });
        if (op && op !== held.op) changes.op = op;
        const other = page && page !== held.page;
        if (!Object.keys(changes).length && !other) return [no(), no()];
        const now = new URLSearchParams(window.location.search);
        const base = {};
        ["run", "model", "revision", "op"].forEach((name) => { base[name] = now.get(name) || view[name]; });
        if (now.get("run") && now.get("run") !== view.run) Object.assign(base, { model: now.get("model"), revision: now.get("revision") });
        const prompts = window.dash_clientside.prompt;
        if (changes.op && !other && view.page === "prompt" && prompts) Object.assign(changes, prompts.of(op));
        const next = address(other ? page : view.page, Object.assign(base, changes), !other);
        return [next.path === window.location.pathname ? no() : next.path,
          !other && next.query === window.location.search ? no() : next.query];
      },
      // A page's own control was moved: it is written into the address without a reload.
      remember(value) {
        const triggered = window.dash_clientside.callback_context.triggered[0];
        if (!triggered) return;
        const name = triggered.prop_id.split(".")[0].replace(/^[^-]*-/, "");
        const text = Array.isArray(value) ? value.join(",") : value;
        const next = address(window.location.pathname.replace(/^\//, ""), { [name]: text }, true);
        window.history.replaceState(window.history.state, "", next.path + next.query);
      },
    },
  });
})();
