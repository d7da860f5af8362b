// Page Prompt: asking, switching parts off from lists and figures, and the cells of its lists.
(function () {
  "use strict";

  const no = () => window.dash_clientside.no_update;
  const ALL = "all that hold";
  const GRIDS = ["prompt-heuristics", "prompt-neurons", "prompt-heads"];
  const SIGNS = { "−": "-", "×": "*", "÷": "/" };
  let known = null;

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

  // -- between a question and its page: the old explanation is dimmed, and parts named meanwhile are kept --------------

  const pills = () => Array.from(document.querySelectorAll("#prompt-said ~ .prompt-controls .mantine-Pill-root"));
  const named = () => pills().map((pill) => pill.textContent.trim());
  let watch = null;

  function busy() {
    const root = document.getElementById("prompt-root");
    if (!root) return;
    awaited();
    root.classList.add("asking");
    watch = { before: named().join("\n"), now: named() };
    watch.look = window.setInterval(() => {
      if (document.querySelector("#prompt-said")) watch.now = named();
      if (Date.now() - watch.since > 30000) awaited();
    }, 40);
    watch.since = Date.now();
  }

  // the parts that were changed since the question; null where none were
  function awaited() {
    const root = document.getElementById("prompt-root");
    if (root) root.classList.remove("asking");
    const held = watch;
    watch = null;
    if (!held) return null;
    window.clearInterval(held.look);
    return held.now.join("\n") === held.before ? null : held.now;
  }

  document.addEventListener("click", (event) => {
    if (!event.ctrlKey && !event.metaKey && !event.shiftKey && event.target.closest(".prompt-bar a")) busy();
  });

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
        if (next === window.location.search) return no();
        busy();
        return next;
      },
      // a page was drawn: what was typed meanwhile stays, and the header's operator follows the prompt
      drawn(asked, frame) {
        if (!asked) return null;
        known = asked;
        const typed = awaited();
        if (typed) window.setTimeout(() => set(typed), 0);
        if (!asked.op || !frame || !frame.op || asked.op === frame.op) return asked.op;
        window.setTimeout(() => {  // the address component puts its own back while it is drawn
          const now = new URLSearchParams(window.location.search).get("prompt");
          if (window.location.pathname !== "/prompt" || (now && now !== asked.prompt)) return;
          window.history.replaceState(window.history.state, "", window.location.pathname + query({ op: asked.op }));
        }, 100);
        window.dash_clientside.set_props("frame-shown", { data: Object.assign({}, frame, { op: asked.op }) });
        return asked.op;
      },
      // what the header's operator asks: an example of it
      of(op) { return known && known.examples[op] ? { prompt: known.examples[op], with: null, target: null } : {}; },
      // parts that are not understood look so in the field, too
      flawed() {
        window.setTimeout(() => {
          const bad = new Set(Array.from(document.querySelectorAll("#prompt-said .bad-part"), (part) => part.title));
          pills().forEach((pill) => pill.classList.toggle("bad-pill", bad.has(pill.textContent.trim())));
        }, 30);
        return null;
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
