// Sorts a table by the column of a clicked heading; without scripts tables keep their order.
"use strict";
const compare = (one, other) => {
  const numbers = [Number(one), Number(other)];
  return numbers.some(Number.isNaN) ? one.localeCompare(other, "en", {numeric: true}) : numbers[0] - numbers[1];
};

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort by this column";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "descending" ? 1 : -1; // the highest number first
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const rows = [...body.rows].map((row) => ({row, key: row.cells[column].dataset.value ?? row.cells[column].textContent.trim()}));
      // Empty cells stay last.
      rows.sort((a, b) => (a.key === "") - (b.key === "") || sign * compare(a.key, b.key));
      body.append(...rows.map(({row}) => row));
    });
  });
}
