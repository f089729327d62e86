"use strict";
const table = document.getElementById("objects");
const body = table.tBodies[0];
const heads = [...table.tHead.rows[0].cells];
const rows = [...body.rows];
const form = document.getElementById("filters");
const viewer = document.getElementById("viewer");
let current = null;

function valueOf(row, column, kind) {
  const cell = row.cells[column];
  const text = (cell.dataset.value ?? cell.textContent).trim();
  if (text === "") return null;
  return kind === "num" && !Number.isNaN(Number(text)) ? Number(text) : text;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}

function sortBy(column, kind) {
  const head = heads[column];
  const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of heads) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
  const keyed = rows.map((row) => [valueOf(row, column, kind), row]);
  // What is not available stays last in both directions.
  keyed.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : sign * compare(a, b)));
  keyed.forEach(([, row], place) => { rows[place] = row; });
  body.append(...rows);
}

function isWanted(row) {
  const fields = new FormData(form);
  const text = (fields.get("text") ?? "").toLowerCase();
  const most = fields.get("most");
  return (!text || row.textContent.toLowerCase().includes(text))
    && (!fields.get("model") || row.dataset.model === fields.get("model"))
    && (!fields.get("status") || row.dataset.status === fields.get("status"))
    && (!most || (row.dataset.dice !== "" && Number(row.dataset.dice) <= Number(most)));
}

function filter() {
  let shown = 0;
  for (const row of rows) {
    row.hidden = !isWanted(row);
    shown += !row.hidden;
  }
  document.getElementById("count").textContent = `${shown} of ${rows.length} shown`;
}

function open(row) {
  current = row;
  document.getElementById("viewer-title").textContent = row.querySelector("th").textContent.trim();
  const pictures = [...row.querySelectorAll("img")].map((image, place) => {
    const copy = new Image();
    copy.src = image.src;
    copy.alt = place === 0 ? "Image with the outline of the mask" : "Where the mask is likely wrong";
    return copy;
  });
  document.getElementById("viewer-pictures").replaceChildren(...pictures);
  const facts = heads.flatMap((head, column) => {
    const text = row.cells[column].textContent.trim();
    if (row.cells[column].querySelector("img") || text === "") return [];
    const group = document.createElement("div");
    const name = document.createElement("dt");
    const value = document.createElement("dd");
    name.textContent = head.textContent.trim();
    value.textContent = text;
    group.append(name, value);
    return [group];
  });
  document.getElementById("viewer-facts").replaceChildren(...facts);
  const visible = rows.filter((one) => !one.hidden);
  document.getElementById("previous").disabled = visible[0] === row;
  document.getElementById("next").disabled = visible.at(-1) === row;
  if (!viewer.open) viewer.showModal();
}

function step(by) {
  const visible = rows.filter((row) => !row.hidden);
  const next = visible[visible.indexOf(current) + by];
  if (next) open(next);
}

heads.forEach((head, column) => {
  const button = head.querySelector("button");
  button?.addEventListener("click", () => sortBy(column, button.dataset.kind));
});
form.hidden = false;
form.addEventListener("input", filter);
form.addEventListener("reset", () => setTimeout(filter));
form.addEventListener("submit", (event) => event.preventDefault());
body.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) open(button.closest("tr"));
});
document.getElementById("previous").addEventListener("click", () => step(-1));
document.getElementById("next").addEventListener("click", () => step(1));
document.getElementById("close").addEventListener("click", () => viewer.close());
viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
viewer.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
viewer.addEventListener("close", () => {
  current?.scrollIntoView({ block: "nearest" });
  current?.querySelector("button")?.focus({ preventScroll: true });
});
filter();
