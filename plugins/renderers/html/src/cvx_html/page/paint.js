// Maps as colours: what cvx_core.explanations.colors and opacity do.

const STRONGEST = 0.85;

const data = JSON.parse(document.getElementById("data").textContent);
const tables = {
  true: decode(data.tables.signed),
  false: decode(data.tables.unsigned),
};

const decoded = new Map();
function valuesOf(map) {
  if (!decoded.has(map)) decoded.set(map, decode(map.values, "float32"));
  return decoded.get(map);
}

// At a blend of 0 the photograph alone, at 0.5 the overlay of cvx, at 1 the map alone.
function blended(alpha, blend) {
  return blend <= 0.5 ? 2 * blend * alpha : alpha + (1 - alpha) * (2 * blend - 1);
}

function toPixels(map, field, width, height, blend) {
  const drawn = new ImageData(width, height);
  const out = drawn.data;
  const table = tables[map.signed];
  const range = map.high - map.low || 1;
  const span = Math.max(Math.abs(map.low), Math.abs(map.high)) || 1;
  for (let i = 0; i < field.length; i++) {
    const value = field[i];
    if (Number.isNaN(value)) continue;
    const index = 3 * clamp(Math.round(255 * (value - map.low) / range), 0, 255);
    const alpha = STRONGEST * Math.min(Math.abs(value) / span, 1) ** 0.7;
    out[4 * i] = table[index];
    out[4 * i + 1] = table[index + 1];
    out[4 * i + 2] = table[index + 2];
    out[4 * i + 3] = Math.round(255 * blended(alpha, blend));
  }
  return drawn;
}

function paintScale(canvas, map) {
  const context = canvas.getContext("2d");
  const strip = context.createImageData(256, 1);
  const [low, high] = map.ends.map((end) => 255 * (end - map.low) / (map.high - map.low));
  for (let i = 0; i < 256; i++) {
    const index = 3 * Math.round(low + (high - low) * i / 255);
    strip.data.set(tables[map.signed].subarray(index, index + 3), 4 * i);
    strip.data[4 * i + 3] = 255;
  }
  context.putImageData(strip, 0, 0);
}

// Decoded photographs of the last few images: a page may hold many more than fit into memory.
const photographs = new Map();
function photograph(number) {
  const known = photographs.get(number);
  photographs.delete(number);
  const image = known ?? Object.assign(new Image(), { src: data.photos[number] });
  photographs.set(number, image);
  if (photographs.size > 8) photographs.delete(photographs.keys().next().value);
  return image.decode().then(() => image);
}

// Paint a photograph, with a map over it if one is given.
async function paintSmall(canvas, image, map) {
  const photo = await photograph(image.photo);
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(photo, 0, 0, width, height);
  if (!map) return;
  [context.globalCompositeOperation, context.fillStyle] = ["saturation", "grey"];
  context.fillRect(0, 0, width, height);
  context.globalCompositeOperation = "source-over";
  const field = spread(map, valuesOf(map), image.size, width, height);
  const layer = new OffscreenCanvas(width, height);
  layer.getContext("2d").putImageData(toPixels(map, field, width, height, 0.5), 0, 0);
  context.drawImage(layer, 0, 0);
}

// Thumbnails are painted when they come near the viewport.
const waiting = new WeakMap();
const watcher = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    watcher.unobserve(target);
    paintSmall(target, ...waiting.get(target));
  }
}, { rootMargin: "200px" });

// A canvas with a thumbnail of an image, with the accessible name `spoken`.
function thumbnail(image, map, longest, spoken) {
  const scale = longest / Math.max(...image.size);
  const [width, height] = image.size.map((side) => Math.max(1, Math.round(side * scale)));
  const role = spoken ? { role: "img", "aria-label": spoken } : { "aria-hidden": "true" };
  const canvas = make("canvas", { width, height, ...role });
  waiting.set(canvas, [image, map]);
  watcher.observe(canvas);
  return canvas;
}
