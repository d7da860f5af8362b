// Pages of a static export: figures from packed arrays, the chosen operator, arrow keys. Nothing is requested.
"use strict";
(function () {
  const dark = window.arithcircDark;
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

  // The overview: one operator at a time, named in the address.
  function operators(all) {
    const inputs = Array.from(document.querySelectorAll("[data-operators] input"));
    function show(sign) {
      document.querySelectorAll("[data-op]").forEach((part) => { part.hidden = part.dataset.op !== sign; });
      document.querySelectorAll("[data-row]").forEach((row) => row.classList.toggle("here", row.dataset.row === sign));
      document.querySelectorAll("[data-figure]").forEach((place) => {
        const figure = all[place.dataset.figure + "-" + sign];
        place.hidden = !figure;
        if (figure) draw(place, figure);
      });
    }
    function chosen() {
      const wanted = inputs.find((input) => "#" + input.dataset.name === location.hash);
      if (wanted) wanted.checked = true;
      const input = inputs.find((one) => one.checked);
      if (input) show(input.value);
    }
    inputs.forEach((input) => input.addEventListener("change", () => { location.hash = input.dataset.name; }));
    window.addEventListener("hashchange", chosen);
    chosen();
  }

  async function everything() {
    if (!document.getElementById("figures")) return;
    const all = await figures();
    if (document.querySelector(".overview")) { operators(all); return; }
    await maps(all);
    document.querySelectorAll("[data-figure]").forEach((place) => draw(place, all[place.dataset.figure]));
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea")) return;
    const field = document.querySelector("[data-search]");
    if (event.key === "/" && field) { event.preventDefault(); field.focus(); return; }
    const link = document.querySelector('[data-key="' + event.key + '"]');
    if (link && /^Arrow/.test(event.key) && !event.target.closest(".js-plotly-plot")) link.click();
  });

  everything();
})();
