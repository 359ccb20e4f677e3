// A slide one moves about in, with layers of marks: labels, scores, attention. OpenSeadragon shows the picture, which is the
// one that stands still on the page. Data: width, height, layers [{name, x, y, side, value, round, classes | low, high}].
"use strict";

crossbook.piece("slide", (live, data, box) => {
  const { make } = crossbook;
  if (!window.OpenSeadragon) throw new Error("OpenSeadragon was not fetched when this book was made");
  const picture = box.querySelector("a.slide")?.href || box.querySelector("img").src;
  const CLASSES = ["#0072B2", "#D55E00", "#9A9A9A", "#009E73", "#CC79A7", "#E69F00"];
  const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
  let layer = null, strength = 0.6, under = -1;

  function colour(value) {
    if (layer.classes) return CLASSES[value % CLASSES.length];
    const at = Math.min(Math.max((value - layer.low) / (layer.high - layer.low || 1), 0), 1) * (VIRIDIS.length - 1);
    const from = VIRIDIS[Math.floor(at)], to = VIRIDIS[Math.min(Math.floor(at) + 1, VIRIDIS.length - 1)];
    return `rgb(${from.map((part, band) => Math.round(part + (to[band] - part) * (at - Math.floor(at)))).join()})`;
  }
  const three = (value) => String(Number(value.toPrecision(3))).replace("-", "−");
  const said = (value) => (layer.classes ? layer.classes[value] : three(value));

  const view = make("div", { class: "view", style: `aspect-ratio: ${data.width / data.height}` }), says = make("p", { class: "says", "aria-live": "polite" });
  const key = make("span"), viewer = OpenSeadragon({
    element: view, drawer: "canvas", showNavigationControl: false, animationTime: 0.4, maxZoomPixelRatio: 4,
    tileSources: { type: "image", url: picture, crossOriginPolicy: false }, gestureSettingsMouse: { clickToZoom: false, scrollToZoom: false },
  });
  const canvas = make("canvas", { style: "position: absolute; inset: 0; pointer-events: none; max-width: none" });
  const zoom = (factor) => { factor ? viewer.viewport.zoomBy(factor) : viewer.viewport.goHome(); viewer.viewport.applyConstraints(); };
  const names = ["picture alone", ...data.layers.map((each) => each.name)];
  const layers = crossbook.choice("layer", names, (at) => { layer = data.layers[at - 1] || null; tell(); draw(); });
  live.append(
    make("div", { class: "controls" }, layers,
      make("button", { type: "button", "aria-label": "closer", onclick: () => zoom(1.6) }, "+"),
      make("button", { type: "button", "aria-label": "farther", onclick: () => zoom(1 / 1.6) }, "−"),
      make("button", { type: "button", onclick: () => zoom(0) }, "whole"),
      make("label", {}, "marks ", crossbook.slider("strength of the marks", 0.1, 1, 0.05, strength, (value) => { strength = value; draw(); }))),
    view, says);

  // places of marks are pixels of `width`; the picture's width is 1 in the viewer
  const onScreen = (x, y) => viewer.viewport.pixelFromPoint(new OpenSeadragon.Point(x / data.width, y / data.width), true);
  const onPicture = (point) => viewer.viewport.pointFromPixel(point, true).times(data.width);

  function draw() {
    const sharp = window.devicePixelRatio || 1, wide = view.clientWidth, tall = view.clientHeight;
    Object.assign(canvas, { width: wide * sharp, height: tall * sharp });
    Object.assign(canvas.style, { width: `${wide}px`, height: `${tall}px` });
    if (!layer || !viewer.world.getItemCount()) return;
    const brush = canvas.getContext("2d");
    brush.scale(sharp, sharp);
    brush.globalAlpha = strength;
    const side = onScreen(layer.side, 0).x - onScreen(0, 0).x;
    layer.value.forEach((value, mark) => {
      const { x, y } = onScreen(layer.x[mark], layer.y[mark]);
      if (x < -side || y < -side || x > wide + side || y > tall + side) return;
      brush.fillStyle = colour(value);
      brush.beginPath();
      layer.round ? brush.arc(x, y, side / 2, 0, 7) : brush.rect(x - side / 2, y - side / 2, side, side);
      brush.fill();
      if (mark === under) { brush.globalAlpha = 1; brush.lineWidth = 2; brush.strokeStyle = "#000"; brush.stroke(); brush.globalAlpha = strength; }
    });
  }

  function tell() {
    if (!layer) return says.replaceChildren("Drag to move, pinch or + and − to look closer; choose a layer.");
    const ends = layer.classes ? layer.classes.map((name, at) => [name, CLASSES[at % CLASSES.length]])
      : [[three(layer.low), colour(layer.low)], [three(layer.high), colour(layer.high)]];
    key.replaceChildren(...ends.flatMap(([name, paint]) => [make("span", { class: "key", style: `background: ${paint}` }), ` ${name}  `]));
    says.replaceChildren(key, make("br"), under < 0 ? `${layer.value.length} marks; point at one` : make("b", {}, `${layer.name}: ${said(layer.value[under])}`));
  }

  view.addEventListener("pointermove", (event) => {
    if (!layer || !viewer.world.getItemCount()) return;
    const frame = view.getBoundingClientRect();
    const at = onPicture(new OpenSeadragon.Point(event.clientX - frame.left, event.clientY - frame.top));
    let nearest = -1, least = (layer.side * 0.75) ** 2;
    layer.x.forEach((x, mark) => {
      const far = (x - at.x) ** 2 + (layer.y[mark] - at.y) ** 2;
      if (far < least) [nearest, least] = [mark, far];
    });
    if (nearest !== under) { under = nearest; tell(); draw(); }
  });
  viewer.addHandler("open", () => { viewer.canvas.append(canvas); draw(); });
  viewer.addHandler("update-viewport", draw);
  viewer.addHandler("resize", draw);
  tell();
});
