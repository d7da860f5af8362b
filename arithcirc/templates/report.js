"use strict";
(function () {
  const shared = JSON.parse(document.getElementById("figure-templates").textContent);
  const dark = window.arithcircDark || window.matchMedia("(prefers-color-scheme: dark)");
  const groups = [];

  function scheme(printing) {
    return !printing && dark.matches ? "dark" : "light";
  }

  function chosen(root, name) {
    return root && root.querySelector('input[data-selector="' + name + '"]:checked');
  }

  function chosenKey(group) {
    return group.selectors
      .map(function (name) {
        const checked = chosen(group.root, name) || chosen(document.querySelector(".controls"), name);
        return checked ? checked.value : group.root.dataset["only" + name[0].toUpperCase() + name.slice(1)];
      })
      .join("|");
  }

  function draw(group, printing) {
    const figure = group.figures[chosenKey(group)];
    group.empty.hidden = Boolean(figure);
    group.plot.hidden = !figure;
    if (!figure) return;
    const layout = Object.assign({}, figure.layout, { template: shared.templates[scheme(printing)] });
    delete layout.title;
    layout.margin = Object.assign({}, layout.margin, { t: 40 });
    group.caption.textContent = figure.layout.title ? figure.layout.title.text : "";
    group.plot.style.minHeight = (layout.height || 380) + "px";
    const meta = layout.meta || {};
    const data = structuredClone(figure.data);
    const placed = structuredClone(layout);
    if (meta.spreads) spread(data, placed, meta.spreads);
    showFrame(group, data, placed, meta.frames);
    Plotly.react(group.plot, data, placed, shared.config);
  }

  // A figure over checkpoints is drawn at 0, 1, 2 ...; where these lie is a choice of the page.
  function spread(data, layout, spreads) {
    const wanted = chosen(document.querySelector(".controls"), "steps");
    const way = spreads[wanted && wanted.value] || spreads[Object.keys(spreads)[0]];
    data.forEach(function (trace) {
      if (!Array.isArray(trace.x)) return;
      trace.x = trace.x.map(function (x) {
        const low = Math.floor(x);
        const high = Math.min(low + 1, way.at.length - 1);
        return way.at[low] + (x - low) * (way.at[high] - way.at[low]);
      });
    });
    Object.keys(layout).forEach(function (name) {
      if (!/^xaxis/.test(name)) return;
      Object.assign(layout[name], { tickvals: way.tickvals, ticktext: way.ticktext, range: way.range.slice() });
    });
  }

  // One checkpoint at a time: the slider exchanges the values of the maps, and says where there is none.
  function showFrame(group, data, layout, frames) {
    group.slider.hidden = !frames || frames.labels.length < 2;
    if (!frames) return;
    const last = frames.labels.length - 1;
    const input = group.slider.querySelector("input");
    if (group.frame === undefined || group.frame > last) group.frame = frames.shown;
    input.max = last;
    input.value = group.frame;
    input.setAttribute("aria-valuetext", frames.labels[group.frame]);
    group.slider.querySelector("output").textContent = frames.labels[group.frame];
    data.forEach(function (trace, i) {
      if (frames.z[group.frame][i]) trace.z = frames.z[group.frame][i];
    });
    const words = frames.said.reduce((all, said) => all.concat(said), []).filter(Boolean);
    layout.annotations = (layout.annotations || []).filter((note) => !words.includes(note.text));
    frames.said[group.frame].forEach(function (text, i) {
      const panel = i ? String(i + 1) : "";
      const where = { xref: "x" + panel + " domain", yref: "y" + panel + " domain", x: 0.5, y: 0.5 };
      if (text) layout.annotations.push(Object.assign({ text: text, showarrow: false }, where));
    });
  }

  function drawAll(printing) {
    groups.forEach(function (group) {
      if (group.drawn || printing === true) show(group, printing === true);
    });
  }

  function show(group, printing) {
    group.drawn = true;
    draw(group, printing);
  }

  // What is near the window is drawn at once, the rest one by one when the browser has nothing else to do.
  function drawSoon() {
    const waiting = groups.filter(function (group) {
      return !group.drawn;
    });
    if (!waiting.length) return;
    show(waiting[0], false);
    later(drawSoon);
  }

  function later(task) {
    if (window.requestIdleCallback) window.requestIdleCallback(task, { timeout: 400 });
    else window.setTimeout(task, 30);
  }

  function watch() {
    const observer = new IntersectionObserver(
      function (entries) {
        entries.forEach(function (entry) {
          const group = groups.find(function (g) {
            return g.root === entry.target;
          });
          if (!entry.isIntersecting) return;
          observer.unobserve(entry.target);
          if (!group.drawn) show(group, false);
        });
      },
      { rootMargin: "600px" }
    );
    groups.forEach(function (group) {
      observer.observe(group.root);
    });
  }

  document.querySelectorAll("figure[data-group]").forEach(function (root) {
    const stored = JSON.parse(document.getElementById("figures-" + root.dataset.group).textContent);
    const group = {
      root: root,
      selectors: stored.selectors,
      figures: stored.figures,
      plot: root.querySelector(".plot"),
      empty: root.querySelector(".no-figure"),
      caption: root.querySelector(".plot-title"),
      slider: root.querySelector(".slider"),
      drawn: false,
    };
    const first = group.figures[chosenKey(group)];
    if (first) {
      group.plot.style.minHeight = (first.layout.height || 380) + "px";
      if (first.layout.title) group.caption.textContent = first.layout.title.text;
    }
    groups.push(group);
    root.querySelectorAll('input[type="radio"]').forEach(function (input) {
      input.addEventListener("change", function () {
        show(group, false);
      });
    });
    group.slider.querySelector("input").addEventListener("input", function (event) {
      group.frame = Number(event.target.value);
      show(group, false);
    });
  });

  document.querySelectorAll(".controls input").forEach(function (input) {
    input.addEventListener("change", function () {
      drawAll(false);
    });
  });

  watch();
  later(drawSoon);
  dark.addEventListener("change", function () {
    drawAll(false);
  });
  window.addEventListener("beforeprint", function () {
    drawAll(true);
  });
  window.addEventListener("afterprint", function () {
    drawAll(false);
  });
})();
