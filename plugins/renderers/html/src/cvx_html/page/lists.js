// Selection of image, method and target, and the facts about the selected map.

const chosen = { image: 0, method: 0, target: null };

const mapsOf = (image) => data.maps.filter((map) => map.image === image.number);

// Each method's map for this image: of the selected target if there is one.
function mapFor(image, method) {
  const own = mapsOf(image).filter((map) => map.method === method);
  return own.find((map) => map.same === chosen.target) ?? own[0];
}

function option(group, value, checked, ...content) {
  const input = make("input", { type: "radio", name: group, value });
  input.checked = checked;
  return make("label", {}, input, ...content);
}

function showImage() {
  const image = data.images[chosen.image];
  const methods = [...new Set(mapsOf(image).map((map) => map.method))];
  if (!methods.includes(chosen.method)) chosen.method = methods[0];
  find("name").replaceChildren(make("span", { class: "given", dir: "ltr" }, image.name));
  const prediction = image.whole
    ? [
      "Prediction: ", name(image.predicted.name),
      ` ${amount(image.predicted)} `, verdict(image),
    ]
    : ["Prediction: ", gist(image)];
  if (image.correct === false) {
    prediction.push(" Label: ", name(image.truth || image.label.name));
    if (!image.truth) prediction.push(` ${amount(image.label)}`);
  }
  find("prediction").replaceChildren(...prediction);
  showMethods(image, methods);
  showMap();
}

// The five most probable classes at the target, or all boxes of a detector.
function showTop(image, map) {
  const matches = (one) => map.box && one.box.every((side, i) => side === map.box[i]);
  const boxes = image.reported?.map((one) => (
    { ...one.class, box: `box ${one.index}: `, isTarget: matches(one) }
  ));
  const entries = (boxes ?? map.top).map((entry) => {
    // A value without a probability has no bar.
    const hidden = entry.probability === null;
    const bar = make("span", { class: "bar", "aria-hidden": "true", hidden }, make("span"));
    bar.firstChild.style.width = `${100 * (entry.probability ?? 0)}%`;
    const isLabel = image.label?.index === entry.index;
    return make(
      "li", isLabel ? { class: "is-label" } : {},
      make(
        "span", { class: "class" }, entry.box ?? "", name(entry.name, "span"),
        isLabel ? " (label)" : entry.isTarget ? " (target)" : "",
      ),
      make("span", { class: "percent" }, amount(entry)),
      bar,
    );
  });
  find("top").replaceChildren(...entries);
  find("top-of").textContent = !image.whole && !image.reported
    ? "mean over the target's pixels" : boxes && !boxes.length ? "no boxes" : "";
}

function showMethods(image, methods) {
  const tiles = methods.map((method) => {
    const map = mapFor(image, method);
    const canvas = thumbnail(image, map, 360, `Map of ${data.methods[method]}`);
    return option(
      "method", method, method === chosen.method,
      make(
        "span", { class: "tile" }, canvas,
        make("span", { class: "method given" }, data.methods[method]),
        make("span", { class: "target given", dir: "auto" }, map.target),
      ),
    );
  });
  const canvas = thumbnail(image, null, 360, `Image ${image.name}`);
  const photo = make(
    "div", { class: "tile photo" }, canvas, make("span", { class: "method" }, "image"),
    make("span", { class: "target" }, `${image.size.join(" × ")} pixels`),
  );
  find("methods").replaceChildren(find("methods").firstElementChild, photo, ...tiles);
}

function showMap() {
  const image = data.images[chosen.image];
  const map = mapFor(image, chosen.method);
  const own = mapsOf(image).filter((other) => other.method === chosen.method);
  const targets = own.map((other) =>
    option(
      "target", other.same, other === map,
      make("span", { class: "given", dir: "auto" }, other.target),
    ));
  find("targets").replaceChildren(find("targets").firstElementChild, ...targets);
  find("evidence-of").replaceChildren(
    `${data.methods[map.method]}: `, name(map.target, "span"),
  );
  const score = [["score of the target", `${brief(map.score)} ${image.unit}`.trim()]];
  rows(find("evidence"), [...(map.score === null ? [] : score), ...map.evidence]);
  rows(find("provenance"), map.provenance);
  const colors = map.signed ? "red regions support the target, blue oppose it" : "";
  const size = `${map.shape[1]} × ${map.shape[0]} positions`;
  const frames = [
    !stage.covers(image, map) && "dashed frame: the network's input",
    image.reported?.length && "white boxes: the prediction",
    map.box && "yellow box: the target",
  ];
  find("notes").replaceChildren(
    ...map.notes.map((note) => make("p", { dir: "auto" }, note)),
    make("p", { class: "hint" }, [size, map.drawing, colors, ...frames].filter(Boolean).join("; ")),
  );
  showTop(image, map);
  stage.show(image, map);
}

function showList() {
  const items = data.images.map((image) => {
    const canvas = thumbnail(image, null, 128, "");
    return option(
      "image", image.number, image.number === chosen.image,
      make(
        "span", { class: "item" }, canvas,
        make(
          "span", { class: "about" },
          make("span", { class: "file given", dir: "ltr" }, image.name),
          gist(image),
          image.model && severalModels ? make("span", { class: "hint" }, image.model) : "",
          verdict(image),
        ),
      ),
    );
  });
  find("image-list").replaceChildren(find("image-list").firstElementChild, ...items);
}

function showCards() {
  const method = Number(find("overview-method").value);
  const cards = data.images.map((image) => {
    const map = mapFor(image, method);
    const canvas = thumbnail(
      image, map, 320, map ? `Map of ${data.methods[method]}` : `Image ${image.name}`,
    );
    const button = make(
      "button", { type: "button", value: image.number }, canvas,
      make("span", { class: "file given", dir: "ltr" }, image.name),
      image.whole
        ? make("span", {}, name(image.predicted.name), ` ${amount(image.predicted)}`)
        : make("span", {}, gist(image)),
      verdict(image),
      image.correct === false
        ? make("span", {}, "label: ", name(image.truth || image.label.name, "span")) : "",
    );
    return make("li", {}, button);
  });
  find("cards").replaceChildren(...cards);
  applyFilter();
}

const severalModels = new Set(data.images.map((image) => image.model)).size > 1;
let filter = "all";

function applyFilter() {
  const passes = (image) => filter === "all" || String(image.correct) === filter;
  const [labels, cards] = [find("image-list").querySelectorAll("label"), find("cards").children];
  data.images.forEach((image, i) => {
    if (labels[i]) labels[i].hidden = !passes(image);
    if (cards[i]) cards[i].hidden = !passes(image);
  });
}
