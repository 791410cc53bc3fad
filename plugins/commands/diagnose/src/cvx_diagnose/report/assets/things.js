// Elements, formatted numbers, and images with their maps.

const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

// Text from outside is never parsed as HTML.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const className = (index) => {
  if (index === null || index === undefined) return "nothing";
  return data.classes ? data.classes[index] ?? `class ${index}` : `class ${index}`;
};
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
const counted = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
const number = (value, digits = 2) => (value === null ? "–" : value.toFixed(digits));
const pValue = (p) => (p < 0.0001 ? "p < 0.0001" : `p = ${p.toPrecision(2)}`);
const byId = new Map(data.errors.map((error) => [error.id, error]));

const titleOf = (error) =>
  error.type === "misclassified"
    ? `${className(error.predicted)} (true: ${className(error.true)})`
    : [error.true, error.predicted].includes(null) || error.true === error.predicted
      ? `${error.type}: ${className(error.predicted ?? error.true)}`
      : `${error.type}: ${className(error.true)} (answered ${className(error.predicted)})`;

// An image in its own proportions, with the map over the part that the network saw.
function picture(error, overlay, longest) {
  const holder = make("span", { class: "photo" });
  const frame = make("span", { class: "frame" });
  const [width, height] = error.size ?? [1, 1];
  frame.style.aspectRatio = `${width} / ${height}`;
  frame.style[width >= height ? "width" : "height"] = "100%";
  if (longest) frame.style.maxWidth = "100%";
  const tiny = Math.max(width, height) < 96 ? "tiny" : "";
  if (error.files) {
    frame.append(make("img", { src: `${data.files}/${error.id}.jpg`, alt: "", loading: "lazy", class: tiny }));
  }
  if (overlay && error.map) {
    const map = make("img", { src: `${data.files}/${error.id}.png`, alt: "", loading: "lazy", class: "map" });
    const [left, top, right, bottom] = error.extent;
    map.style.left = `${(100 * left) / width}%`;
    map.style.top = `${(100 * top) / height}%`;
    map.style.width = `${(100 * (right - left)) / width}%`;
    map.style.height = `${(100 * (bottom - top)) / height}%`;
    frame.append(map);
  }
  holder.append(frame);
  return [holder, frame];
}

function boxes(frame, error, several) {
  const [width, height] = error.size ?? [1, 1];
  const drawn = document.createElementNS(SVG, "svg");
  drawn.setAttribute("viewBox", `0 0 ${width} ${height}`);
  drawn.setAttribute("aria-hidden", "true");
  for (const { box, kind } of several) {
    const rect = document.createElementNS(SVG, "rect");
    const [left, top, right, bottom] = box;
    const sides = { x: left, y: top, width: right - left, height: bottom - top };
    for (const [name, value] of Object.entries(sides)) rect.setAttribute(name, String(value));
    rect.setAttribute("class", kind);
    drawn.append(rect);
  }
  frame.append(drawn);
}

function tile(error, list) {
  const button = make("button", { type: "button", class: "tile", onclick: () => openPanel(error, list) });
  const [holder] = picture(error, true);
  button.append(holder, make("span", { class: "said" }, titleOf(error)));
  button.append(make("span", { class: "soft" }, `loss ${number(error.loss)} · ${percent(error.confidence ?? 0, 0)} conf.`));
  if (error.label_issue) button.append(make("span", {}, make("span", { class: "badge right" }, "label issue")));
  return make("li", {}, button);
}

function small(error, list) {
  const label = `${titleOf(error)}: ${error.path}`;
  const [holder] = picture(error, false);
  return make("button", { type: "button", class: "small", "aria-label": label, title: label, onclick: () => openPanel(error, list) }, holder);
}
