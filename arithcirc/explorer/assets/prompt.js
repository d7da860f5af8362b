// Page Prompt: asking, switching parts off from lists and figures, and the cells of its lists.
(function () {
  "use strict";

  const no = () => window.dash_clientside.no_update;
  const ALL = "all that hold";
  const GRIDS = ["prompt-heuristics", "prompt-neurons", "prompt-heads"];
  const SIGNS = { "−": "-", "×": "*", "÷": "/" };
  let agreed = null;

  function operatorOf(text) {
    const found = /^\s*\d+\s*([^\s\d=]+)\s*\d+\s*=?\s*$/.exec(text || "");
    return found ? SIGNS[found[1]] || found[1] : null;
  }

  function query(changes) {
    const held = new URLSearchParams(window.location.search);
    Object.entries(changes).forEach(([name, value]) => {
      if (value === null || value === undefined || value === "") held.delete(name);
      else held.set(name, String(value));
    });
    return "?" + held.toString();
  }

  function set(off) { window.dash_clientside.set_props("prompt-off", { value: Array.from(new Set(off)) }); }

  function grid(id) {
    if (!document.getElementById(id) || !window.dash_ag_grid) return null;
    try { return window.dash_ag_grid.getApi(id); } catch (e) { return null; }
  }

  // whether a row is off: by its own name, or by a heuristic it carries
  function isOff(row, held) {
    if (held.has(row.id)) return true;
    if (row.id.startsWith("h:")) return held.has(ALL);
    return (row.held || []).some((name) => held.has(name)) || (held.has(ALL) && (row.held || []).length > 0);
  }

  function mark(off) {
    const held = new Set(off || []);
    GRIDS.forEach((id) => {
      const api = grid(id);
      if (!api) return;
      const changed = [];
      api.forEachNode((node) => {
        const now = isOff(node.data, held);
        if (node.data.off !== now) changed.push(Object.assign({}, node.data, { off: now }));
      });
      if (changed.length) api.applyTransaction({ update: changed });
    });
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    prompt: {
      ask(clicks, submitted, other, prompt, against, view) {
        if (!window.dash_clientside.callback_context.triggered.some((t) => t.value)) return no();
        const changes = { prompt: (prompt || "").trim(), with: (against || "").trim() };
        const op = operatorOf(prompt);
        if (op && "+-*/".includes(op)) changes.op = op;
        if (changes.prompt !== new URLSearchParams(window.location.search).get("prompt")) changes.target = null;
        const next = query(changes);
        return next === window.location.search ? no() : next;
      },
      // the frame's operator and the prompt's own agree: the one that was changed last wins
      operator(view) {
        if (!view || view.page !== "prompt" || !view.prompt) return;
        const own = operatorOf(view.prompt);
        if (!own || !view.op || !"+-*/".includes(own)) return;
        if (own === view.op) { agreed = view.prompt; return; }
        if (agreed === view.prompt) {  // they agreed before: the frame's was changed since
          const numbers = view.prompt.match(/\d+/g);
          const prompt = numbers[0] + view.op + numbers[1] + "=";
          window.dash_clientside.set_props("url", { search: query({ prompt, target: null }) });
        } else {
          window.dash_clientside.set_props("frame-op", { value: own });
        }
      },
      marks(off) {
        const parts = (off || []).flatMap((part) => part.match(/(?:[^,{]|\{[^}]*\}?)+/g) || []).map((part) => part.trim());
        if (parts.filter(Boolean).length !== (off || []).length) { set(parts.filter(Boolean)); return; }
        window.dash_clientside.set_props("prompt-off", { placeholder: parts.length ? "" : "L3N17, L2H1, h:op2 = 8 mod 10" });
        window.setTimeout(() => mark(off), 0);
        window.setTimeout(() => mark(off), 400);
      },
      ticked(changes, off) {
        const held = new Set(off || []);
        (changes || []).filter((c) => c.colId === "off").forEach((change) => {
          const id = change.data.id;
          if (change.value === true || change.value === "true") { held.add(id); return; }
          if (id.startsWith("h:") && held.has(ALL)) {
            held.delete(ALL);
            const api = grid("prompt-heuristics");
            if (api) api.forEachNode((node) => held.add(node.data.id));
          }
          held.delete(id);
        });
        set(held);
        window.setTimeout(() => mark(Array.from(held)), 50);
      },
      head(click, figure, off) {
        const point = click && click.points && click.points[0];
        const name = point && figure && figure.layout.meta.heads[Math.round(point.x)];
        if (!name) return;
        const held = new Set(off || []);
        if (!held.delete(name)) held.add(name);
        set(held);
        window.dash_clientside.set_props("prompt-attention", { clickData: null });
      },
      button(all, random, clear, off, seed) {
        const triggered = window.dash_clientside.callback_context.triggered[0];
        if (!triggered || !triggered.value) return;
        if (triggered.prop_id.startsWith("prompt-all")) set([ALL, ...(off || []).filter((part) => !part.startsWith("h:"))]);
        else if (triggered.prop_id.startsWith("prompt-clear")) set([]);
        else window.dash_clientside.set_props("prompt-seed", { value: (Number(seed) || 0) + 1 });
      },
    },
  });

  // -- cells --------------------------------------------------------------------------------------------------------

  const cells = window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {};
  const element = (...parts) => window.React.createElement(...parts);

  // a link inside the explorer, without a reload
  cells.PromptLink = (props) => element("a", {
    href: props.data.href,
    className: "cell-link",
    onClick: (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      const to = new URL(props.data.href, window.location.href);
      window.dash_clientside.set_props("url", { pathname: to.pathname, search: to.search });
    },
  }, props.value);

  cells.PromptLabel = (props) => element("span", { className: props.data.holds ? "" : "faint" }, props.value || "no label");

  // a bar from the middle: right and red for what speaks for the target, left and blue for what speaks against
  cells.PromptBar = (props) => {
    if (props.value === null || props.value === undefined) return element("span", { className: "faint" }, "–");
    const share = Math.min(1, Math.abs(props.value) / props.most) * 50;
    const style = { width: share + "%", left: props.value < 0 ? 50 - share + "%" : "50%" };
    const size = Math.abs(props.value).toFixed(2);
    const text = (Number(size) === 0 ? "" : props.value > 0 ? "+" : "−") + size;
    return element("div", { className: "cell-bar" },
      element("div", { className: "track" }, element("div", { className: props.value < 0 ? "against" : "for", style })),
      element("span", null, text));
  };
})();
