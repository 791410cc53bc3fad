// Numbers and predictions as text; untrusted text reaches the page as text nodes only.

const find = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// Names from files and models are isolated, so that right-to-left text affects nothing around it.
const name = (text, tag = "b") => make(tag, { class: "given", dir: "auto" }, text);

// The probability, or the value of an output that has none.
function amount(entry) {
  if (entry.probability === null) return `${round(entry.score)} ${entry.unit}`.trim();
  return percent(entry.probability);
}

function percent(probability) {
  const value = 100 * probability;
  if (value > 0 && value < 0.1) return "<0.1\u00a0%";
  if (value > 99.9 && value < 100) return ">99.9\u00a0%";
  return `${value.toFixed(1)}\u00a0%`;
}

// The shortest decimal that is this float32, as NumPy writes it.
function exact(value) {
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return String(short);
  }
  return String(Number(value.toPrecision(9)));
}

function brief(value) {
  if (value === null) return "not finite or unknown";
  if (value === true) return "yes";
  if (value === false) return "no";
  if (typeof value === "number") return String(Number(value.toPrecision(6)));
  if (typeof value === "string") return value;
  return JSON.stringify(value);
}

const round = (value) => String(Number(value.toPrecision(3)));

// Short form of the prediction: a class, or the number of objects.
function gist(image) {
  if (!image.whole && !image.reported) return "a prediction for each pixel";
  if (!image.reported) return name(image.predicted.name, "span");
  return image.reported.length === 1 ? "1 object" : `${image.reported.length || "no"} objects`;
}

function verdict(image) {
  if (!image.whole) return "";
  if (image.correct === null && image.truth) {
    return make("span", { class: "badge" }, `label ${image.truth}`);
  }
  if (image.correct === null) return make("span", { class: "badge" }, "no label given");
  if (image.correct) return make("span", { class: "badge right" }, "✓ correct");
  return make("span", { class: "badge wrong" }, "✗ wrong");
}

function verdictText(image) {
  if (image.correct === null) return "";
  return image.correct ? ", correct" : `, wrong, label ${image.truth || image.label.name}`;
}

// A list of records is shown as a table.
const isRecord = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const isTable = (value) => Array.isArray(value) && value.length > 0 && value.every(isRecord);

function cell(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return String(Number(value.toPrecision(4)));
  return Array.isArray(value) ? value.join(" × ") : brief(value);
}

// A column with the same value in all records is written once, above them.
function records(name, values) {
  const keys = [...new Set(values.flatMap((record) => Object.keys(record)))];
  const said = (key) => cell(values[0][key]);
  const same = keys.filter(
    (key) => values.length > 1 && values.every((record) => cell(record[key]) === said(key)),
  );
  const shown = keys.filter((key) => !same.includes(key));
  const plain = (key) => key.replaceAll("_", " ");
  const heads = shown.map((key) => make("th", { scope: "col" }, plain(key)));
  const lines = values.map((record) => {
    const cells = shown.map((key) =>
      make("td", { dir: "auto", class: typeof record[key] === "string" && "text" },
        cell(record[key])));
    return make("tr", {}, ...cells);
  });
  const table = make(
    "table", { class: "records" }, make("thead", {}, make("tr", {}, ...heads)),
    make("tbody", {}, ...lines),
  );
  const region = { class: "sideways", tabindex: "0", role: "region", "aria-label": plain(name) };
  const once = same.map((key) => `${plain(key)} ${said(key)}`).join(", ");
  return make(
    "td", { colspan: "2", class: "wide" }, plain(name) + (once && ` (${once})`),
    make("div", region, table),
  );
}

function rows(body, pairs) {
  body.replaceChildren(
    ...pairs.map(([key, value]) =>
      make(
        "tr", {},
        ...(isTable(value) ? [records(key, value)] : [
          make("th", { scope: "row" }, key.replaceAll("_", " ")),
          make("td", { dir: "auto" }, brief(value)),
        ]),
      )),
  );
}
