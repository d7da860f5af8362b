// Page Heuristics: a row or a point chooses a heuristic; a neuron's row opens the neuron with this label.
(function () {
  "use strict";
  const no = () => window.dash_clientside.no_update;
  const cells = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});
  cells.HeuristicName = function (props) {
    if (!props.data) return null;
    const colour = props.colours[props.data.family] || "#7c8794";
    const style = { borderColor: colour, background: props.data.significant > 0 ? colour : "transparent" };
    const dot = window.React.createElement("i", { className: "dot", style });
    return window.React.createElement("span", { title: props.value }, dot, props.value);
  };

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.arithcirc_heuristics = {
    choose(click, cell) {
      const triggered = window.dash_clientside.callback_context.triggered[0];
      if (!triggered || !triggered.value) return [no(), no()];
      if (triggered.prop_id.startsWith("heuristics-grid")) return cell && cell.rowId ? [cell.rowId, no()] : [no(), no()];
      const point = click.points && click.points[0];
      const label = point && point.customdata;
      if (!label) return [no(), no()];
      const grid = window.dash_ag_grid.getApi("heuristics-grid");
      const node = grid && grid.getRowNode(String(label));
      if (node) grid.ensureNodeVisible(node, "middle");
      return [String(label), { ids: [String(label)] }];
    },
    open(cell, label, view) {
      if (!cell || !cell.rowId || !view || String(window.getSelection())) return [no(), no()];
      const [op, layer, neuron] = cell.rowId.split(" ");
      const held = new URLSearchParams();
      const wanted = { run: view.run, model: view.model, revision: view.revision, op, layer, neuron, label, order: "label" };
      Object.entries(wanted).forEach(([name, value]) => { if (value) held.set(name, value); });
      return ["/neuron", "?" + held.toString()];
    },
  };
})();
