// Kaplan-Meier curves of the patients above and below a cut. Data: time (months), event (1: happened, 0: followed so far),
// models [{name, cuts: [{name, high: "0110-" a patient, p, ratio: [estimate, low, high]}]}]; see lib/figures/pieces.py.
"use strict";

crossbook.piece("survival", (live, data, box) => {
  const { make, number } = crossbook;
  const COLOURS = { low: "var(--other)", high: "var(--cancer)" }, FEWEST = 10; // a curve ends where fewer are followed
  let cut = 0, month = 36, width = 0; // data-show names the model that is shown first
  let model = Math.max(data.models.findIndex((each) => each.name === box.dataset.show), 0);

  // rows of time, survival and its 95 % interval (Greenwood, log-log), from month 0 on
  function estimate(patients) {
    const left = patients.map((at) => [data.time[at], data.event[at]]).sort((a, b) => a[0] - b[0]);
    const rows = [{ time: 0, survival: 1, low: 1, high: 1 }];
    let survival = 1, spread = 0;
    for (let at = 0; at < left.length; ) {
      const time = left[at][0], followed = left.length - at;
      let events = 0;
      for (; at < left.length && left[at][0] === time; at++) events += left[at][1];
      if (followed < FEWEST) break;
      survival *= 1 - events / followed;
      spread += events / (followed * (followed - events));
      const power = Math.exp((1.959964 * Math.sqrt(spread)) / Math.abs(Math.log(survival)));
      const known = survival > 0 && survival < 1;
      rows.push({ time, survival, low: known ? survival ** power : survival, high: known ? survival ** (1 / power) : survival });
    }
    return rows;
  }

  const followed = (patients, time) => patients.filter((at) => data.time[at] >= time).length;
  const last = (rows, time) => rows.filter((row) => row.time <= time).pop();
  const now = () => data.models[model].cuts[cut];
  function groups() {
    const side = [...now().high];
    return ["low", "high"].map((name) => {
      const patients = side.flatMap((mark, at) => (mark === (name === "high" ? "1" : "0") ? [at] : []));
      return { name, patients, rows: estimate(patients) };
    });
  }

  // no group has as many later
  const until = Math.ceil([...data.time].sort((a, b) => b - a)[FEWEST - 1] ?? Math.max(...data.time, 1));
  const head = make("div", { class: "numbers" }), says = make("p", { class: "says", "aria-live": "polite" });
  const place = make("div"), slider = crossbook.slider("month", 0, until, 1, month, (value) => point(value));
  const cuts = crossbook.choice("cut", data.models[0].cuts.map((each) => each.name), (at) => { cut = at; draw(); });
  const controls = make("div", { class: "controls" });
  if (data.models.length > 1) {
    const select = make("select", { "aria-label": "model", onchange: (event) => { model = event.target.selectedIndex; draw(); } },
      ...data.models.map((each) => make("option", {}, each.name)));
    select.selectedIndex = model;
    controls.append(select);
  }
  controls.append("high risk from the", cuts);
  live.append(controls, head, place, slider, says);

  const LEFT = 46, RIGHT = 10, TALL = 250, TOP = 8;
  const x = (time) => LEFT + (time / until) * (width - LEFT - RIGHT);
  const y = (share) => TOP + (1 - share) * TALL;

  function path(rows, key) {
    return rows.map((row, at) => (at ? `H${x(row.time)}V${y(row[key])}` : `M${x(row.time)},${y(row[key])}`)).join("");
  }
  function band(rows) {
    const down = [...rows].reverse().map((row, at, all) => (at ? `V${y(row.low)}H${x(row.time)}` : `L${x(row.time)},${y(row.low)}`));
    return `${path(rows, "high")}${down.join("")}Z`;
  }

  function draw() {
    const both = groups(), { p, ratio } = now();
    head.replaceChildren(
      make("span", {}, "log-rank p ", make("b", {}, p < 0.001 ? "< 0.001" : p.toPrecision(2))),
      make("span", {}, "hazard ratio ", make("b", {}, number(ratio[0])), ` (${number(ratio[1])} to ${number(ratio[2])})`));
    const step = [1, 2, 3, 6, 12, 24, 36, 48, 60, 120].find((each) => (until / each) * 44 < width - LEFT) || 240;
    const svg = make("svg", { height: TOP + TALL + 84, role: "img", "aria-label": "Kaplan-Meier curves of high and low risk" });
    for (const share of [0, 0.25, 0.5, 0.75, 1])
      svg.append(make("text", { x: LEFT - 6, y: y(share) + 4, "text-anchor": "end" }, share.toFixed(2)));
    svg.append(make("path", { class: "axis", d: `M${LEFT},${TOP}V${TOP + TALL}H${width - RIGHT}` }));
    for (let time = 0; time <= until; time += step) {
      svg.append(make("text", { x: x(time), y: TOP + TALL + 16, "text-anchor": "middle" }, String(time)));
      both.forEach((group, row) => svg.append(make("text",
        { x: x(time), y: TOP + TALL + 50 + 16 * row, "text-anchor": "middle", style: `fill: ${COLOURS[group.name]}` },
        String(followed(group.patients, time)))));
    }
    svg.append(make("text", { class: "quiet", x: LEFT, y: TOP + TALL + 33 }, "months; below: patients still followed"));
    both.forEach((group) => {
      const colour = COLOURS[group.name];
      svg.append(make("path", { d: band(group.rows), style: `fill: ${colour}`, opacity: 0.17 }));
      svg.append(make("path", { d: path(group.rows, "survival"), style: `fill: none; stroke: ${colour}`, "stroke-width": 2 }));
      const end = group.rows[group.rows.length - 1];
      svg.append(make("path", { style: `fill: none; stroke: ${colour}`, "stroke-width": 2, d: `M${x(end.time)},${y(end.survival) - 6}v12` }));
    });
    svg.append(make("path", { class: "pointer", d: "" }));
    svg.addEventListener("pointermove", (event) => point(Math.round(
      ((event.clientX - svg.getBoundingClientRect().left - LEFT) / (width - LEFT - RIGHT)) * until)));
    place.replaceChildren(svg);
    point(month);
  }

  function point(time) {
    month = Math.min(Math.max(time, 0), until);
    slider.value = month;
    place.querySelector(".pointer")?.setAttribute("d", `M${x(month)},${TOP}V${TOP + TALL}`);
    const words = groups().map(({ name, patients, rows }) => {
      const left = followed(patients, month), row = last(rows, month);
      const alive = `${number(row.survival)} (${number(row.low)} to ${number(row.high)}) alive`;
      return make("span", { style: `color: ${COLOURS[name]}` }, `${left < FEWEST ? "too few to say" : alive}, ${left} followed`);
    });
    says.replaceChildren(`After ${month} months, high risk: `, words[1], "; low risk: ", words[0],
      ". A curve ends where fewer than ten are followed.");
  }

  crossbook.fitted(place, (wide) => { width = wide; draw(); });
});
