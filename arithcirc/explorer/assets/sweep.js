// Page Sweep: a click on a figure or on a row of the checkpoints is the address of that checkpoint.
(function () {
  "use strict";
  const dash = (window.dash_clientside = window.dash_clientside || {});
  const no = () => window.dash_clientside.no_update;

  function address(view, changes) {
    const held = new URLSearchParams();
    Object.entries(Object.assign({}, view, changes)).forEach(([name, value]) => {
      if (name !== "page" && value !== undefined && value !== null && value !== "") held.set(name, value);
    });
    return "?" + held.toString();
  }

  // The checkpoint that a point names: its text is a label, or begins with one (raster, tasks that failed).
  function revisionOf(point, places) {
    const said = String(point.text || "");
    const at = places.labels.findIndex((label) => said === label || said.startsWith(label + ":"));
    return at < 0 ? null : places.revisions[at];
  }

  dash.arithcirc_sweep = {
    pick(clicks, cell, places, view) {
      const triggered = window.dash_clientside.callback_context.triggered[0];
      if (!triggered || !triggered.value || !view) return [no(), no()];
      const common = { run: view.run, model: view.model, revision: view.revision, op: view.op };
      const now = Object.fromEntries(new URLSearchParams(window.location.search));
      if (triggered.prop_id.startsWith("sweep-checkpoints")) {
        const next = address(Object.assign(now, common), { revision: triggered.value.rowId });
        return [no(), next === window.location.search ? no() : next];
      }
      const point = (triggered.value.points || [])[0];
      if (!point) return [no(), no()];
      if (Array.isArray(point.customdata) && typeof point.customdata[1] === "string") {
        const family = triggered.prop_id.includes('"timeline"') && now.rows === "families";
        const named = family ? { family: point.customdata[0] } : { q: point.customdata[0] };
        return ["/neurons", address(common, Object.assign({ revision: point.customdata[1] }, named))];
      }
      const revision = revisionOf(point, places);
      if (!revision || revision === view.revision) return [no(), no()];
      return [no(), address(Object.assign(now, common), { revision })];
    },
  };
})();
