// Light or dark: the reader's choice, else the system's. Loaded first, so that no page flashes. Storage may be refused.
"use strict";
(function () {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const heard = [];
  let choice = null;
  try { choice = window.localStorage.getItem("arithcirc-theme"); } catch (error) { choice = null; }
  if (choice !== "dark" && choice !== "light") choice = null;

  function dark() { return choice ? choice === "dark" : system.matches; }
  function apply() { document.documentElement.dataset.theme = dark() ? "dark" : "light"; }
  function label() {
    const button = document.querySelector("[data-toggle-theme]");
    if (button) button.textContent = dark() ? "☀ light" : "☾ dark";
  }
  function changed() { apply(); label(); heard.forEach((hear) => hear()); }

  window.arithcircDark = {
    get matches() { return dark(); },
    addEventListener: (_, hear) => heard.push(hear),
  };
  system.addEventListener("change", changed);
  document.addEventListener("DOMContentLoaded", () => {
    label();
    document.querySelector("[data-toggle-theme]").addEventListener("click", () => {
      choice = dark() ? "light" : "dark";
      try { window.localStorage.setItem("arithcirc-theme", choice); } catch (error) { /* this page only */ }
      changed();
    });
  });
  apply();
})();
