"use strict";
const errors = [];
window.addEventListener("error", (event) => errors.push(event.message));
const dialog = document.getElementById("large");
const place = document.getElementById("large-figure");
const buttons = [...document.querySelectorAll(".zoom")];
let shown = 0;
function show(index) {
  shown = (index + buttons.length) % buttons.length;
  place.replaceChildren(buttons[shown].querySelector("svg").cloneNode(true));
  if (!dialog.open) dialog.showModal();
}
buttons.forEach((button, index) => button.addEventListener("click", () => show(index)));
document.getElementById("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("close", () => buttons[shown].focus());
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowRight") show(shown + 1);
  if (event.key === "ArrowLeft") show(shown - 1);
});
// `report.html?selftest` opens every figure and says what came of it.
if (location.search === "?selftest") {
  let larger = 0;
  for (const button of buttons) {
    const small = button.querySelector("svg").getBoundingClientRect().width;
    button.click();
    const large = place.querySelector("svg").getBoundingClientRect().width;
    if (dialog.open && large > small && small > 0) larger += 1;
    document.getElementById("close").click();
    if (dialog.open) errors.push("the dialog stays open");
  }
  const fetched = performance.getEntriesByType("resource").length;
  document.getElementById("selftest").textContent =
    `figures ${buttons.length}, enlarged ${larger}, fetched ${fetched}, errors ${errors.length} ${errors.join("; ")}`;
}
