// Tables of a static export: sort by a click on a head, search, filter, fifty lines at a time, a line that opens.
// A unit is a row, or a body of two rows (the line and what it opens to) in tables marked data-groups.
"use strict";
(function () {
  const unitsOf = (table) => Array.from(table.hasAttribute("data-groups") ? table.tBodies : table.tBodies[0].rows);
  const lineOf = (unit) => unit.rows ? unit.rows[0] : unit;
  const plain = (text) => text.toLowerCase().replace(/\s+/g, " ").trim();

  function valueOf(cell) {
    const said = cell.dataset.value !== undefined ? cell.dataset.value : cell.textContent.trim();
    const number = Number(said.replace(/,/g, "").replace("\u2212", "-"));
    return said !== "" && Number.isFinite(number) ? number : said.toLowerCase();
  }

  function sort(table, column) {
    const head = table.tHead.rows[0].cells[column];
    if (head.hasAttribute("data-plain")) return;
    const before = head.getAttribute("aria-sort");
    const falling = before ? before === "ascending" : head.classList.contains("n");
    Array.from(table.tHead.rows[0].cells).forEach((cell) => cell.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const units = unitsOf(table).map((unit) => [valueOf(lineOf(unit).cells[column]), unit]);
    units.sort(([a], [b]) => {
      if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
      const order = typeof a === "number" ? a - b : a.localeCompare(b);
      return falling ? -order : order;
    });
    units[0] && units[0][1].parentNode.append(...units.map(([, unit]) => unit));
    table.dispatchEvent(new Event("sorted"));
  }

  function find(input) {
    const table = document.getElementById(input.dataset.search);
    const name = input.dataset.search;
    const said = document.querySelector('[data-count="' + name + '"]');
    const pager = document.querySelector('[data-pager="' + name + '"]');
    const filters = Array.from(document.querySelectorAll('[data-filter="' + name + '"]'));
    const size = Number(table.dataset.page || Infinity);
    const texts = new Map(unitsOf(table).map((unit) => [unit, plain(unit.textContent + " " + (unit.dataset.text || ""))]));
    let page = 0;

    function apply() {
      const wanted = input.value.split(",").map(plain).filter(Boolean);
      const chosen = filters.filter((f) => f.checked && f.value !== "").map((f) => [f.dataset.field, f.value]);
      const fitting = [];
      unitsOf(table).forEach((unit) => {
        const fits = wanted.every((part) => texts.get(unit).includes(part)) &&
          chosen.every(([field, value]) => unit.dataset[field] === value);
        unit.hidden = true;
        if (fits) fitting.push(unit);
      });
      page = Math.max(0, Math.min(page, Math.ceil(fitting.length / size) - 1));
      const from = Number.isFinite(size) ? page * size : 0;
      const shown = fitting.slice(from, from + size);
      shown.forEach((unit) => { unit.hidden = false; });
      const all = texts.size;
      const some = fitting.length === all ? all + " rows" : fitting.length + " of " + all + " rows";
      const range = shown.length < fitting.length ? ": " + (from + 1) + "–" + (from + shown.length) + " shown" : "";
      said.textContent = fitting.length ? some + range : "0 of " + all + " rows: nothing fits, change the search or a filter";
      if (!pager) return;
      pager.hidden = fitting.length <= size;
      pager.querySelector("[data-by='-1']").disabled = page === 0;
      pager.querySelector("[data-by='1']").disabled = from + size >= fitting.length;
    }
    function anew() { page = 0; apply(); }
    input.addEventListener("input", anew);
    table.addEventListener("sorted", anew);
    filters.forEach((filter) => filter.addEventListener("change", anew));
    if (pager) pager.querySelectorAll("button").forEach((button) => button.addEventListener("click", () => {
      page += Number(button.dataset.by);
      apply();
    }));
    apply();
  }

  document.querySelectorAll("table.sortable").forEach((table) => {
    Array.from(table.tHead.rows[0].cells).forEach((cell, i) => cell.addEventListener("click", () => sort(table, i)));
  });
  document.querySelectorAll("[data-search]").forEach(find);
  document.querySelectorAll("table[data-groups]").forEach((table) => table.addEventListener("click", (event) => {
    const body = event.target.closest("tbody");
    if (!body || event.target.closest("a, .more")) return;
    const opened = body.rows[1].hidden;
    body.rows[1].hidden = !opened;
    body.querySelector("button").setAttribute("aria-expanded", String(opened));
  }));
})();
