// The grid of neurons: how its cells look, and what it asks for. Rows come from the server a block at a time.
(function () {
  "use strict";
  const GRID = "neurons-grid";
  const no = () => window.dash_clientside.no_update;
  const draw = (...parts) => window.React.createElement(...parts);
  const api = () => window.dash_ag_grid.getApi(GRID);
  const SIGNS = { "-": "−", "*": "×", "/": "÷" };

  function fixed(value, digits) {
    return value.toFixed(digits).replace("-", "−");
  }

  function query(view, changes) {
    const held = new URLSearchParams();
    const common = { run: view.run, model: view.model, revision: view.revision, op: view.op };
    Object.entries(Object.assign(common, changes)).forEach(([name, value]) => {
      if (value !== undefined && value !== null && value !== "") held.set(name, String(value));
    });
    return "?" + held.toString();
  }

  // Enter is the end of a search: its list of suggestions closes, which would lie over the grid.
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.id === "neurons-q") window.setTimeout(() => event.target.blur(), 0);
  });

  // -- cells: text only, drawn by React, so that nothing in a run becomes markup --------------------------------------

  const cells = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});
  cells.NeuronLink = function (props) {
    if (!props.data) return null;
    const { operator, layer, neuron } = props.data;
    const held = new URLSearchParams({ op: operator, layer, neuron });
    const now = new URLSearchParams(window.location.search);
    ["run", "model", "revision"].forEach((name) => { if (now.get(name)) held.set(name, now.get(name)); });
    const href = "/neuron?" + held.toString();
    const stay = (event) => { if (!event.ctrlKey && !event.metaKey) event.preventDefault(); };
    return draw("a", { href, onClick: stay, className: "grid-neuron" }, props.value);
  };
  cells.NeuronOperator = (props) => draw("span", null, SIGNS[props.value] || props.value || "");
  cells.NeuronTick = (props) => draw("span", { className: "tick" }, props.value ? "●" : "");
  cells.NeuronFamily = (props) => draw("span", null, props.value ? props.names[props.value] || props.value : "–");
  cells.NeuronPin = (props) => draw("span", { className: "pin-mark", title: props.value || "" }, props.value ? "★" : "");
  cells.NeuronSmall = function (props) {
    const x = props.value;
    if (x === null || x === undefined) return draw("span", null, "–");
    return draw("span", null, x >= 0.001 ? x.toFixed(3) : x === 0 ? "≈ 0" : x.toExponential(0).replace("e-", "e−"));
  };
  cells.NeuronLabel = function (props) {
    if (!props.data) return null;
    if (!props.value) {
      const { important, layer, operator } = props.data, first = props.first[operator];
      const untested = first === undefined ? "–" : layer < first ? `not tested (layer ${layer})` : "not tested";
      const why = layer < first ? `heuristics are looked for from layer ${first} on` : "only important neurons are tested";
      return draw("span", { className: "none", title: important ? "" : why }, important ? "no label" : untested);
    }
    const colour = props.colours[props.data.family] || "#7c8794";
    const dot = { borderColor: colour, background: props.data.label_significant ? colour : "transparent" };
    return draw("span", { title: props.value }, draw("i", { className: "dot", style: dot }), props.value);
  };
  cells.NeuronBar = function (props) {
    if (props.value === null || props.value === undefined) return draw("span", null, "–");
    const share = props.largest > 0 ? Math.min(1, Math.abs(props.value) / props.largest) : 0;
    const bar = draw("i", { className: props.value < 0 ? "below" : props.signed ? "above" : "plain", style: { width: (props.signed ? 44 : 30) * share + "px" } });
    return draw("span", { className: "bar-cell" }, draw("b", null, bar), fixed(props.value, 3));
  };

  // Enter on a cell is a click on it.
  document.addEventListener("keydown", (event) => {
    const cell = event.key === "Enter" && event.target.closest && event.target.closest(".neurons-grid .ag-cell");
    if (cell) cell.click();
  });

  // -- what the page does in the browser ------------------------------------------------------------------------------

  let sorted = "";
  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.arithcirc_neurons = {
    // A control moved: the rows are other ones.
    refresh() {
      const grid = api();
      if (grid) {
        if (grid.getDisplayedRowCount() > 0) grid.ensureIndexVisible(0, "top");
        grid.purgeInfiniteCache();
      }
      return no();
    },
    // The grid's own order and filters, as the address has them.
    order(asked) {
      if (!asked) return [no(), no()];
      const sort = (asked.sortModel || []).map((one) => one.colId + ":" + one.sort).join(",");
      const held = asked.filterModel && Object.keys(asked.filterModel).length ? JSON.stringify(asked.filterModel) : "";
      const now = (sort === "effect:desc" ? "" : sort) + "\n" + held;
      if (now === sorted) return [no(), no()];
      sorted = now;
      return [sort === "effect:desc" ? "" : sort, held];
    },
    open(cell, view) {
      if (!cell || !view || !cell.rowId || cell.colId === "ag-Grid-SelectionColumn") return [no(), no()];
      if (String(window.getSelection())) return [no(), no()];
      const [op, layer, neuron] = cell.rowId.split(" ");
      const node = api() && api().getRowNode(cell.rowId);
      const label = node && node.data ? node.data.heuristic : null;
      const asked = new URLSearchParams(window.location.search);
      const plain = (text) => (text || "").toLowerCase().replace(/\s/g, "");
      // the arrow keys of the page that opens step through what was looked for here
      const order = label && plain(asked.get("q")) === plain(label) ? "label" : asked.get("layer") ? "layer" : "";
      return ["/neuron", query(view, { op, layer, neuron, label, order })];
    },
    untick() {
      const grid = api();
      if (grid) grid.deselectAll();
    },
    csv(clicks, view) {
      if (!clicks || !view) return;
      const held = {};
      new URLSearchParams(window.location.search).forEach((value, name) => { held[name] = value; });
      const common = { run: view.run, model: view.model, revision: view.revision, op: view.op };
      const link = document.createElement("a");
      link.href = "/_neurons.csv" + query(view, Object.assign(held, common));
      link.download = "";
      link.click();
    },
  };
})();
