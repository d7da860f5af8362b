// Clicks and choices that lead to another address. What a point stands for is said by the figure (layout.meta).
(function () {
  "use strict";

  const no = () => window.dash_clientside.no_update;
  const common = ["run", "model", "revision", "op"];

  function query(held) {
    const kept = new URLSearchParams();
    Object.entries(held).forEach(([name, value]) => {
      if (value !== null && value !== undefined && value !== "") kept.set(name, String(value));
    });
    const text = kept.toString();
    return text ? "?" + text : "";
  }

  function read(point, source) {
    const [name, place] = source.split(".");
    const value = point[name];
    return place === undefined || value === null || value === undefined ? value : value[Number(place)];
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    follow: {
      point(click, figure, view) {
        const meta = figure && figure.layout && figure.layout.meta;
        if (!click || !click.points || !click.points.length || !meta || !view) return [no(), no()];
        const held = {};
        common.forEach((name) => { held[name] = view[name]; });
        if ("/" + meta.page === window.location.pathname) {
          new URLSearchParams(window.location.search).forEach((value, name) => { held[name] = value; });
        }
        Object.assign(held, meta.fixed);
        for (const [name, source] of Object.entries(meta.parameters)) {
          const value = read(click.points[0], source);
          if (value === null || value === undefined || value === "") return [no(), no()];
          const words = meta.values[name];
          held[name] = words && String(value) in words ? words[String(value)] : value;
        }
        const search = query(held);
        const path = "/" + meta.page;
        return [path === window.location.pathname ? no() : path, search === window.location.search ? no() : search];
      },
      // A search typed on a page that has no list of neurons.
      search(times, text, view) {
        if (!times || !text || !view) return [no(), no()];
        const held = { q: text };
        common.forEach((name) => { held[name] = view[name]; });
        return ["/neurons", query(held)];
      },
      // A row of a grid, identified by its address.
      row(cell) {
        if (!cell || !cell.rowId || !String(cell.rowId).startsWith("/")) return [no(), no()];
        const to = new URL(cell.rowId, window.location.origin);
        if (to.origin !== window.location.origin) return [no(), no()];
        return [to.pathname === window.location.pathname ? no() : to.pathname,
          to.search === window.location.search ? no() : to.search];
      },
      // A control that redraws the page, named page-parameter. `shown` is what the page was drawn with.
      choose(value, view, shown) {
        const triggered = window.dash_clientside.callback_context.triggered[0];
        if (!triggered || !view || !shown || value === null || value === undefined) return no();
        const name = triggered.prop_id.split(".")[0].replace(/^[^-]*-/, "");
        if (String(value) === String(shown.values[name] === null ? "" : shown.values[name])) return no();
        const held = {};
        common.forEach((part) => { held[part] = view[part]; });
        new URLSearchParams(window.location.search).forEach((text, part) => { held[part] = text; });
        (shown.drops[name] || []).forEach((part) => { delete held[part]; });
        held[name] = value;
        const search = query(held);
        return search === window.location.search ? no() : search;
      },
    },
  });
})();
