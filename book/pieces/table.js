// Tables that sort by a click on a head, and long ones that show the rows with some words.
"use strict";

(() => {
  const { make } = crossbook;
  const SORTS = 4, FILTERS = 12; // rows from which on it is worth a click, or a field

  // "0.573 (0.512 to 0.634)" is sorted as 0.573, "< 0.001" just below 0.001; empty cells come last
  function worth(cell) {
    const words = cell.textContent.trim().replace(/−/g, "-");
    const found = words.match(/^([<>≤≥]?)\s*([-+]?[\d,]*\.?\d+(?:e[-+]?\d+)?)(?![\w-])/i);
    const number = found ? Number(found[2].replace(/,/g, "")) : NaN;
    return { words, number: found && found[1] === "<" ? number - 1e-9 : number };
  }

  function compare(a, b) {
    if (!a.words || !b.words) return Boolean(b.words) - Boolean(a.words) || 0;
    if (Number.isFinite(a.number) && Number.isFinite(b.number)) return a.number - b.number;
    if (Number.isFinite(a.number) !== Number.isFinite(b.number)) return Number.isFinite(a.number) ? -1 : 1;
    return a.words.localeCompare(b.words);
  }

  function sort(body, column, direction) {
    const rows = [...body.rows].map((row) => ({ row, worth: worth(row.cells[column]) }));
    rows.sort((a, b) => (a.worth.words && b.worth.words ? direction : 1) * compare(a.worth, b.worth));
    body.append(...rows.map(({ row }) => row));
  }

  function filter(body, words, count) {
    const asked = words.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !asked.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = asked.length ? `${shown} of ${body.rows.length} rows` : "";
  }

  for (const table of document.querySelectorAll("main table.table")) {
    const body = table.tBodies[0], heads = table.tHead ? [...table.tHead.rows[table.tHead.rows.length - 1].cells] : [];
    const plain = body && [...body.rows].every((row) => row.cells.length === heads.length);
    if (!plain || body.rows.length < SORTS) continue;
    heads.forEach((head, column) => {
      const press = () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        sort(body, column, up ? 1 : -1);
      };
      head.classList.add("sorts");
      head.tabIndex = 0;
      head.addEventListener("click", press);
      head.addEventListener("keydown", (event) => event.key === "Enter" && press());
    });
    if (body.rows.length < FILTERS) continue;
    const count = make("span", { class: "count", "aria-live": "polite" });
    const field = make("input", { type: "search", placeholder: "show rows with …", "aria-label": "show rows with" });
    field.addEventListener("input", () => filter(body, field.value, count));
    (table.closest(".cell-output-markdown, .printed, figure > div") || table).before(
      make("div", { class: "filter" }, field, count));
  }
})();
