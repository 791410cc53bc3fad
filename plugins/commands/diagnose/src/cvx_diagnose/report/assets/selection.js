// Errors that the reader selects, and their download as a table.

const selected = new Set();
const FIELDS = ["id", "path", "type", "true", "predicted", "confidence", "loss", "margin", "group", "slices", "label_issue"];

function withCheckbox(item, error) {
  const box = make("input", { type: "checkbox", "aria-label": `Select ${error.path}`, value: String(error.id) });
  box.checked = selected.has(error.id);
  box.addEventListener("change", () => {
    selected[box.checked ? "add" : "delete"](error.id);
    showSelected();
  });
  item.append(make("label", { class: "pick" }, box));
  return item;
}

function select(errors) {
  selected.clear();
  for (const error of errors) selected.add(error.id);
  for (const box of document.querySelectorAll(".pick input")) box.checked = selected.has(Number(box.value));
  showSelected();
}

function showSelected() {
  find("save").textContent = `Save ${counted(selected.size, "selected error")} as CSV`;
  find("save").disabled = find("select-none").disabled = !selected.size;
}

// A table program runs text that begins like a formula.
function field(value) {
  const text = String(value ?? "");
  const plain = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
}

function saveSelected() {
  const named = (index) => (index === null ? "" : className(index));
  const rows = data.errors.filter((error) => selected.has(error.id)).map((error) => ({
    ...error, true: named(error.true), predicted: named(error.predicted),
    group: data.groups[error.group]?.name ?? "", slices: error.slices.map((one) => data.slices[one].name).join("; "),
  }));
  const lines = [FIELDS, ...rows.map((row) => FIELDS.map((name) => row[name]))];
  const text = lines.map((line) => line.map(field).join(",")).join("\r\n");
  const url = URL.createObjectURL(new Blob([`\ufeff${text}\r\n`], { type: "text/csv" }));
  make("a", { href: url, download: "selected-errors.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url));
}

function showMaps(shown) {
  find("maps").checked = find("over").checked = shown;
  document.body.classList.toggle("with-maps", shown);
}
