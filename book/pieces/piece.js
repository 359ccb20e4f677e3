// What the pieces of a page share. A piece is a Div of class "piece" around a still picture; lib/pieces.py sets its data
// into it as JSON. What `draw` shows takes the picture's place; the caption stays. If anything fails, the picture stays.
"use strict";

const crossbook = {
  make(tag, attributes = {}, ...children) {
    const drawing = crossbook.drawings.has(tag);
    const element = drawing ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== false && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  },
  drawings: new Set(["svg", "g", "path", "line", "rect", "circle", "text"]),

  // buttons of which one is pressed; `chosen` is called with its number
  choice(words, names, chosen) {
    const buttons = names.map((name, at) =>
      crossbook.make("button", { type: "button", "aria-pressed": at === 0, onclick: () => press(at) }, name));
    const press = (at) => {
      buttons.forEach((button, other) => button.setAttribute("aria-pressed", other === at));
      chosen(at);
    };
    return crossbook.make("span", { class: "choice", role: "group", "aria-label": words }, ...buttons);
  },

  slider(words, low, high, step, value, moved) {
    const input = crossbook.make("input", { type: "range", min: low, max: high, step, "aria-label": words });
    input.value = value;
    input.addEventListener("input", () => moved(Number(input.value)));
    return input;
  },

  // draw now, and again when the place for it has another width
  fitted(place, draw) {
    let width = 0;
    new ResizeObserver(() => {
      if (place.clientWidth && place.clientWidth !== width) draw((width = place.clientWidth));
    }).observe(place);
  },

  number: (value, digits = 2) => (Number.isFinite(value) ? value.toFixed(digits).replace("-", "−") : "not computable"),

  // rows of a table that is given by its columns
  rows(table) {
    const names = Object.keys(table);
    return table[names[0]].map((_, at) => Object.fromEntries(names.map((name) => [name, table[name][at]])));
  },

  piece(kind, draw) {
    for (const box of document.querySelectorAll(`.piece[data-piece="${kind}"]`)) {
      const still = box.querySelector("img");
      const live = crossbook.make("div", { class: "live" });
      try {
        draw(live, JSON.parse(box.querySelector("script[type='application/json']").textContent), box);
      } catch (error) {
        box.append(crossbook.make("p", { class: "why" }, `A still picture: ${error.message}.`));
        continue;
      }
      still ? still.before(live) : box.prepend(live);
      box.classList.add("is-live");
    }
  },
};
