// The large view: one map over its image, with exact values at the cursor.

const stage = {
  image: null,
  map: null,
  field: null,
  cell: null,

  show(image, map) {
    const moved = map !== this.map;
    Object.assign(this, { image, map });
    const [width, height] = image.canvas;
    const [canvas, frame] = [find("map"), find("stage")];
    frame.style.aspectRatio = `${width} / ${height}`;
    frame.style.maxWidth = `calc(66vh * ${width / height})`;
    frame.classList.toggle("tiny", Math.max(...image.size) <= 128);
    find("photo").src = data.photos[image.photo];
    find("photo").alt = `Image ${image.name}`;
    if (moved) {
      [canvas.width, canvas.height] = [width, height];
      this.field = spread(map, valuesOf(map), image.size, width, height);
      this.cell = null;
    }
    canvas.setAttribute(
      "aria-label",
      `${data.methods[map.method]}, ${map.target} Map of ${map.shape.join(" by ")} positions over ` +
      `${image.name}. Arrow keys read its values.`,
    );
    this.outline(image, map);
    this.boxes(image, map);
    this.scale(map);
    this.paint();
    this.point(this.cell, false);
  },

  paint() {
    const [width, height] = this.image.canvas;
    const slider = find("blend");
    const blend = slider.value / 100;
    slider.setAttribute(
      "aria-valuetext",
      blend === 0 ? "image only" : blend === 1 ? "map only" : `${slider.value} % map`,
    );
    // Color and map would be mistaken for each other; without the map the photograph has its own.
    find("photo").style.filter = `grayscale(${Math.min(1, 2 * blend)})`;
    const pixels = toPixels(this.map, this.field, width, height, blend);
    find("map").getContext("2d").putImageData(pixels, 0, 0);
  },

  covers({ size: [width, height] }, { extent: [left, top, right, bottom] }) {
    return left <= 0.5 && top <= 0.5 && right >= width - 0.5 && bottom >= height - 0.5;
  },

  outline(image, map) {
    const [[width, height], [left, top, right, bottom]] = [image.size, map.extent];
    find("extent").hidden = this.covers(image, map);
    place(find("extent"), [
      Math.max(0, left) / width, Math.max(0, top) / height,
      Math.min(width, right) / width, Math.min(height, bottom) / height,
    ]);
  },

  // A detector's boxes, and the target's box.
  boxes({ size: [width, height], reported }, { box }) {
    const shares = ([left, top, right, bottom]) => [
      Math.max(0, left) / width, Math.max(0, top) / height,
      Math.min(width, right) / width, Math.min(height, bottom) / height,
    ];
    find("boxes").replaceChildren(...(reported ?? []).map((one) => {
      const outline = make("div");
      place(outline, shares(one.box));
      return outline;
    }));
    find("target-box").hidden = !box;
    if (box) place(find("target-box"), shares(box));
  },

  scale(map) {
    paintScale(find("colours"), map);
    const unit = map.unit ? ` ${map.unit}` : "";
    const [low, high] = map.ends;
    find("low").textContent = round(low);
    find("middle").textContent = low < 0 && high > 0 ? `0${unit}` : map.unit;
    find("high").textContent = round(high);
    find("colours").setAttribute(
      "aria-label",
      `Colours from ${round(low)} to ${round(high)}${unit}` +
      (map.signed ? ": blue opposes the target, red supports it" : ": dark is low, bright is high"),
    );
  },

  // Show the value at a position [row, column], or none.
  point(cell, aloud) {
    const [readout, cursor] = [find("readout"), find("cursor")];
    // The pointer crosses many positions; screen readers announce the keyboard's only.
    readout.setAttribute("aria-live", aloud ? "polite" : "off");
    cursor.hidden = !cell;
    if (!cell) {
      readout.replaceChildren(make("span", { class: "hint" }, "Hover for exact values"));
      return;
    }
    const [h, w] = this.map.shape;
    const [row, column] = cell;
    const value = valuesOf(this.map)[row * w + column];
    readout.replaceChildren(
      make("span", {}, `row ${row}, column ${column}: `),
      make("b", { id: "value" }, exact(value)),
      ` ${this.map.unit}`,
    );
    const [left, top, right, bottom] = this.map.extent;
    const [width, height] = this.image.size;
    const [stepX, stepY] = [(right - left) / w / width, (bottom - top) / h / height];
    const [x, y] = [left / width + column * stepX, top / height + row * stepY];
    place(cursor, [x, y, x + stepX, y + stepY]);
  },

  // The position at relative coordinates of the image, or null.
  cellAt(x, y) {
    const [h, w] = this.map.shape;
    const [left, top, right, bottom] = this.map.extent;
    const column = Math.floor((x * this.image.size[0] - left) / (right - left) * w);
    const row = Math.floor((y * this.image.size[1] - top) / (bottom - top) * h);
    return row >= 0 && row < h && column >= 0 && column < w ? [row, column] : null;
  },

  largest() {
    const values = valuesOf(this.map);
    let best = 0;
    values.forEach((value, i) => {
      if (Math.abs(value) > Math.abs(values[best])) best = i;
    });
    return [Math.floor(best / this.map.shape[1]), best % this.map.shape[1]];
  },

  key(event) {
    const [h, w] = this.map.shape;
    const step = event.shiftKey ? 10 : 1;
    const moves = {
      ArrowUp: [-step, 0], ArrowDown: [step, 0], ArrowLeft: [0, -step], ArrowRight: [0, step],
      Home: [0, -w], End: [0, w], Enter: null,
    };
    if (!(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const move = moves[event.key];
    if (!move || !this.cell) {
      this.cell = move ? [Math.floor(h / 2), Math.floor(w / 2)] : this.largest();
    } else {
      this.cell = [
        clamp(this.cell[0] + move[0], 0, h - 1), clamp(this.cell[1] + move[1], 0, w - 1),
      ];
    }
    this.point(this.cell, true);
  },
};

function place(element, [left, top, right, bottom]) {
  Object.assign(element.style, {
    left: `${100 * left}%`,
    top: `${100 * top}%`,
    width: `${100 * (right - left)}%`,
    height: `${100 * (bottom - top)}%`,
  });
}

function listenToStage() {
  const canvas = find("map");
  const follow = (event) => {
    const box = canvas.getBoundingClientRect();
    const cell = stage.cellAt(
      (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height,
    );
    stage.point(cell ?? stage.cell, false);
  };
  canvas.addEventListener("pointermove", follow);
  canvas.addEventListener("pointerdown", follow);
  canvas.addEventListener("pointerleave", () => stage.point(stage.cell, false));
  canvas.addEventListener("keydown", (event) => stage.key(event));
  let painting = 0;
  find("blend").addEventListener("input", () => {
    cancelAnimationFrame(painting);
    painting = requestAnimationFrame(() => stage.paint());
  });
}
