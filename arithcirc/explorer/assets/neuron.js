// Page Neuron: the line under the maps says what is under the pointer; links keep what the controls show.
(function () {
  "use strict";

  const no = () => window.dash_clientside.no_update;
  const words = ["no legal prompt", "outside H", "hit", "miss", "false alarm"];
  const text = (value) => Number(value).toPrecision(4).replace("-", "−");

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
      // A row of the labels' table was clicked.
      label(cell) {
        return cell && cell.rowId ? cell.rowId : no();
      },
    },
  });
})();
