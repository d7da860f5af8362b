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
      draw(group, printing === true);
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
    };
    groups.push(group);
    root.querySelectorAll("input").forEach(function (input) {
      input.addEventListener("change", function () {
        draw(group, false);
      });
    });
  });

  drawAll(false);
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
