// Page Neuron: makes a figure's maps of the numbers that explorer/pages/neuron_pack.py sends, before plotly draws them.
(function () {
  "use strict";

  const answers = {
    "+": (a, b) => a + b, "-": (a, b) => a - b, "*": (a, b) => a * b, "/": (a, b) => Math.floor(a / Math.max(b, 1)),
  };

  function bytes(text) {
    const plain = window.atob(text.replaceAll("_", "/").replaceAll("-", "N"));
    const found = new Uint8Array(plain.length);
    for (let i = 0; i < found.length; i += 1) found[i] = plain.charCodeAt(i);
    return found.buffer;
  }

  // The 65,536 float16 numbers, made once.
  let halves = null;
  function half(bits) {
    if (!halves) {
      halves = new Float32Array(65536);
      for (let i = 0; i < 65536; i += 1) {
        const sign = i & 0x8000 ? -1 : 1, exponent = (i >> 10) & 31, fraction = i & 1023;
        if (exponent === 31) halves[i] = fraction ? NaN : sign * Infinity;
        else if (exponent === 0) halves[i] = sign * fraction * 2 ** -24;
        else halves[i] = sign * (1024 + fraction) * 2 ** (exponent - 25);
      }
    }
    return halves[bits];
  }

  function activations(text, count) {
    const buffer = bytes(text);
    if (buffer.byteLength === 4 * count) return new Float32Array(buffer);
    return Float32Array.from(new Uint16Array(buffer), half);
  }

  function lines(flat, columns) {
    const found = [];
    for (let i = 0; i < flat.length; i += columns) found.push(flat.subarray(i, i + columns));
    return found;
  }

  function made(traces) {
    let k = null, answer = null;
    return traces.map((trace) => {
      const held = trace.z && trace.z.packed ? trace.z : null;
      if (!held) return trace;
      const { rows, columns, first } = held;
      if (held.codes) return Object.assign({}, trace, { z: lines(new Uint8Array(bytes(held.codes)), columns) });
      if (held.k) {
        k = activations(held.k, rows * columns);
        answer = new Int32Array(k.length);
        const of = answers[held.operator];
        for (let i = 0; i < k.length; i += 1) {
          if (!Number.isNaN(k[i])) answer[i] = of(first + Math.floor(i / columns), first + (i % columns));
        }
      }
      let z = k;
      if (held.packed === "kv") {
        const value = new Float32Array(bytes(held.value));
        z = k.map((one, i) => one * value[answer[i]]);
      }
      return Object.assign({}, trace, { z: lines(z, columns), customdata: lines(answer, columns) });
    });
  }

  // plotly.js is loaded when the first figure is shown: what draws is wrapped as it arrives.
  function wrapped(plotly) {
    ["react", "newPlot"].forEach((name) => {
      const draw = plotly[name];
      plotly[name] = function (place, figure, ...rest) {
        const inside = figure && Array.isArray(figure.data);
        const traces = inside ? figure.data : figure;
        if (!Array.isArray(traces) || !traces.some((trace) => trace.z && trace.z.packed)) {
          return draw.call(this, place, figure, ...rest);
        }
        const full = made(traces);
        return draw.call(this, place, inside ? Object.assign({}, figure, { data: full }) : full, ...rest);
      };
    });
    return plotly;
  }

  let held = window.Plotly && wrapped(window.Plotly);
  Object.defineProperty(window, "Plotly", {
    configurable: true,
    get: () => held,
    set: (plotly) => { held = plotly && plotly.react ? wrapped(plotly) : plotly; },
  });
})();
