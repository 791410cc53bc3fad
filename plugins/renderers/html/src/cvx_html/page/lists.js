// What can be chosen: images, methods, questions; and the facts about the choice.

const chosen = { image: 0, method: 0, question: null };

const mapsOf = (image) => data.maps.filter((map) => map.image === image.number);

// Each method's map for this image: the chosen question's where the method answers it.
function mapFor(image, method) {
  const own = mapsOf(image).filter((map) => map.method === method);
  return own.find((map) => map.same === chosen.question) ?? own[0];
}

function choice(group, value, checked, ...content) {
  const input = make("input", { type: "radio", name: group, value });
  input.checked = checked;
  return make("label", {}, input, ...content);
}

function showImage() {
  const image = data.images[chosen.image];
  const methods = [...new Set(mapsOf(image).map((map) => map.method))];
  if (!methods.includes(chosen.method)) chosen.method = methods[0];
  find("name").replaceChildren(make("span", { class: "given", dir: "ltr" }, image.name));
  const answer = image.task === "classification"
    ? [
      "The model answers ", name(image.predicted.name),
      ` ${percent(image.predicted.probability)} `, verdict(image),
    ]
    : [image.reported ? "The model reports " : "The model gives ", gist(image)];
  if (image.correct === false) {
    const label = image.label;
    answer.push(" the label is ", name(label.name), ` ${percent(label.probability)}`);
  }
  find("answer").replaceChildren(...answer);
  showMethods(image, methods);
  showMap();
}

// The five likeliest classes where the question is put, or all boxes of a detector.
function showTop(image, map) {
  const asked = (one) => map.box && one.box.every((side, i) => side === map.box[i]);
  const boxes = image.reported?.map((one) => (
    { ...one.class, box: `box ${one.index}: `, isAsked: asked(one) }
  ));
  const entries = (boxes ?? map.top).map((entry) => {
    const bar = make("span", { class: "bar", "aria-hidden": "true" }, make("span"));
    bar.firstChild.style.width = `${100 * (entry.probability ?? 0)}%`;
    const isLabel = image.label?.index === entry.index;
    return make(
      "li", isLabel ? { class: "is-label" } : {},
      make(
        "span", { class: "class" }, entry.box ?? "", name(entry.name, "span"),
        isLabel ? " (label)" : entry.isAsked ? " (asked about)" : "",
      ),
      make("span", { class: "percent" }, percent(entry.probability)),
      bar,
    );
  });
  find("top").replaceChildren(...entries);
  find("top-of").textContent = image.task === "segmentation"
    ? "mean over the pixels asked about" : boxes && !boxes.length ? "nothing is reported" : "";
}

function showMethods(image, methods) {
  const tiles = methods.map((method) => {
    const map = mapFor(image, method);
    const canvas = picture(image, map, 360, `Map of ${data.methods[method]}`);
    return choice(
      "method", method, method === chosen.method,
      make(
        "span", { class: "tile" }, canvas,
        make("span", { class: "method given" }, data.methods[method]),
        make("span", { class: "question given", dir: "auto" }, map.question),
      ),
    );
  });
  const canvas = picture(image, null, 360, `Photograph ${image.name}`);
  const photo = make(
    "div", { class: "tile photo" }, canvas, make("span", { class: "method" }, "photograph"),
    make("span", { class: "question" }, `${image.size.join(" × ")} pixels`),
  );
  find("methods").replaceChildren(find("methods").firstElementChild, photo, ...tiles);
}

function showMap() {
  const image = data.images[chosen.image];
  const map = mapFor(image, chosen.method);
  const own = mapsOf(image).filter((other) => other.method === chosen.method);
  const questions = own.map((other) =>
    choice(
      "question", other.same, other === map,
      make("span", { class: "given", dir: "auto" }, other.question),
    ));
  find("questions").replaceChildren(find("questions").firstElementChild, ...questions);
  find("evidence-of").replaceChildren(
    `${data.methods[map.method]}: `, name(map.question, "span"),
  );
  const score = [["score of the question", `${brief(map.score)} logits`]];
  rows(find("evidence"), [...(map.score === null ? [] : score), ...map.evidence]);
  rows(find("provenance"), map.provenance);
  const cells = `${map.shape[1]} × ${map.shape[0]} cells`;
  find("notes").replaceChildren(
    ...map.notes.map((note) => make("p", { dir: "auto" }, note)),
    make("p", { class: "hint" }, [cells, map.drawing].filter(Boolean).join("; ")),
  );
  showTop(image, map);
  stage.show(image, map);
}

function showList() {
  const items = data.images.map((image) => {
    const canvas = picture(image, null, 128, "");
    return choice(
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
    const canvas = picture(
      image, map, 320, map ? `Map of ${data.methods[method]}` : `Photograph ${image.name}`,
    );
    const button = make(
      "button", { type: "button", value: image.number }, canvas,
      make("span", { class: "file given", dir: "ltr" }, image.name),
      image.task === "classification"
        ? make("span", {}, name(image.predicted.name), ` ${percent(image.predicted.probability)}`)
        : make("span", {}, gist(image)),
      verdict(image),
      image.correct === false
        ? make("span", {}, "label: ", name(image.label.name, "span")) : "",
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
