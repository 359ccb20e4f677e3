// Kaplan-Meier curves of the patients above and below a cut, of the tables kaplan_meier (model, cut, group, time, at_risk, survival,
// low, high; a row a death) and groups (model, cut, p, hazard ratio). data-show names the model that is shown first.
"use strict";

crossbook.piece("survival", (live, data, box) => {
  const { make, number, rows } = crossbook;
  const COLOURS = { low: "var(--other)", high: "var(--cancer)" }, FEWEST = 10; // a curve ends where fewer are at risk
  const CUTS = { fold_median: "median of the fold", pooled_median: "median of all" };
  const tests = rows(data.groups).filter((row) => row.p !== null && row.setting === data.groups.setting[0]);
  const curves = rows(data.kaplan_meier).filter((row) => row.setting === data.groups.setting[0]);
  const models = [...new Set(tests.map((row) => row.model))];
  if (!models.length) throw new Error("no model has two groups");
  let model = models.includes(box.dataset.show) ? box.dataset.show : models[0], cut = Object.keys(CUTS)[0], month = 36, width = 0;

  // the tables have a row a death, and one for the last look, which is left out: how many are at risk is known where one died
  const groups = () => ["low", "high"].map((name) => {
    const all = curves.filter((row) => row.model === model && row.cut === cut && row.group === name);
    const deaths = all.filter((row, at) => !at || row.survival < all[at - 1].survival);
    const start = { time: 0, survival: 1, low: 1, high: 1 };
    return { name, deaths, steps: [start, ...deaths.filter((row) => row.at_risk >= FEWEST)] };
  });
  const atRisk = (deaths, time) => deaths.find((row) => row.time >= time)?.at_risk ?? 0;
  const until = Math.max(...groups().flatMap(({ steps }) => steps.map((row) => row.time)));

  const head = make("div", { class: "numbers" }), says = make("p", { class: "says", "aria-live": "polite" }), place = make("div");
  const slider = crossbook.slider("month", 0, Math.floor(until), 1, month, (value) => point(value));
  const select = make("select", { "aria-label": "model", onchange: (event) => { model = event.target.value; draw(); } },
    ...models.map((name) => make("option", { value: name, selected: name === model }, data.names?.[name] || name)));
  const cuts = crossbook.choice("cut", Object.values(CUTS), (at) => { cut = Object.keys(CUTS)[at]; draw(); });
  live.append(make("div", { class: "controls" }, select, "high risk from the", cuts), head, place, slider, says);

  const LEFT = 46, RIGHT = 10, TALL = 250, TOP = 8;
  const x = (time) => LEFT + (time / until) * (width - LEFT - RIGHT), y = (share) => TOP + (1 - share) * TALL;
  const path = (steps, key) => steps.map((row, at) => (at ? `H${x(row.time)}V${y(row[key])}` : `M${x(row.time)},${y(row[key])}`)).join("");
  function band(steps) {
    const back = [...steps].reverse().map((row, at) => (at ? `V${y(row.low)}H${x(row.time)}` : `L${x(row.time)},${y(row.low)}`));
    return `${path(steps, "high")}${back.join("")}Z`;
  }

  function draw() {
    const both = groups(), test = tests.find((row) => row.model === model && row.cut === cut);
    head.replaceChildren(...(!test ? ["This cut makes no two groups."] : [
      make("span", {}, "log-rank p ", make("b", {}, test.p < 0.001 ? "< 0.001" : test.p.toPrecision(2))),
      make("span", {}, "hazard ratio ", make("b", {}, number(test.hazard_ratio)), ` (${number(test.hr_low)} to ${number(test.hr_high)})`)]));
    const step = [1, 2, 3, 6, 12, 24, 36, 48, 60, 120].find((each) => (until / each) * 44 < width - LEFT) || 240;
    const svg = make("svg", { height: TOP + TALL + 84, role: "img", "aria-label": "Kaplan-Meier curves of high and low risk" });
    for (const share of [0, 0.25, 0.5, 0.75, 1])
      svg.append(make("text", { x: LEFT - 6, y: y(share) + 4, "text-anchor": "end" }, share.toFixed(2)));
    svg.append(make("path", { class: "axis", d: `M${LEFT},${TOP}V${TOP + TALL}H${width - RIGHT}` }));
    for (let time = 0; time <= until; time += step) {
      svg.append(make("text", { x: x(time), y: TOP + TALL + 16, "text-anchor": "middle" }, String(time)));
      both.forEach(({ name, deaths }, row) => svg.append(make("text",
        { x: x(time), y: TOP + TALL + 50 + 16 * row, "text-anchor": "middle", style: `fill: ${COLOURS[name]}` }, String(atRisk(deaths, time) || ""))));
    }
    svg.append(make("text", { class: "quiet", x: LEFT, y: TOP + TALL + 33 }, "months; below: at risk at the next death"));
    for (const { name, steps } of both) {
      svg.append(make("path", { d: band(steps), style: `fill: ${COLOURS[name]}`, opacity: 0.17 }));
      svg.append(make("path", { d: path(steps, "survival"), style: `fill: none; stroke: ${COLOURS[name]}`, "stroke-width": 2 }));
    }
    svg.append(make("path", { class: "pointer", d: "" }));
    svg.addEventListener("pointermove", (event) => point(Math.round(
      ((event.clientX - svg.getBoundingClientRect().left - LEFT) / (width - LEFT - RIGHT)) * until)));
    place.replaceChildren(svg);
    point(month);
  }

  function point(time) {
    month = Math.min(Math.max(time, 0), Math.floor(until));
    slider.value = month;
    place.querySelector(".pointer")?.setAttribute("d", `M${x(month)},${TOP}V${TOP + TALL}`);
    const words = Object.fromEntries(groups().map(({ name, deaths, steps }) => {
      const left = atRisk(deaths, month), row = steps.filter((each) => each.time <= month).pop();
      const alive = `${number(row.survival)} (${number(row.low)} to ${number(row.high)}) alive`;
      return [name, make("span", { style: `color: ${COLOURS[name]}` }, !left ? "no death later" : `${left < FEWEST ? "too few to say" : alive}, ${left} at risk at the next death`)];
    }));
    says.replaceChildren(`After ${month} months, high risk: `, words.high, "; low risk: ", words.low, ". A curve ends at its last death, or where fewer than ten are at risk.");
  }

  crossbook.fitted(place, (wide) => { width = wide; draw(); });
});
