// A cut that one moves through the scores of a section: what it calls cancer, and the F1 it earns. Of the table cuts: setting, section,
// rule ("": a step of the slider), cut, called (spots at or above it), hits (cancer among them), spots, cancer.
// data-show names the section that is shown first.
"use strict";

crossbook.piece("threshold", (live, data, box) => {
  const { make, number, rows } = crossbook;
  const CANCER = "var(--cancer)", OTHER = "var(--other)", LEFT = 40, RIGHT = 12, TALL = 90, F1 = 110;
  const RULES = { gmm: "from the scores alone", oracle: "from the labels of this section" };
  const all = rows(data.cuts), name = (row) => [row.section, data.names?.[row.setting] || row.setting].filter(Boolean).join(", ");
  const sections = [...new Set(all.map(name))], first = sections.includes(box.dataset.show) ? box.dataset.show : sections[0];
  let steps = [], rules = [], shown = null, width = 0;
  const f1 = ({ called, hits, cancer }) => (2 * hits) / (called + cancer);

  const head = make("div", { class: "numbers", "aria-live": "polite" }), place = make("div"), marks = make("div", { class: "controls" });
  const slider = crossbook.slider("cut", 0, 1, 1, 0, (at) => move(steps[at]));
  const controls = make("div", { class: "controls" }, "section", make("select", { "aria-label": "section",
    onchange: (event) => choose(event.target.value) }, ...sections.map((each) => make("option", { selected: each === first }, each))));
  live.append(controls, head, place, slider, marks);

  function choose(section) {
    const here = all.filter((row) => name(row) === section);
    steps = here.filter((row) => !row.rule);
    rules = here.filter((row) => row.rule);
    slider.max = steps.length - 1;
    marks.replaceChildren("cut", ...rules.map((row) => make("button", { type: "button", onclick: () => move(row) }, RULES[row.rule])));
    shown = rules[0] || steps[Math.floor(steps.length / 2)];
    if (width) draw();
  }

  const low = () => steps[0].cut, high = () => steps[steps.length - 1].cut;
  const x = (cut) => LEFT + ((cut - low()) / (high() - low() || 1)) * (width - LEFT - RIGHT);

  function draw() {
    // spots between one cut and the next
    const bins = steps.map((row, at) => {
      const next = steps[at + 1] || { called: 0, hits: 0 }, cancer = row.hits - next.hits;
      return { cut: row.cut, cancer, other: row.called - next.called - cancer };
    });
    const most = Math.max(...bins.flatMap(({ cancer, other }) => [cancer, other])), wide = Math.max((width - LEFT - RIGHT) / steps.length - 1, 1);
    const svg = make("svg", { height: 2 * TALL + F1 + 88, role: "img", "aria-label": "scores of cancer and other spots, and F1 by cut" });
    for (const { cut, cancer, other } of bins) {
      const up = (TALL * cancer) / most, down = (TALL * other) / most;
      svg.append(make("rect", { x: x(cut), y: TALL + 18 - up, width: wide, height: up, style: `fill: ${CANCER}` }));
      svg.append(make("rect", { x: x(cut), y: TALL + 19, width: wide, height: down, style: `fill: ${OTHER}` }));
    }
    svg.append(make("path", { class: "pointer", d: "" })); // below the words that it may cross
    svg.append(make("text", { x: LEFT + 4, y: 12, style: `fill: ${CANCER}` }, "cancer spots"));
    svg.append(make("text", { x: LEFT + 4, y: 2 * TALL + 33, style: `fill: ${OTHER}` }, "other spots"));
    const top = 2 * TALL + 56, y = (share) => top + (1 - share) * F1;
    for (const share of [0, 0.5, 1]) svg.append(make("text", { x: LEFT - 6, y: y(share) + 4, "text-anchor": "end" }, String(share)));
    svg.append(make("path", { class: "axis", d: `M${LEFT},${top}V${top + F1}H${width - RIGHT}` }));
    svg.append(make("path", { fill: "none", stroke: "currentColor", "stroke-width": 2,
      d: steps.map((row, at) => `${at ? "L" : "M"}${x(row.cut)},${y(f1(row))}`).join("") }));
    svg.append(make("text", { class: "quiet", x: LEFT + 4, y: top + 10 }, "F1 of each cut"));
    svg.append(make("text", { class: "quiet", x: width - RIGHT, y: top + F1 + 18, "text-anchor": "end" }, "score, higher: more like cancer"));
    svg.addEventListener("pointermove", (event) => {
      if (!event.buttons && event.pointerType !== "mouse") return;
      const share = (event.clientX - svg.getBoundingClientRect().left - LEFT) / (width - LEFT - RIGHT);
      move(steps[Math.min(Math.max(Math.round(share * (steps.length - 1)), 0), steps.length - 1)]);
    });
    place.replaceChildren(svg);
    move(shown);
  }

  function move(row) {
    shown = row;
    slider.value = steps.filter((each) => each.cut <= row.cut).length - 1;
    place.querySelector(".pointer")?.setAttribute("d", `M${x(row.cut)},18V${2 * TALL + 56 + F1}`);
    head.replaceChildren(
      make("span", {}, "F1 ", make("b", {}, number(f1(row), 3))),
      make("span", {}, `of all cuts the best ${number(Math.max(...[...steps, ...rules].map(f1)), 3)}; of calling every spot ${number((2 * row.cancer) / (row.spots + row.cancer), 3)}`),
      make("span", {}, `${row.called} of ${row.spots} spots called cancer, ${row.hits} of them rightly; ${row.cancer - row.hits} missed`));
    [...marks.querySelectorAll("button")].forEach((button, at) => button.setAttribute("aria-pressed", rules[at] === row));
  }

  choose(first);
  crossbook.fitted(place, (wide) => { width = wide; draw(); });
});
