"use strict";
(function () {
  const shared = JSON.parse(document.getElementById("figure-templates").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const groups = [];

  function scheme(printing) {
    return !printing && dark.matches ? "dark" : "light";
  }

  function chosenKey(group) {
    return group.selectors
      .map(function (name) {
        const checked = group.root.querySelector('input[data-selector="' + name + '"]:checked');
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
    Plotly.react(group.plot, structuredClone(figure.data), structuredClone(layout), shared.config);
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
      drawn: false,
    };
    const first = group.figures[chosenKey(group)];
    if (first) {
      group.plot.style.minHeight = (first.layout.height || 380) + "px";
      if (first.layout.title) group.caption.textContent = first.layout.title.text;
    }
    groups.push(group);
    root.querySelectorAll("input").forEach(function (input) {
      input.addEventListener("change", function () {
        show(group, false);
      });
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
