// The first screen and the sections below it.

function showAdvice() {
  const most = Math.max(...data.advice.map((one) => one.gain), 1e-9);
  for (const one of data.advice.slice(0, 6)) {
    const item = make("li", {}, one.text);
    const gauge = make("progress", { class: "gauge", max: most, value: one.gain, "aria-hidden": "true" });
    const how = ["retrain", "threshold"].includes(one.kind) ? "measured" : "at most";
    const gain = one.gain > 0 ? `${how} ${(100 * one.gain).toFixed(1)} points more right · ` : "";
    const about = make("span", { class: "gain" }, `${gain}${counted(one.count, "input")}`);
    if (one.shortcut !== undefined) about.append(" · ", link("show them", { group: `s${one.shortcut}` }));
    else if (one.group !== undefined) about.append(" · ", link("show them", { group: String(one.group) }));
    if (one.kind === "relabel") about.append(" · ", link("show them", { only: "suspect" }));
    item.append(gauge, about);
    const whose = one.shortcut !== undefined ? data.shortcuts.find((each) => each.number === one.shortcut) : data.groups[one.group];
    const shown = one.kind === "relabel" ? data.suspects.listed.map((each) => each.id) : whose?.typical ?? [];
    const known = shown.map((id) => byId.get(id)).filter(Boolean).slice(0, 4);
    item.append(make("span", { class: "few" }, ...known.map((error) => small(error, known))));
    find("advice").append(item);
  }
  if (!data.advice.length) find("advice").append(make("li", {}, data.errors.length
    ? "Nothing stands out: the errors have no common cause that was found." : "There is no error."));
}

function link(text, values) {
  return make("button", { type: "button", class: "link", onclick: () => filterBy(values) }, text);
}

function showNumbers() {
  const { right, counts, calibration, tests } = data.numbers;
  const add = (term, value, ...small) => find("numbers").append(
    make("dt", {}, term), make("dd", {}, value, ...small.map((text) => make("small", {}, text))));
  if (right.of) {
    add(data.task === "classification" ? "Right" : "Without an error", percent(right.value),
      `${percent(right.low)} to ${percent(right.high)}, ${right.right.toLocaleString("en")} of ${right.of.toLocaleString("en")} labelled`,
      ...(right.unanswered ? [`${percent(right.with_unanswered)} if the ${right.unanswered.toLocaleString("en")} that the model failed on count as wrong`] : []));
  }
  for (const [name, value] of data.numbers.measures) add(name, value);
  if (calibration !== null) add("Calibration error", percent(calibration));
  if (tests.tested) {
    add("Tested by removing regions", counted(tests.tested, "error"),
      `${tests.verified ?? 0} verified, ${tests.partly ?? 0} partly, ${tests.fixed ?? 0} became right`);
  }
  const failed = Object.entries(counts).filter(([status, count]) => count && status !== "ok");
  if (failed.length) add("Not answered", failed.map(([status, count]) => `${count} ${status}`).join(", "));
}

function showShortcuts() {
  find("shortcuts").hidden = !data.shortcuts.length;
  for (const one of data.shortcuts) {
    const { pasted, carries } = one;
    const known = one.typical.filter((id) => byId.has(id)).map((id) => byId.get(id));
    const of = one.groups.map((number) => number + 1).join(", ");
    const helps = carries.tried ? ` With other images' content in its place ${carries.lost} of ${carries.tried} right answers that show it were lost.` : "";
    find("shared").append(make("article", { class: "group" },
      make("h3", {}, one.name),
      make("p", {}, `${counted(one.count, "error")} · costs ${(100 * one.cost).toFixed(1)} points · group${one.groups.length > 1 ? "s" : ""} ${of} · `,
        link("show all", { group: `s${one.number}` })),
      make("p", {}, `${percent(one.errors_with, 0)} of these errors show it, and ${percent(one.right_with, 0)} of ${one.controls} right answers of the same class. `
        + `Put ${pasted.tried} times into ${pasted.images} right images it turned ${pasted.turned}; parts as large from elsewhere turned ${pasted.elsewhere} (${chance(pasted.p)}).${helps}`),
      make("ul", { class: "tiles" }, ...known.map((error) => tile(error, known)))));
  }
}

function showGroups() {
  find("causes").hidden = !data.groups.length;
  const shared = new Set(data.shortcuts.flatMap((one) => one.groups));
  for (const group of data.groups.slice(0, 40)) {
    const tested = group.tested
      ? ` · of the costliest ${group.tested} tested ${group.verified} verified, ${group.fixed} became right without a region` : " · none tested";
    const doubtful = group.label_suspects ? ` · ${group.label_suspects} with a suspected label` : "";
    const known = group.typical.filter((id) => byId.has(id)).map((id) => byId.get(id));
    find("groups").append(make("article", { class: "group" },
      make("h3", {}, `${group.number + 1}. ${group.name}`),
      make("p", {}, `${counted(group.count, "error")} · costs ${(100 * group.cost).toFixed(1)} points${tested}${doubtful}${shared.has(group.number) ? " · part of a shortcut above" : ""} · `,
        link("show all", { group: String(group.number) })),
      make("ul", { class: "tiles" }, ...known.map((error) => tile(error, known)))));
    const culprits = data.culprits?.[group.number] ?? [];
    if (culprits.length) {
      find("groups").lastChild.append(
        make("p", {}, "Training images that pull its loss up most, by the last layer's gradients: ",
          culprits.map((one) => `${one.path} (${className(one.label)})`).join(", ")));
    }
  }
}

function showMatrix() {
  const { classes, counts, of } = data.matrix;
  find("confused").hidden = classes.length < 2;
  const head = make("tr", {}, make("th", {}, "true \\ answered"), ...classes.map((c) => make("th", { scope: "col" }, elided(c))));
  const most = Math.max(...counts.flatMap((row, i) => row.filter((_, j) => i !== j)), 1);
  const rows = classes.map((c, i) => make("tr", {}, make("th", { scope: "row" }, elided(c)),
    ...classes.map((other, j) => cell(c, other, counts[i][j], most))));
  if (of > classes.length) find("matrix-of").append(`Shown are the ${classes.length} classes with most errors, of ${of}.`);
  find("matrix").append(make("thead", {}, head), make("tbody", {}, ...rows));
}

function showKinds() {
  find("kinds").hidden = !data.kinds;
  if (!data.kinds) return;
  const { about, head, rows } = data.kinds;
  find("kinds-about").append(about);
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
  const button = make("button", { type: "button", title: `${className(c)} taken for ${className(other)}`,
    onclick: () => filterBy({ true: String(c), predicted: String(other) }) }, count.toLocaleString("en"));
  return make("td", { class: heat }, button);
}

function showSuspects() {
  const { count, listed } = data.suspects;
  find("labels").hidden = !count;
  const known = listed.map((one) => byId.get(one.id)).filter(Boolean);
  const few = known.slice(0, 12);
  find("suspected").append(make("ul", { class: "tiles" }, ...few.map((error) => tile(error, known))));
  if (known.length > few.length) find("suspected").append(link(`show all ${count}`, { only: "suspect" }));
}

function showChanges() {
  const one = data.compared;
  find("changes").hidden = !one;
  if (!one) return;
  const turned = `${one.before.toLocaleString("en")} of ${counted(one.common, "common input")} were right in ${one.with}, now ${one.after.toLocaleString("en")}.`;
  const odds = one.fixed + one.broken
    ? ` By chance alone so uneven a change has ${chance(one.p)} (McNemar).` : " No answer changed between right and wrong.";
  const relabelled = one.relabelled ? ` ${counted(one.relabelled, "label")} changed.` : "";
  find("changed").append(make("p", {},
    make("span", { class: "badge right" }, `${one.fixed} fixed`), " ",
    make("span", { class: "badge wrong" }, `${one.broken} broken`), ` ${turned}${odds}${relabelled}`));
  const broken = one.broken_ids.map((id) => byId.get(id)).filter(Boolean);
  if (broken.length) find("changed").append(make("h3", {}, "What broke"),
    make("ul", { class: "tiles" }, ...broken.slice(0, 12).map((error) => tile(error, broken))));
}

function showFixes() {
  find("tried").hidden = !data.fixes.length;
  for (const one of data.fixes) {
    const text = one.tried
      ? `${one.name}: ${one.measure === "F1" ? "F1 of " : ""}${percent(one.before)}${one.measure === "F1" ? "" : " right"} became ${percent(one.after)} on ${counted(one.judged_on, "input")} it had not seen (${setting(one)}${among(one)}change ${percent(one.low)} to ${percent(one.high)}, ${one.fixed} fixed, ${one.broken} broken, ${chance(one.p)})`
      : `${one.name} was not tried. ${one.note}`;
    find("fixes").append(make("li", {}, text));
  }
}

function among(one) {
  return (one.restricted ?? null) === null ? "" : `${percent(one.restricted)} by the old one if it may give only the classes of the data; to that, `;
}

function setting(one) {
  if (!one.threshold) return "";
  const overlap = one.overlap[0] === null ? "" : `, overlap ${one.overlap.join(" to ")}`;
  return `score ${one.threshold.join(" to ")}${overlap}; `;
}
