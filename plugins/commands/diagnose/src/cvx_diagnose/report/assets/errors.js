// The list of errors with its filters, and the panel of one.

const TOGETHER = 60;
const SORTS = {
  loss: ["loss, largest first", (a, b) => (b.loss ?? -1) - (a.loss ?? -1)],
  confidence: ["confidence, largest first", (a, b) => (b.confidence ?? -1) - (a.confidence ?? -1)],
  unsure: ["confidence, smallest first", (a, b) => (a.confidence ?? 2) - (b.confidence ?? 2)],
  margin: ["margin, largest first", (a, b) => (b.margin ?? -1) - (a.margin ?? -1)],
  group: ["group", (a, b) => a.group - b.group || (b.loss ?? -1) - (a.loss ?? -1)],
  path: ["file", (a, b) => (a.path < b.path ? -1 : 1)],
};
const ONLY = {
  "": ["all", () => true],
  tested: ["tested", (error) => error.regions !== null],
  verified: ["verified", (error) => (error.regions ?? []).some((one) => one.verdict === "verified")],
  corrected: ["corrected by removing a region", (error) => error.fix !== null],
  issue: ["label issue", (error) => error.label_issue],
  broken: ["newly broken", (error) => data.comparison !== null && broken.has(error.id)],
};
const broken = new Set(data.comparison?.broken_ids ?? []);
let chosen = [];
let drawn = 0;

function offer(id, pairs) {
  find(id).append(...pairs.map(([value, text]) => make("option", { value }, text)));
}

function offerFilters() {
  const used = (key) => [...new Set(data.errors.map((error) => error[key]))]
    .sort((a, b) => (className(a) < className(b) ? -1 : 1));
  const classes = (key) => [["", "all"], ...used(key).map((c) => [String(c), className(c)])];
  offer("sort", Object.entries(SORTS).map(([key, [text]]) => [key, text]));
  offer("group", [["", "all"], ...data.shortcuts.map((one) => [`s${one.number}`, `Shortcut: ${one.name}`]),
    ...data.slices.map((one) => [`c${one.number}`, `Slice: ${one.name}`]),
    ...data.groups.map((one) => [String(one.number), `${one.number + 1}. ${one.name}`])]);
  offer("true", classes("true"));
  offer("predicted", classes("predicted"));
  const only = Object.entries(ONLY).filter(([key, [, test]]) => key === "" || data.errors.some(test));
  offer("only", only.map(([key, [text]]) => [key, text]));
}

function filterBy(values) {
  find("filters").reset();
  for (const [id, value] of Object.entries(values)) find(id).value = value;
  choose();
  find("errors-title").scrollIntoView();
  find("errors").focus({ preventScroll: true });
}

function choose() {
  const is = (id, value) => find(id).value === "" || find(id).value === String(value);
  const part = find("path").value.toLowerCase();
  const [, test] = ONLY[find("only").value];
  const group = find("group").value;
  const groups = group.startsWith("s") ? data.shortcuts.find((one) => `s${one.number}` === group).groups : null;
  const sliced = group.startsWith("c") ? Number(group.slice(1)) : null;
  const inGroup = (error) => (sliced !== null ? error.slices.includes(sliced) : groups ? groups.includes(error.group) : is("group", error.group));
  chosen = data.errors.filter((error) =>
    isBrushed(error) && inGroup(error) && is("true", error.true) && is("predicted", error.predicted)
    && test(error) && error.path.toLowerCase().includes(part));
  chosen.sort((a, b) => SORTS[find("sort").value][1](a, b) || a.id - b.id);
  const left = data.left_out ? ` ${data.left_out.toLocaleString("en")} less costly errors are only in the rows.` : "";
  find("shown").textContent = `${chosen.length.toLocaleString("en")} of ${counted(data.errors.length, "error")}.${left}`;
  find("errors").replaceChildren();
  drawn = 0;
  drawMore();
  drawMap();
}

// Only tiles near the screen are created, so that thousands of errors stay smooth.
function drawMore() {
  const some = chosen.slice(drawn, drawn + TOGETHER);
  drawn += some.length;
  find("errors").append(...some.map((error) => withCheckbox(tile(error, chosen), error)));
}

let list = [];
let current = null;

function openPanel(error, among) {
  [list, current] = [among, error];
  showPanel();
  if (!find("panel").open) find("panel").showModal();
}

function step(by) {
  const at = list.indexOf(current) + by;
  if (at < 0 || at >= list.length) return;
  current = list[at];
  showPanel();
}

function showPanel() {
  const error = current;
  const at = list.indexOf(error);
  find("previous").disabled = at <= 0;
  find("next").disabled = at >= list.length - 1;
  find("panel-title").textContent = titleOf(error);
  const [holder, frame] = picture(error, true, true);
  const kinds = { verified: "verified", partly: "partly" };
  boxes(frame, error, [
    ...(error.box ? [{ box: error.box, kind: "target" }] : []),
    ...(error.regions ?? []).map((one) => ({ box: one.box, kind: kinds[one.verdict] ?? "not" })),
  ]);
  find("stage").replaceChildren(holder);
  const rows = [
    ["File", error.path], ["Error", error.type], ["Predicted", className(error.predicted)], ["True", className(error.true)],
    ["Confidence", error.confidence === null ? "–" : percent(error.confidence)],
    ["Loss", `${number(error.loss)} nats`], ["Margin", `${number(error.margin)} logits`],
    ["Group", data.groups[error.group] ? `${error.group + 1}. ${data.groups[error.group].name}` : "–"],
  ];
  if (error.slices.length) rows.push(["Slices", error.slices.map((one) => data.slices[one].name).join("; ")]);
  if (error.label_issue) rows.push(["Label", "possibly wrong"]);
  if (error.message) rows.push(["Note", error.message]);
  if (error.map && !error.located) rows.push(["Map", "its position in the image is unknown; drawn over the whole image"]);
  const facts = make("table", {}, make("tbody", {}, ...rows.map(([key, value]) =>
    make("tr", {}, make("th", { scope: "row" }, key), make("td", {}, value)))));
  find("facts").replaceChildren(facts, ...regionTests(error));
}

function regionTests(error) {
  if (error.regions === null) return [make("p", { class: "hint" }, "No region was tested: the budget was used for more costly errors.")];
  const found = [make("h3", {}, "Effect of perturbing a region")];
  const head = make("tr", {}, ...["Region", "Area", "Predicted change", "Measured change", "Verdict"].map((text) => make("th", {}, text)));
  const rows = error.regions.map((one, i) => make("tr", {}, make("td", {}, String(i + 1)), make("td", {}, percent(one.share)),
    make("td", {}, number(one.predicted)), make("td", {}, number(one.measured)),
    make("td", {}, make("span", { class: `badge ${one.verdict === "verified" ? "wrong" : ""}` }, one.verdict))));
  found.push(rows.length ? make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows))
    : make("p", {}, "No region stood out."));
  if (error.control_change !== null) found.push(make("p", { class: "hint" }, `Control: perturbing a random region of the same size lowers the margin by ${number(error.control_change)} (median).`));
  if (error.fix) found.push(make("p", {}, make("span", { class: "badge right" }, "corrected"), ` by perturbing ${percent(error.fix.share)} of the image.`));
  return found;
}
