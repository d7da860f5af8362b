// Pages of a static export: figures from packed arrays, tables that sort and search, arrow keys. Nothing is requested.
"use strict";
(function () {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const text = (id) => document.getElementById(id).textContent.trim();

  // -- packed arrays --------------------------------------------------------------------------------------------------

  async function inflate(base64) {
    const raw = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  function result(operator, a, b) {
    if (operator === "+") return a + b;
    if (operator === "-") return a - b;
    if (operator === "*") return a * b;
    return b ? Math.floor(a / b) : -1;
  }

  // K, KV, the answers and which cells are no legal prompt, as rows of numbers.
  async function decode() {
    const at = document.getElementById("k").dataset;
    const rows = Number(at.rows), columns = Number(at.columns), first = Number(at.first);
    const low = Number(at.low), high = Number(at.high);
    const codes = await inflate(text("k"));
    const value = new Float32Array((await inflate(text("value"))).buffer);
    const held = { rows, columns, codes, k: [], kv: [], answer: [], illegal: [] };
    for (let i = 0; i < rows; i++) {
      const k = new Float32Array(columns), kv = new Float32Array(columns);
      const answer = new Int32Array(columns), illegal = new Int8Array(columns);
      for (let j = 0; j < columns; j++) {
        const code = codes[i * columns + j];
        answer[j] = code ? result(at.operator, first + i, first + j) : -1;
        illegal[j] = code ? 0 : 1;
        k[j] = code ? low + ((code - 1) * (high - low)) / 254 : NaN;
        kv[j] = code ? k[j] * value[answer[j]] : NaN;
      }
      held.k.push(k); held.kv.push(kv); held.answer.push(answer); held.illegal.push(illegal);
    }
    return held;
  }

  function inRows(flat, columns) {
    const found = [];
    for (let i = 0; i < flat.length; i += columns) found.push(flat.subarray(i, i + columns));
    return found;
  }

  // Figures with their arrays put back: { "$": i } is array i, its bytes stored first bytes first.
  const kinds = { f4: Float32Array, i4: Int32Array, i2: Int16Array, i1: Int8Array, u4: Uint32Array, u2: Uint16Array,
    u1: Uint8Array };
  async function figures() {
    const stored = JSON.parse(new TextDecoder().decode(await inflate(text("figures"))));
    const bytes = await inflate(text("arrays"));
    let from = 0;
    const arrays = stored.arrays.map(([kind, n]) => {
      const width = kinds[kind].BYTES_PER_ELEMENT, plain = new Uint8Array(n * width);
      for (let b = 0; b < width; b++) for (let i = 0; i < n; i++) plain[i * width + b] = bytes[from + b * n + i];
      from += n * width;
      return new kinds[kind](plain.buffer);
    });
    function restored(value) {
      if (Array.isArray(value)) return value.map(restored);
      if (value === null || typeof value !== "object") return value;
      if (value.$ === undefined) {
        return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, restored(part)]));
      }
      const columns = value.shape ? Number(String(value.shape).split(",")[1]) : 0;
      return columns ? inRows(arrays[value.$], columns) : arrays[value.$];
    }
    return restored(stored.figures);
  }

  // -- figures --------------------------------------------------------------------------------------------------------

  const drawn = [];
  function draw(element, figure) {
    const shared = window.arithcircTheme;
    const layout = Object.assign({}, figure.layout, { template: shared.templates[dark.matches ? "dark" : "light"] });
    element.style.minHeight = (layout.height || 320) + "px";
    Plotly.react(element, figure.data, layout, shared.config);
    if (!drawn.some((d) => d.element === element)) drawn.push({ element, figure });
    else drawn.find((d) => d.element === element).figure = figure;
  }
  dark.addEventListener("change", () => drawn.forEach((d) => draw(d.element, d.figure)));

  async function maps(all) {
    const place = document.querySelector("[data-map]");
    const held = await decode();
    window.arithcircMap = held;
    async function show(key) {
      const figure = all["map-" + key];
      const packed = text("hits-" + key);
      const hits = packed ? inRows(await inflate(packed), held.columns) : null;
      held.hits = hits;
      const arrays = { k: held.k, kv: held.kv, hits, illegal: held.illegal };
      figure.data.forEach((trace) => {
        if (trace.type !== "heatmap" || trace.z || !arrays[trace.meta]) return;
        trace.z = arrays[trace.meta];
        if (trace.meta === "k" || trace.meta === "kv") trace.customdata = held.answer;
      });
      draw(place, figure);
      document.querySelectorAll("[data-view]").forEach((part) => { part.hidden = part.dataset.view !== key; });
    }
    document.querySelectorAll('input[name="view"]').forEach((input) => {
      input.addEventListener("change", () => show(input.value));
    });
    const checked = document.querySelector('input[name="view"]:checked');
    await show(checked ? checked.value : "0");
  }

  async function everything() {
    if (!document.querySelector("[data-map]")) return;
    const all = await figures();
    await maps(all);
    document.querySelectorAll("[data-figure]").forEach((place) => draw(place, all[place.dataset.figure]));
  }

  // -- tables ---------------------------------------------------------------------------------------------------------

  function valueOf(cell) {
    const said = cell.dataset.value !== undefined ? cell.dataset.value : cell.textContent.trim();
    const number = Number(said.replace(/,/g, "").replace("\u2212", "-"));
    return said !== "" && Number.isFinite(number) ? number : said.toLowerCase();
  }

  function sort(table, column) {
    const head = table.tHead.rows[0].cells[column];
    if (head.hasAttribute("data-plain")) return;
    const numeric = head.classList.contains("n");
    const before = head.getAttribute("aria-sort");
    const falling = before ? before === "ascending" : numeric;
    Array.from(table.tHead.rows[0].cells).forEach((cell) => cell.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const rows = Array.from(table.tBodies[0].rows).map((row) => [valueOf(row.cells[column]), row]);
    rows.sort(([a], [b]) => {
      if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
      const order = typeof a === "number" ? a - b : a.localeCompare(b);
      return falling ? -order : order;
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }

  function search(input) {
    const table = document.getElementById(input.dataset.search);
    const said = document.querySelector('[data-count="' + input.dataset.search + '"]');
    const rows = Array.from(table.tBodies[0].rows);
    const held = rows.map((row) => (row.textContent + " " + (row.dataset.text || "")).toLowerCase().replace(/\s+/g, " "));
    function apply() {
      const wanted = input.value.toLowerCase().split(",").map((part) => part.trim().replace(/\s+/g, " ")).filter(Boolean);
      let shown = 0;
      rows.forEach((row, i) => {
        const fits = wanted.every((part) => held[i].includes(part));
        row.hidden = !fits;
        shown += fits ? 1 : 0;
      });
      said.textContent = shown === rows.length ? rows.length + " rows" : shown + " of " + rows.length + " rows";
    }
    input.addEventListener("input", apply);
    apply();
  }

  document.querySelectorAll("table.sortable").forEach((table) => {
    Array.from(table.tHead.rows[0].cells).forEach((cell, i) => cell.addEventListener("click", () => sort(table, i)));
  });
  document.querySelectorAll("[data-search]").forEach(search);

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea")) return;
    const field = document.querySelector("[data-search]");
    if (event.key === "/" && field) { event.preventDefault(); field.focus(); return; }
    const link = document.querySelector('[data-key="' + event.key + '"]');
    if (link && /^Arrow/.test(event.key) && !event.target.closest(".js-plotly-plot")) link.click();
  });

  everything();
})();
