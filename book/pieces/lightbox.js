// A figure that is clicked fills the window, at a size at which its words can be read; what does not fit is scrolled to.
"use strict";

(() => {
  const { make } = crossbook;
  const READABLE = 1000; // pixels: on a telephone a figure is at least this wide, and one scrolls sideways
  const box = make("dialog", { class: "lightbox", "aria-label": "figure" });
  document.body.append(box);
  box.addEventListener("click", () => box.close());

  function show(picture) {
    const large = make("img", { src: picture.src, alt: picture.alt, class: picture.classList.contains("drawing") && "drawing" });
    large.style.width = `${Math.max(READABLE, window.innerWidth - 48)}px`;
    const tall = window.innerHeight - 48; // on a wide screen the whole figure is seen at once
    const shape = picture.naturalWidth / picture.naturalHeight || 1;
    if (window.innerWidth > READABLE) large.style.width = `${Math.min(window.innerWidth - 48, tall * shape)}px`;
    box.replaceChildren(make("button", { type: "button", class: "close", "aria-label": "close" }, "×"), large);
    box.showModal();
  }

  for (const picture of document.querySelectorAll("main img.figure-img, main .cell-output-display img")) {
    if (picture.closest("a")) continue;
    picture.classList.add("opens");
    picture.tabIndex = 0;
    picture.setAttribute("role", "button");
    picture.addEventListener("click", () => show(picture));
    picture.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); show(picture); }
    });
  }
})();
