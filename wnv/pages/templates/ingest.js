// Filters the table of items; without scripts the whole table is shown.
"use strict";
const form = document.getElementById("filter");
if (form) {
  const rows = [...document.querySelectorAll("#items tbody tr")].map((row) => ({row, text: row.textContent.toLowerCase()}));
  const shown = document.getElementById("shown");
  const all = shown.textContent;

  const filter = () => {
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const {row, text} of rows) {
      const fits = ["stage", "state", "reason"].every((name) => {
        const wanted = form.elements[name].value;
        return !wanted || row.dataset[name] === wanted;
      });
      row.hidden = !(fits && words.every((word) => text.includes(word)));
      count += row.hidden ? 0 : 1;
    }
    shown.textContent = count === rows.length ? all : `${count.toLocaleString("en")} of the ${all}`;
  };

  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  // A click on a reason filters by it.
  for (const code of document.querySelectorAll("a[data-reason]")) {
    code.addEventListener("click", () => {
      form.reset();
      form.elements.stage.value = code.dataset.stage;
      form.elements.reason.value = code.dataset.reason;
      filter();
    });
  }
}
