// What a reader types while the next page is being drawn stays: the new page's field of that name gets it, with the
// cursor, and Enter, which Dash forgets when it replaces the page under it.
(function () {
  "use strict";

  const FIELDS = "#page input[id]:not([type=hidden]):not([aria-haspopup]), #page textarea[id]";
  const TRIES = 40, PAUSE = 25;
  let typed = new Map();  // id -> the field typed into since the address changed, and whether Enter was pressed in it

  function note(event, entered) {
    const field = event.target;
    if (field.matches && field.matches(FIELDS)) typed.set(field.id, { field, entered });
  }
  document.addEventListener("input", (event) => note(event, false), true);
  document.addEventListener("keydown", (event) => { if (event.key === "Enter") note(event, true); }, true);

  function write(field, old) {
    const kind = field.tagName === "TEXTAREA" ? HTMLTextAreaElement : HTMLInputElement;
    Object.getOwnPropertyDescriptor(kind.prototype, "value").set.call(field, old.value);
    field.dispatchEvent(new InputEvent("input", { bubbles: true }));
  }

  function give(id, old, entered, tries) {
    const field = document.getElementById(id);
    if (!field || field === old) {
      if (tries > 0) window.setTimeout(() => give(id, old, entered, tries - 1), PAUSE);
      return;
    }
    if (typed.has(id)) return;  // the reader was there first
    if (field.value !== old.value) write(field, old);
    if (document.activeElement === document.body) {
      field.focus();
      field.setSelectionRange(old.selectionStart, old.selectionEnd);
    }
    if (entered) field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    typed: {
      // The address changed: what was typed until now is what was asked.
      leave() { typed = new Map(); },
      // The page of the address stands.
      drawn() {
        const held = typed;
        typed = new Map();
        held.forEach(({ field, entered }, id) => give(id, field, entered, TRIES));
      },
    },
  });
})();
