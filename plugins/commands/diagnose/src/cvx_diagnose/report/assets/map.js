// The map of the features: points of errors over those of correct predictions, and a brush.

// Okabe and Ito's colors without yellow, and grey for the rest.
const COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8c6bb1"];
const REST = "#8a8f96";
const END = 1000;
const BORDER = 12;
const NEAR = 8;
const COLORED = {
  slice: ["slice", (error) => error.slices[0] ?? -1, (key) => data.slices[key]?.name],
  group: ["group", (error) => error.group, (key) => data.groups[key]?.name],
  true: ["true class", (error) => error.true, className],
  predicted: ["predicted class", (error) => error.predicted, className],
};
let brush = null;
let dragged = null;

const isBrushed = (error) => {
  if (brush === null) return true;
  const [x, y] = data.map.errors[error.id] ?? [-1, -1];
  return x >= brush[0] && x <= brush[2] && y >= brush[1] && y <= brush[3];
};

function showMap() {
  find("features").hidden = !data.map;
  if (!data.map) return;
  find("features-about").textContent = "Each point is an input, at the first two principal components of the features "
    + `(${percent(data.map.explained, 0)} of their variance): nearby points have similar features. Grey points are correct predictions. `
    + "Drag over points to list their errors below; click a point to open it.";
  const offered = Object.entries(COLORED).filter(([, [, key]]) => new Set(data.errors.map(key)).size > 1);
  offer("color", (offered.length ? offered : Object.entries(COLORED).slice(1, 2)).map(([key, [text]]) => [key, text]));
  find("color").addEventListener("change", drawMap);
  new ResizeObserver(drawMap).observe(find("points"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);
  find("points").addEventListener("pointerdown", (event) => {
    find("points").setPointerCapture(event.pointerId);
    dragged = [placeOf(event), placeOf(event)];
  });
  find("points").addEventListener("pointermove", (event) => {
    if (!dragged) return;
    dragged[1] = placeOf(event);
    drawMap();
  });
  find("points").addEventListener("pointerup", endBrush);
  find("points").addEventListener("pointercancel", () => { dragged = null; drawMap(); });
}

function placeOf(event) {
  const box = find("points").getBoundingClientRect();
  const inside = (value, size) => Math.round((END * (value - BORDER)) / (size - 2 * BORDER));
  return [inside(event.clientX - box.left, box.width), END - inside(event.clientY - box.top, box.height)];
}

function endBrush() {
  if (!dragged) return;
  const [[x, y], [toX, toY]] = dragged;
  const { width, height } = find("points").getBoundingClientRect();
  const pixels = (a, b) => Math.hypot((a * width) / END, (b * height) / END);
  dragged = null;
  if (pixels(toX - x, toY - y) < NEAR) {
    const apart = (error) => {
      const at = data.map.errors[error.id];
      return at ? pixels(at[0] - x, at[1] - y) : Infinity;
    };
    const nearest = chosen.reduce((best, one) => (best && apart(best) <= apart(one) ? best : one), null);
    if (nearest && apart(nearest) <= NEAR) {
      openPanel(nearest, chosen);
      return;
    }
    brush = null;
  } else {
    brush = [Math.min(x, toX), Math.min(y, toY), Math.max(x, toX), Math.max(y, toY)];
  }
  choose();
}

function palette() {
  const [, keyOf, nameOf] = COLORED[find("color").value] ?? COLORED.group;
  const counts = new Map();
  for (const error of data.errors) counts.set(keyOf(error), (counts.get(keyOf(error)) ?? 0) + 1);
  const named = [...counts].filter(([key]) => key !== null && nameOf(key)).sort((a, b) => b[1] - a[1]).slice(0, COLORS.length);
  const colors = new Map(named.map(([key], k) => [key, COLORS[k]]));
  const legend = named.map(([key, count]) => [colors.get(key), `${nameOf(key)} (${count.toLocaleString("en")})`]);
  const rest = data.errors.length - named.reduce((sum, [, count]) => sum + count, 0);
  if (rest) legend.push([REST, `other errors (${rest.toLocaleString("en")})`]);
  return [(error) => colors.get(keyOf(error)) ?? REST, legend];
}

function drawMap() {
  if (!data.map) return;
  const canvas = find("points");
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width) return;
  const scale = devicePixelRatio || 1;
  [canvas.width, canvas.height] = [width * scale, height * scale];
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const at = ([x, y]) => [BORDER + (x * (width - 2 * BORDER)) / END, BORDER + ((END - y) * (height - 2 * BORDER)) / END];
  const dot = (place, radius, color, alpha) => {
    pen.globalAlpha = alpha;
    pen.fillStyle = color;
    pen.beginPath();
    pen.arc(...at(place), radius, 0, 2 * Math.PI);
    pen.fill();
  };
  const styles = getComputedStyle(canvas);
  for (const place of data.map.correct) dot(place, 1.5, styles.getPropertyValue("--edge"), 0.35);
  const [colorOf, legend] = palette();
  const shown = new Set(chosen);
  const placed = data.errors.filter((error) => data.map.errors[error.id]);
  for (const error of placed) if (!shown.has(error)) dot(data.map.errors[error.id], 2.5, colorOf(error), 0.2);
  for (const error of placed) if (shown.has(error)) dot(data.map.errors[error.id], 3.5, colorOf(error), 0.9);
  const box = dragged ? [...dragged[0], ...dragged[1]] : brush;
  if (box) {
    const [from, to] = [at(box.slice(0, 2)), at(box.slice(2))];
    pen.globalAlpha = 1;
    pen.strokeStyle = styles.getPropertyValue("--accent");
    pen.lineWidth = 1.5;
    pen.strokeRect(from[0], from[1], to[0] - from[0], to[1] - from[1]);
  }
  find("legend").replaceChildren(...legend.map(([color, text]) => {
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = color;
    return make("li", {}, swatch, text);
  }));
}
