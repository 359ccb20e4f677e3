// A cut that one moves through the scores of a section: what it calls cancer, and the F1 it earns.
// Data: sections [{name, labels: "0110", scores, cuts: [{name, at}]}]; see lib/figures/live.py.
"use strict";

crossbook.piece("threshold", (live, data) => {
  const { make, number } = crossbook;
  const CANCER = "var(--cancer)", OTHER = "var(--other)", BINS = 40, LEFT = 40, RIGHT = 12, TALL = 90, F1 = 110;
  let section = data.sections[0], cut = 0, width = 0;

  // counts of a cut: spots at or above it are called cancer
  function called(at) {
    const counts = { hit: 0, alarm: 0, missed: 0, left: 0 };
    section.scores.forEach((score, spot) => {
      const cancer = section.labels[spot] === "1";
      counts[score >= at ? (cancer ? "hit" : "alarm") : cancer ? "missed" : "left"] += 1;
    });
    return counts;
  }
  const f1 = ({ hit, alarm, missed }) => (2 * hit) / (2 * hit + alarm + missed);

  const head = make("div", { class: "numbers", "aria-live": "polite" }), place = make("div"), marks = make("div", { class: "controls" });
  const slider = crossbook.slider("cut", 0, 1000, 1, 500, (value) => move(low + (value / 1000) * (high - low)));
  const controls = make("div", { class: "controls" });
  if (data.sections.length > 1)
    controls.append("section", make("select", { "aria-label": "section", onchange: (event) => choose(event.target.selectedIndex) },
      ...data.sections.map((each) => make("option", {}, each.name))));
  live.append(controls, head, place, slider, marks);

  let low = 0, high = 1, curve = [];
  function choose(at) {
    section = data.sections[at];
    low = Math.min(...section.scores);
    high = Math.max(...section.scores);
    curve = [...Array(201).keys()].map((step) => {
      const value = low + (step / 200) * (high - low);
      return { value, f1: f1(called(value)) };
    });
    marks.replaceChildren("cut", ...section.cuts.filter((each) => each.at !== null).map((each) =>
      make("button", { type: "button", onclick: () => move(each.at) }, each.name)));
    cut = section.cuts.find((each) => each.at !== null)?.at ?? (low + high) / 2;
    if (width) draw();
  }

  const x = (value) => LEFT + ((value - low) / (high - low || 1)) * (width - LEFT - RIGHT);
  function draw() {
    const bins = { 1: Array(BINS).fill(0), 0: Array(BINS).fill(0) };
    section.scores.forEach((score, spot) => {
      bins[section.labels[spot]][Math.min(BINS - 1, Math.floor(((score - low) / (high - low || 1)) * BINS))] += 1;
    });
    const most = Math.max(...bins[0], ...bins[1]), wide = (width - LEFT - RIGHT) / BINS;
    const svg = make("svg", { height: 2 * TALL + F1 + 88, role: "img", "aria-label": "scores of cancer and other spots, and F1 by cut" });
    for (const [label, colour, words] of [["1", CANCER, "cancer"], ["0", OTHER, "other"]]) {
      bins[label].forEach((count, at) => {
        const tall = (TALL * count) / most, y = label === "1" ? TALL + 18 - tall : TALL + 19;
        svg.append(make("rect", { x: LEFT + at * wide, y, width: Math.max(wide - 1, 1), height: tall, style: `fill: ${colour}` }));
      });
      svg.append(make("text", { x: LEFT + 4, y: label === "1" ? 12 : 2 * TALL + 33, style: `fill: ${colour}` }, `${words} spots`));
    }
    const top = 2 * TALL + 56, y = (share) => top + (1 - share) * F1;
    for (const share of [0, 0.5, 1]) svg.append(make("text", { x: LEFT - 6, y: y(share) + 4, "text-anchor": "end" }, String(share)));
    svg.append(make("path", { class: "axis", d: `M${LEFT},${top}V${top + F1}H${width - RIGHT}` }));
    svg.append(make("path", { fill: "none", stroke: "currentColor", "stroke-width": 2,
      d: curve.map((point, at) => `${at ? "L" : "M"}${x(point.value)},${y(point.f1)}`).join("") }));
    svg.append(make("text", { class: "quiet", x: LEFT + 4, y: top + 10 }, "F1 of each cut"));
    svg.append(make("text", { class: "quiet", x: width - RIGHT, y: top + F1 + 18, "text-anchor": "end" }, "score, higher: more like cancer"));
    svg.append(make("path", { class: "pointer", d: "" }));
    svg.addEventListener("pointermove", (event) => {
      if (event.buttons || event.pointerType === "mouse")
        move(low + ((event.clientX - svg.getBoundingClientRect().left - LEFT) / (width - LEFT - RIGHT)) * (high - low));
    });
    place.replaceChildren(svg);
    move(cut);
  }

  function move(value) {
    cut = Math.min(Math.max(value, low), high);
    slider.value = ((cut - low) / (high - low || 1)) * 1000;
    place.querySelector(".pointer")?.setAttribute("d", `M${x(cut)},8V${2 * TALL + 56 + F1}`);
    const counts = called(cut), { hit, alarm, missed } = counts;
    head.replaceChildren(
      make("span", {}, "F1 ", make("b", {}, number(f1(counts), 3))),
      make("span", {}, `of all cuts the best ${number(Math.max(...curve.map((point) => point.f1 || 0)), 3)}`),
      make("span", {}, `${hit + alarm} spots called cancer, ${hit} of them rightly; ${missed} missed`));
    for (const button of marks.querySelectorAll("button")) {
      const at = section.cuts.find((each) => each.name === button.textContent).at;
      button.setAttribute("aria-pressed", Math.abs(at - cut) < 1e-9);
    }
  }

  choose(0);
  crossbook.fitted(place, (wide) => { width = wide; draw(); });
});
