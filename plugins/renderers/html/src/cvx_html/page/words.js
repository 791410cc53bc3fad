// Numbers and answers in words, and the only way in which text reaches the page: as text nodes.

const find = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// Names come from files and models: isolated, so that right-to-left text turns nothing around it.
const name = (text, tag = "b") => make(tag, { class: "given", dir: "auto" }, text);

function percent(probability) {
  if (probability === null) return "?";
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
  if (value === null) return "not finite or not known";
  if (value === true) return "yes";
  if (value === false) return "no";
  if (typeof value === "number") return String(Number(value.toPrecision(6)));
  if (typeof value === "string") return value;
  return JSON.stringify(value);
}

const round = (value) => String(Number(value.toPrecision(3)));

function verdict(image) {
  if (image.correct === null) return make("span", { class: "badge" }, "no label given");
  if (image.correct) return make("span", { class: "badge right" }, "✓ right");
  return make("span", { class: "badge wrong" }, "✗ wrong");
}

function verdictText(image) {
  if (image.correct === null) return "";
  return image.correct ? ", right" : `, wrong, the label is ${image.label.name}`;
}

function rows(body, pairs) {
  body.replaceChildren(
    ...pairs.map(([key, value]) =>
      make(
        "tr", {},
        make("th", { scope: "row" }, key.replaceAll("_", " ")),
        make("td", { dir: "auto" }, brief(value)),
      )),
  );
}
