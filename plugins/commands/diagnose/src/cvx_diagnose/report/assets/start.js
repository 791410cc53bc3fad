// Draw the page and connect its controls.

find("title").textContent = data.title;
document.title = data.title;
find("about").textContent = data.about;
showAdvice();
showNumbers();
showChanges();
showShortcuts();
showSlices();
showGroups();
showLabelIssues();
showErrorTable();
showMatrix();
showFixes();
offerFilters();
showMap();
select([]);
choose();
find("path").addEventListener("input", choose);
find("filters").addEventListener("change", (event) => {
  // Leaving the field is a change too: replacing the tiles then would lose the click that left it.
  if (event.target !== find("path")) choose();
});
find("filters").addEventListener("submit", (event) => event.preventDefault());
find("filters").addEventListener("reset", () => {
  brush = null;
  setTimeout(choose);
});
new IntersectionObserver(([entry]) => { if (entry.isIntersecting) drawMore(); }, { rootMargin: "800px" }).observe(find("more"));
// One batch may not fill a large screen, and then the end never enters the view again.
addEventListener("scroll", () => {
  if (find("more").getBoundingClientRect().top < innerHeight + 800 && drawn < chosen.length) drawMore();
}, { passive: true });
find("previous").addEventListener("click", () => step(-1));
find("next").addEventListener("click", () => step(1));
find("over").addEventListener("change", () => showMaps(find("over").checked));
find("maps").addEventListener("change", () => showMaps(find("maps").checked));
find("select-shown").addEventListener("click", () => select(chosen));
find("select-none").addEventListener("click", () => select([]));
find("save").addEventListener("click", saveSelected);
find("close").addEventListener("click", () => find("panel").close());
find("panel").addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
