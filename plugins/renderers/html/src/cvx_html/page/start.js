// Event handlers and the first image.

const counted = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

function summary() {
  const models = [...new Set(data.images.map((image) => image.model).filter(Boolean))];
  const parts = [counted(data.images.length, "image"), counted(data.methods.length, "method")];
  const judged = data.images.filter((image) => image.correct !== null);
  const wrong = judged.filter((image) => !image.correct).length;
  if (judged.length > 1) parts.push(`${wrong} of ${judged.length} predictions wrong`);
  if (models.length) parts.push(`model ${models.join(", ")}`);
  return parts.join(" · ");
}

function showView() {
  const all = document.querySelector("input[name=view]:checked").value === "all";
  find("all").hidden = !all;
  find("one").hidden = all;
  document.body.classList.toggle("single", all);
  find("images").hidden = all;
  if (all) {
    find("overview-method").value = String(chosen.method);
    showCards();
  }
}

function openImage(number) {
  chosen.image = number;
  find("image-list").querySelector(`input[value="${number}"]`).checked = true;
  document.querySelector("input[name=view][value=one]").checked = true;
  showView();
  showImage();
  find("content").focus();
  scrollTo(0, 0);
}

function offerFilter() {
  const kinds = [
    ["all", "All", data.images.length],
    ["false", "Wrong", data.images.filter((image) => image.correct === false).length],
    ["true", "Correct", data.images.filter((image) => image.correct === true).length],
  ];
  if (!kinds[1][2] || !kinds[2][2]) return;
  find("filter").hidden = false;
  find("filter").append(
    ...kinds.map(([value, word, count]) =>
      option("filter", value, value === "all", make("span", {}, `${word} ${count}`))),
  );
}

document.addEventListener("change", (event) => {
  const { name: group, value } = event.target;
  if (group === "image") {
    chosen.image = Number(value);
    showImage();
  } else if (group === "method") {
    chosen.method = Number(value);
    showMap();
  } else if (group === "target") {
    chosen.target = value;
    const image = data.images[chosen.image];
    showMethods(image, [...new Set(mapsOf(image).map((map) => map.method))]);
    showMap();
    find("targets").querySelector("input:checked").focus();
  } else if (group === "filter") {
    filter = value;
    applyFilter();
  } else if (group === "view") {
    showView();
  } else if (event.target.id === "overview-method") {
    showCards();
  }
});

find("cards").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) openImage(Number(button.value));
});

find("summary").textContent = summary();
if (data.images.length > 1) {
  find("images").hidden = false;
  find("views").hidden = false;
  find("overview-method").append(
    ...data.methods.map((method, i) => make("option", { value: i }, method)),
    make("option", { value: -1 }, "none (images only)"),
  );
  showList();
  offerFilter();
} else {
  document.body.classList.add("single");
}
listenToStage();
showImage();
