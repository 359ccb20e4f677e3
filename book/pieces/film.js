// One slice of a perfusion film: it runs, the curve of the voxel under the pointer is drawn beside it, and the maps made of it.
// Data: rows, columns, seconds, film and maps [{name, of (unit), low, high (ends of the colours), turned, unit (of a number), values
// (16 bits each; -32768: no brain)}]; see lib/figures/live.py.
"use strict";

crossbook.piece("film", (live, data) => {
  const { make, number } = crossbook;
  const { rows, columns, seconds } = data, area = rows * columns, NONE = -32768;
  const numbers = (packed) => new Int16Array(Uint8Array.from(atob(packed.values), (sign) => sign.charCodeAt(0)).buffer);
  const film = { name: "film", of: "HU", ...data.film, numbers: numbers(data.film) };
  const shown = [film, ...data.maps.map((map) => ({ ...map, numbers: numbers(map) }))];
  const INFERNO = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];
  const COLOURS = [...Array(256).keys()].map((byte) => {
    const at = (byte / 255) * (INFERNO.length - 1), from = INFERNO[Math.floor(at)];
    const to = INFERNO[Math.min(Math.floor(at) + 1, INFERNO.length - 1)];
    return from.map((part, band) => part + (to[band] - part) * (at - Math.floor(at)));
  });
  const PLOT = 200, LEFT = 44, RIGHT = 10, ZOOM = Math.ceil(560 / Math.max(rows, columns));
  const value = (map, at) => (map.numbers[at] === NONE ? NaN : map.numbers[at] * map.unit);

  // at first the voxel that lights up most, in the frame in which it does
  let most = 0;
  film.numbers.forEach((each, at) => { if (each > film.numbers[most]) most = at; });
  let chosen = film, frame = Math.floor(most / area), voxel = most % area, running = 0, width = 0;

  const canvas = make("canvas", { width: columns * ZOOM, height: rows * ZOOM, role: "img", "aria-label": "slice of the film or map",
    style: "background: #000; cursor: crosshair; touch-action: pan-y" });
  const small = make("canvas", { width: columns, height: rows });
  const says = make("p", { class: "says", "aria-live": "polite" }), place = make("div");
  const slider = crossbook.slider("frame", 0, seconds.length - 1, 1, 0, (at) => { stop(); frame = at; draw(); });
  const play = make("button", { type: "button", onclick: () => (running ? stop() : start()) }, "run");
  const choice = crossbook.choice("film or map", shown.map((each) => each.name), (at) => { stop(); chosen = shown[at]; draw(); });
  live.append(make("div", { class: "controls" }, choice, play), make("div", { class: "beside" }, canvas, place), slider, says);

  function start() {
    play.textContent = "stop";
    running = setInterval(() => { frame = (frame + 1) % seconds.length; draw(); }, 150);
  }
  function stop() {
    clearInterval(running);
    running = 0;
    play.textContent = "run";
  }

  function draw() {
    const picture = new ImageData(columns, rows), from = chosen === film ? frame * area : 0;
    for (let at = 0; at < area; at++) {
      const here = value(chosen, from + at);
      if (Number.isNaN(here)) continue;
      const share = Math.min(Math.max((here - chosen.low) / (chosen.high - chosen.low || 1), 0), 1);
      picture.data.set([...COLOURS[Math.round(255 * (chosen.turned ? 1 - share : share))], 255], 4 * at);
    }
    small.getContext("2d").putImageData(picture, 0, 0);
    const brush = canvas.getContext("2d");
    brush.imageSmoothingEnabled = false;
    brush.clearRect(0, 0, canvas.width, canvas.height);
    brush.drawImage(small, 0, 0, canvas.width, canvas.height);
    Object.assign(brush, { strokeStyle: "#56B4E9", lineWidth: 3 });
    brush.strokeRect((voxel % columns) * ZOOM - 2, Math.floor(voxel / columns) * ZOOM - 2, ZOOM + 4, ZOOM + 4);
    slider.value = frame;
    const ends = [chosen.low, chosen.high].map((end) => number(end, 1));
    if (chosen.turned) ends.reverse();
    const parts = shown.slice(1).map((map) => `${map.name} ${number(value(map, voxel), 1)} ${map.of}`);
    says.replaceChildren(`${number(seconds[frame], 0)} s: `, make("b", {}, `${number(value(film, frame * area + voxel), 1)} HU`),
      ` above baseline in the marked voxel; ${parts.join(", ")}.`, make("br"),
      `Colours of ${chosen.name}: ${ends[0]} (dark) to ${ends[1]} ${chosen.of} (light).`);
    if (width) plot();
  }

  function plot() {
    const curve = seconds.map((second, at) => [second, value(film, at * area + voxel)]).filter(([, hu]) => Number.isFinite(hu));
    const until = seconds[seconds.length - 1], high = Math.max(10, ...curve.map(([, hu]) => hu)), low = Math.min(0, ...curve.map(([, hu]) => hu));
    const x = (second) => LEFT + (second / until) * (width - LEFT - RIGHT), y = (hu) => 8 + (1 - (hu - low) / (high - low)) * PLOT;
    const svg = make("svg", { height: PLOT + 46, role: "img", "aria-label": "enhancement of the voxel over time" });
    svg.append(make("path", { class: "axis", d: `M${LEFT},8V${8 + PLOT}H${width - RIGHT}` }));
    for (const hu of [0, high / 2, high])
      svg.append(make("text", { x: LEFT - 6, y: y(hu) + 4, "text-anchor": "end" }, number(hu, 0)));
    for (let second = 0; second <= until; second += 10)
      svg.append(make("text", { x: x(second), y: PLOT + 24, "text-anchor": "middle" }, String(second)));
    svg.append(make("text", { class: "quiet", x: LEFT, y: PLOT + 41 }, "seconds; HU above baseline"));
    svg.append(make("path", { style: "fill: none; stroke: var(--other)", "stroke-width": 2,
      d: curve.map(([second, hu], at) => `${at ? "L" : "M"}${x(second)},${y(hu)}`).join("") }));
    svg.append(make("path", { class: "pointer", d: `M${x(seconds[frame])},8V${8 + PLOT}` }));
    place.replaceChildren(svg);
  }

  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * columns), row = Math.floor(((event.clientY - box.top) / box.height) * rows);
    const at = row * columns + column;
    if (row >= 0 && row < rows && column >= 0 && column < columns && film.numbers[at] !== NONE) { voxel = at; draw(); }
  });
  crossbook.fitted(place, (wide) => { width = wide; draw(); });
});
