// Maps as numbers. Resampling and smoothing are what cvx_core.images.resample and cvx_core.explanations do;
// both work along each axis alone, so one sparse matrix for the rows and one for the columns hold
// the interpolation, the Gaussian and its correction at the rim together.

function decode(text, type) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  if (type !== "float32") return bytes;
  const view = new DataView(bytes.buffer);
  const values = new Float32Array(bytes.length / 4);
  for (let i = 0; i < values.length; i++) values[i] = view.getFloat32(4 * i, true);
  return values;
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// One row for each pixel: the weights of the cells from `first` on; null outside the map.
function triangle(cells, start, stop, pixels) {
  const cell = (stop - start) / cells;
  const support = Math.max(1, 1 / cell);
  return Array.from({ length: pixels }, (_, pixel) => {
    const centre = pixel + 0.5;
    if (centre < start || centre > stop) return null;
    const position = clamp((centre - start) / cell - 0.5, 0, cells - 1);
    const first = Math.max(0, Math.ceil(position - support));
    const last = Math.min(cells - 1, Math.floor(position + support));
    const weights = [];
    for (let c = first; c <= last; c++) {
      weights.push(Math.max(0, 1 - Math.abs(position - c) / support));
    }
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { first, weights: Float64Array.from(weights, (weight) => weight / sum) };
  });
}

// Each row becomes the Gaussian mean of its neighbours; pixels outside neither give nor take.
function smoothed(rows, cells, sigma) {
  if (sigma < 0.3) return rows;
  const reach = Math.max(1, Math.round(3 * sigma));
  const sums = new Float64Array(cells);
  return rows.map((row, pixel) => {
    if (!row) return null;
    let [total, first, last] = [0, cells, -1];
    const stop = Math.min(rows.length - 1, pixel + reach);
    for (let other = Math.max(0, pixel - reach); other <= stop; other++) {
      const near = rows[other];
      if (!near) continue;
      const weight = Math.exp(-0.5 * ((other - pixel) / sigma) ** 2);
      total += weight;
      first = Math.min(first, near.first);
      last = Math.max(last, near.first + near.weights.length - 1);
      near.weights.forEach((share, k) => (sums[near.first + k] += weight * share));
    }
    const weights = sums.slice(first, last + 1).map((sum) => sum / total);
    sums.fill(0, first, last + 1);
    return { first, weights };
  });
}

// The map over a whole image of width x height pixels: Float32Array, NaN where it does not reach.
function spread(map, values, size, width, height) {
  const [h, w] = map.shape;
  const [left, top, right, bottom] = map.extent;
  const [x, y] = [width / size[0], height / size[1]];
  const sigma = map.sigma * x;
  const rows = smoothed(triangle(h, top * y, bottom * y, height), h, sigma);
  const columns = smoothed(triangle(w, left * x, right * x, width), w, sigma);
  const field = new Float32Array(width * height).fill(NaN);
  const line = new Float64Array(w);
  rows.forEach((row, py) => {
    if (!row) return;
    line.fill(0);
    row.weights.forEach((weight, k) => {
      const from = (row.first + k) * w;
      for (let c = 0; c < w; c++) line[c] += weight * values[from + c];
    });
    for (let px = 0; px < width; px++) {
      const column = columns[px];
      if (!column) continue;
      let sum = 0;
      const { first, weights } = column;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * line[first + k];
      field[py * width + px] = sum;
    }
  });
  return field;
}
