// The first screen and the sections below it.

function showAdvice() {
  const most = Math.max(...data.advice.map((one) => one.gain), 1e-9);
  for (const one of data.advice.slice(0, 6)) {
    const item = make("li", {}, one.text);
    const gauge = make("progress", { class: "gauge", max: most, value: one.gain, "aria-hidden": "true" });
    const measured = ["retrain", "threshold"].includes(one.kind);
    const points = `${(100 * one.gain).toFixed(1)} points of accuracy`;
    const gain = one.gain > 0 ? `${measured ? `measured +${points}` : `up to +${points}`} · ` : "";
    const about = make("span", { class: "gain" }, `${gain}${counted(one.count, "input")}`);
    if (one.shortcut !== undefined) about.append(" · ", link("show them", { group: `s${one.shortcut}` }));
    else if (one.slice !== undefined) about.append(" · ", link("show them", { group: `c${one.slice}` }));
    else if (one.group !== undefined) about.append(" · ", link("show them", { group: String(one.group) }));
    const issues = one.kind === "relabel" && !one.examples;
    if (issues) about.append(" · ", link("show them", { only: "issue" }));
    item.append(gauge, about);
    const whose = one.shortcut !== undefined ? data.shortcuts.find((each) => each.number === one.shortcut) : one.slice !== undefined ? data.slices[one.slice] : data.groups[one.group];
    const shown = issues ? data.label_issues.listed.map((each) => each.id) : one.examples ?? whose?.examples ?? [];
    const known = [...new Set(shown)].map((id) => byId.get(id)).filter(Boolean).slice(0, 4);
    item.append(make("span", { class: "few" }, ...known.map((error) => small(error, known))));
    find("advice").append(item);
  }
  if (!data.advice.length) find("advice").append(make("li", {}, data.errors.length
    ? "No common cause of the errors was found." : "No errors."));
  if (data.withheld) find("advice").append(make("li", { class: "hint" }, data.withheld.replace(" it ", " the set-up ")));
}

function link(text, values) {
  return make("button", { type: "button", class: "link", onclick: () => filterBy(values) }, text);
}

function showNumbers() {
  const { accuracy, counts, calibration, region_tests: tests } = data.numbers;
  const add = (term, value, ...small) => find("numbers").append(
    make("dt", {}, term), make("dd", {}, value, ...small.map((text) => make("small", {}, text))));
  if (accuracy.total) {
    add(data.task === "classification" ? "Accuracy" : "Without an error", percent(accuracy.value),
      `${percent(accuracy.low)} to ${percent(accuracy.high)}, ${accuracy.correct.toLocaleString("en")} of ${accuracy.total.toLocaleString("en")} labeled`,
      ...(accuracy.failed ? [`${percent(accuracy.value_with_failed)} if ${counted(accuracy.failed, "model failure")} count as wrong`] : []));
  }
  for (const [name, value] of data.numbers.measures) add(name, value);
  if (calibration !== null) add("Calibration error (ECE)", percent(calibration));
  if (tests.tested) {
    add("Region tests", counted(tests.tested, "error"),
      `${tests.verified ?? 0} verified, ${tests.partly ?? 0} partly verified, ${tests.corrected ?? 0} corrected`);
  }
  const { count: unmapped, reasons } = data.numbers.without_map;
  if (unmapped) add("Without a map", counted(unmapped, "error"), ...reasons.slice(0, 3).map((one) => `${one.count}: ${one.reason}`));
  const failed = Object.entries(counts).filter(([status, count]) => count && status !== "ok");
  if (failed.length) add("Not predicted", failed.map(([status, count]) => `${count} ${status}`).join(", "));
}

function showShortcuts() {
  find("shortcuts").hidden = !data.shortcuts.length;
  for (const one of data.shortcuts) {
    const { transplants, replacements } = one;
    const known = one.examples.filter((id) => byId.has(id)).map((id) => byId.get(id));
    const of = one.groups.map((number) => number + 1).join(", ");
    const helps = replacements.count ? ` Replacing it with content of other images changed ${replacements.lost} of ${replacements.count} correct predictions that show it.` : "";
    find("shared").append(make("article", { class: "group" },
      make("h3", {}, one.name),
      make("p", {}, `${counted(one.count, "error")} · ${(100 * one.cost).toFixed(1)} points of accuracy · group${one.groups.length > 1 ? "s" : ""} ${of} · `,
        link("show all", { group: `s${one.number}` })),
      make("p", {}, `${percent(one.error_share, 0)} of these errors show it, and ${percent(one.correct_share, 0)} of ${one.controls} correct predictions of the same class. `
        + `Pasted ${transplants.count} times into ${transplants.images} correctly predicted images it flipped ${transplants.flipped} predictions; control regions of the same size flipped ${transplants.control_flipped} (${pValue(transplants.p)}).${helps}`),
      make("ul", { class: "tiles" }, ...known.map((error) => tile(error, known)))));
  }
}

function showSlices() {
  find("slices").hidden = !data.slices.length;
  for (const one of data.slices) {
    const known = one.examples.filter((id) => byId.has(id)).map((id) => byId.get(id));
    const of = (part) => `${percent(part.value, 0)} (95 % interval ${percent(part.low, 0)} to ${percent(part.high, 0)}, ${counted(part.total, one.units.slice(0, -1))})`;
    find("sliced").append(make("article", { class: "group" },
      make("h3", {}, `${one.number + 1}. ${one.name}`),
      make("p", {}, `Accuracy ${of(one.inside)}, of the others ${of(one.outside)} · ${pValue(one.p)} · ${one.count.toLocaleString("en")} ${one.units}, ${counted(one.errors, "error")} · `,
        link("show all", { group: `c${one.number}` })),
      make("ul", { class: "tiles" }, ...known.map((error) => tile(error, known)))));
  }
}

function showGroups() {
  find("causes").hidden = !data.groups.length;
  const shared = new Set(data.shortcuts.flatMap((one) => one.groups));
  for (const group of data.groups.slice(0, 40)) {
    const tested = group.tested
      ? ` · regions tested in ${counted(group.tested, "error")}: ${group.verified} verified, ${group.corrected} corrected` : " · not tested";
    const doubtful = group.label_issues ? ` · ${counted(group.label_issues, "label issue")}` : "";
    const known = group.examples.filter((id) => byId.has(id)).map((id) => byId.get(id));
    find("groups").append(make("article", { class: "group" },
      make("h3", {}, `${group.number + 1}. ${group.name}`),
      make("p", {}, `${counted(group.count, "error")} · ${(100 * group.cost).toFixed(1)} points of accuracy${tested}${doubtful}${shared.has(group.number) ? " · part of a shortcut above" : ""} · `,
        link("show all", { group: String(group.number) })),
      make("ul", { class: "tiles" }, ...known.map((error) => tile(error, known)))));
    const influential = data.influential_images?.[group.number] ?? [];
    if (influential.length) {
      find("groups").lastChild.append(
        make("p", {}, "Training images that increase its loss most, by the last layer's gradients: ",
          influential.map((one) => `${one.path} (${className(one.label)})`).join(", ")));
    }
  }
}

function showMatrix() {
  const { classes, counts, of } = data.confusions;
  find("confused").hidden = classes.length < 2;
  const head = make("tr", {}, make("th", {}, "true \\ predicted"), ...classes.map((c) => make("th", { scope: "col" }, elided(c))));
  const most = Math.max(...counts.flatMap((row, i) => row.filter((_, j) => i !== j)), 1);
  const rows = classes.map((c, i) => make("tr", {}, make("th", { scope: "row" }, elided(c)),
    ...classes.map((other, j) => cell(c, other, counts[i][j], most))));
  if (of > classes.length) find("matrix-of").append(`The ${classes.length} classes with most errors, of ${of}.`);
  find("matrix").append(make("thead", {}, head), make("tbody", {}, ...rows));
}

function showErrorTable() {
  find("error-types").hidden = !data.error_table;
  if (!data.error_table) return;
  const { about, head, rows } = data.error_table;
  find("error-table-about").append(about);
  find("table").append(
    make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...rows.map(([name, ...numbers]) => make("tr", {},
      make("th", { scope: "row" }, name), ...numbers.map((text) => make("td", {}, text))))));
}

function elided(c) {
  return make("span", { title: className(c) }, className(c));
}

function cell(c, other, count, most) {
  if (c === other) return make("td", { class: "same" }, count.toLocaleString("en"));
  if (!count) return make("td");
  const heat = `h${Math.min(4, Math.ceil((4 * count) / most))}`;
  const button = make("button", { type: "button", title: `${className(c)} misclassified as ${className(other)}`,
    onclick: () => filterBy({ true: String(c), predicted: String(other) }) }, count.toLocaleString("en"));
  return make("td", { class: heat }, button);
}

function showLabelIssues() {
  const { count, listed } = data.label_issues;
  find("labels").hidden = !count;
  const known = [...new Set(listed.map((one) => one.id))].map((id) => byId.get(id)).filter(Boolean);
  const few = known.slice(0, 12);
  find("issues").append(make("ul", { class: "tiles" }, ...few.map((error) => tile(error, known))));
  if (known.length > few.length) find("issues").append(link(`show all ${counted(known.length, "image")}`, { only: "issue" }));
}

function showChanges() {
  const one = data.comparison;
  find("changes").hidden = !one;
  if (!one) return;
  const turned = `Of ${counted(one.common, "common input")} ${one.before.toLocaleString("en")} were correct in ${one.with}, now ${one.after.toLocaleString("en")}.`;
  const odds = one.fixed + one.broken
    ? ` McNemar's test: ${pValue(one.p)}.` : " No prediction changed between correct and wrong.";
  const relabelled = one.relabeled ? ` ${counted(one.relabeled, "label")} changed.` : "";
  find("changed").append(make("p", {},
    make("span", { class: "badge right" }, `${one.fixed} fixed`), " ",
    make("span", { class: "badge wrong" }, `${one.broken} broken`), ` ${turned}${odds}${relabelled}`));
  const named = (each) => each.name ?? className(each.class);
  const measure = (each) => (each.name ? "accuracy" : one.measure);
  const worst = one.worst_group;
  if (worst) find("changed").append(make("p", {}, `Worst group: ${named(worst)}, ${measure(worst)} ${percent(worst.before)} to ${percent(worst.after)}.`));
  const worse = [...one.classes.filter((each) => one.regressed.includes(each.class)), ...(one.slices ?? []).filter((each) => each.regressed)];
  if (worse.length) find("changed").append(make("h3", {}, "Got worse"), make("ul", {}, ...worse.map((each) =>
    make("li", {}, `${named(each)}: ${measure(each)} ${percent(each.before)} to ${percent(each.after)} (change ${percent(each.low)} to ${percent(each.high)}, ${pValue(each.p)})`))));
  const broken = one.broken_ids.map((id) => byId.get(id)).filter(Boolean);
  if (broken.length) find("changed").append(make("h3", {}, "Newly broken"),
    make("ul", { class: "tiles" }, ...broken.slice(0, 12).map((error) => tile(error, broken))));
}

function showFixes() {
  find("tried").hidden = !data.fixes.length;
  for (const one of data.fixes) {
    const text = one.tried
      ? `${one.name}: ${one.measure} ${percent(one.before)} to ${percent(one.after)} on ${counted(one.evaluated_on, "held-out input")} (${setting(one)}${restricted(one)}change ${percent(one.low)} to ${percent(one.high)}, ${one.fixed} fixed, ${one.broken} broken, ${pValue(one.p)})${saved(one)}`
      : `${one.name} was not tried: ${one.note}`;
    find("fixes").append(make("li", {}, text));
  }
}

function saved(one) {
  const worst = one.worst_group ? `; worst group ${one.worst_group.map((share) => percent(share)).join(" to ")}` : "";
  return one.weights ? `${worst}; weights: ${one.weights}` : worst;
}

function restricted(one) {
  return (one.restricted ?? null) === null ? "" : `${percent(one.restricted)} by the old layer restricted to the classes of the data; relative to that, `;
}

function setting(one) {
  const chosen = one.thresholds ?? one.offsets;
  if (chosen) return `${Object.entries(chosen).map(([name, value]) => `${name} ${value}`).join(", ") || "no change"}; `;
  if (!one.threshold) return "";
  const overlap = one.overlap[0] === null ? "" : `, overlap ${one.overlap.join(" to ")}`;
  return `score ${one.threshold.join(" to ")}${overlap}; `;
}
