// Page Neuron: the line under the maps says what is under the pointer; links keep what the controls show.
(function () {
  "use strict";

  const no = () => window.dash_clientside.no_update;
  const words = ["no legal prompt", "outside H", "hit", "miss", "false alarm"];
  const text = (value) => Number(value).toPrecision(4).replace("-", "−");

  // Steps are counted here and lead to the neuron they reach, also while an earlier one is still being drawn.
  const QUIET = 160;  // milliseconds without a key after which a run of keys is drawn
  let pending = null, timer = null;

  function depart() {
    timer = null;
    if (!pending) return;
    const { way, label } = pending;
    const [layer, neuron] = way[pending.at];
    const held = new URLSearchParams(window.location.search);
    held.set("layer", layer);
    held.set("neuron", neuron);
    if (label) held.set("label", label); else held.delete("label");
    const search = "?" + held.toString();
    if (search !== window.location.search) window.dash_clientside.set_props("url", { search });
  }

  function step(by) {
    const span = document.getElementById("neuron-way");
    const here = span && JSON.parse(span.dataset.way);
    if (!here) return false;
    const now = Date.now();
    const [layer, neuron] = (pending && pending.way[pending.at]) || [];
    const arrived = pending && here.at >= 0 && here.way[here.at][0] === layer && here.way[here.at][1] === neuron;
    if (!pending || arrived || now - pending.when > 8000) pending = here;
    const first = now - (pending.when || 0) > QUIET && !timer;
    const at = pending.at + by;
    pending.when = now;
    if (at < 0 || at >= pending.way.length) return true;
    pending.at = at;
    const shown = document.querySelector(".neuron-name");
    if (shown) shown.textContent = `L${pending.way[at][0]}N${pending.way[at][1]}`;
    window.clearTimeout(timer);
    timer = window.setTimeout(depart, first ? 0 : QUIET);
    return true;
  }

  const typing = "input, textarea, select, [contenteditable], [role=slider], [role=tab], [role=radiogroup], .ag-root-wrapper";
  window.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || event.ctrlKey || event.metaKey || event.altKey || (event.target.closest && event.target.closest(typing))) return;
    if (!step(by)) return;
    event.preventDefault();
    event.stopPropagation();
  }, true);
  window.addEventListener("click", (event) => {
    const link = event.target.closest && event.target.closest("#neuron-before, #neuron-after");
    const plain = !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0;
    if (link && plain && step(link.id === "neuron-before" ? -1 : 1)) {
      event.preventDefault();
      event.stopPropagation();
    } else if (!link) pending = null;
  }, true);
  window.addEventListener("popstate", () => { pending = null; });

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    neuron: {
      // One cell of all maps at once.
      readout(hover) {
        const plot = document.querySelector("#neuron-plot .js-plotly-plot");
        const point = hover && hover.points && hover.points[0];
        if (!plot || !point || !plot._fullData) return no();
        const parts = [`op1 ${point.y}, op2 ${point.x}`];
        plot._fullData.forEach((trace) => {
          if (!trace.meta || trace.visible !== true || !trace.z) return;
          const row = trace.z[Math.round(point.y - trace.y0)];
          const value = row && row[Math.round(point.x - trace.x0)];
          if (value === undefined || value === null || Number.isNaN(value)) return;
          if (trace.meta === "hits") { parts.push(words[value]); return; }
          if (trace.customdata && parts.length === 1) {
            const line = trace.customdata[Math.round(point.y - trace.y0)];
            if (line) parts[0] += `, answer ${line[Math.round(point.x - trace.x0)]}`;
          }
          parts.push(`${trace.meta === "k" ? "activation" : "KV"} ${text(value)}`);
        });
        return parts.join("  ·  ");
      },
      // Links to other neurons take the zoom and the choice of maps along.
      links(zoom, map, ...hrefs) {
        return hrefs.map((href) => {
          if (!href) return no();
          const to = new URL(href, window.location.origin);
          if (zoom) to.searchParams.set("zoom", zoom);
          if (map) to.searchParams.set("map", map);
          return to.pathname + to.search;
        });
      },
      // A control was changed: the page that it stands on now is told which, and when.
      changed() {
        const at = window.dash_clientside.callback_context;
        const by = at.triggered.length ? at.triggered[0].prop_id.split(".")[0] : "";
        return at.outputs_list.map(() => [by, Date.now()]);
      },
      // A row of the labels' table was clicked.
      label(cell) {
        return cell && cell.rowId ? cell.rowId : no();
      },
    },
  });
})();
