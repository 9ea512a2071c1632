
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const influences = data.kind === "influences";
  const order = new Intl.Collator(undefined, { numeric: true });

  // Text from the data is set as text, never as markup.
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== undefined && value !== null) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  const nameOf = (sample) => sample.id ?? `#${sample.index}`;

  function number(value) {
    const shown = value === 0 ? "0" : String(Number(Math.abs(value).toPrecision(3)));
    return (value < 0 ? "−" : influences ? "+" : "") + shown;
  }

  const picture = (sample, side) =>
    sample.image
      ? make("img", { src: sample.image, alt: `${side} sample ${nameOf(sample)}`, loading: "lazy" })
      : null;

  function naming(sample) {
    return [
      make("span", { class: "name" }, nameOf(sample)),
      sample.id === undefined ? null : make("span", { class: "index" }, ` #${sample.index}`),
      sample.text === undefined ? null : make("span", { class: "text" }, sample.text),
    ];
  }

  const coloured = (value) =>
    make("span", { class: !influences ? "" : value < 0 ? "against" : "for" }, number(value));

  // One side of a test sample: a list of training samples, the strongest first.
  function side(title, kind, pairs, strongest) {
    const items = pairs.map(([index, value]) => {
      const sample = data.train[index];
      const [name, place, text] = naming(sample);
      const bar = make("span", { class: `bar ${kind}`, "aria-hidden": "true" });
      bar.style.width = `${(100 * Math.abs(value)) / strongest}%`;
      return make(
        "li",
        {},
        picture(sample, "training"),
        make("span", { class: `value ${kind}` }, number(value)),
        " ",
        name,
        place,
        sample.label === undefined ? null : " ",
        sample.label === undefined ? null : make("span", {}, `label ${sample.label}`),
        text,
        bar,
      );
    });
    const list = items.length ? make("ol", {}, ...items) : make("p", {}, "None.");
    return make("section", {}, make("h3", { class: kind }, title), list);
  }

  function detail(test) {
    const values = [...test.proponents, ...test.opponents].map(([, value]) => Math.abs(value));
    const strongest = Math.max(...values);
    const pictures = Object.values(data.train).some((sample) => sample.image);
    return [
      make(
        "div",
        { class: pictures ? "sides pictures" : "sides" },
        side("Proponents lower its loss", "for", test.proponents, strongest),
        side("Opponents raise its loss", "against", test.opponents, strongest),
      ),
      test.leftOut
        ? make("p", { class: "text" }, `Left out: ${test.leftOut} influences that are NaN.`)
        : null,
    ];
  }

  // A column: its name, what it sorts by, what it shows, and whether it is a number.
  const column = (name, key, show, isNumber = false) => ({ name, key, show, isNumber });

  function compared(a, b) {
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    return typeof a === "number" && typeof b === "number" ? a - b : order.compare(a, b);
  }

  // A table whose rows are sorted by the buttons of its header. A row is { item, elements, words }.
  function table(caption, columns, rows) {
    const body = make("tbody");
    const heads = columns.map((one) => {
      const button = make("button", { type: "button" }, one.name);
      const options = { scope: "col", "aria-sort": "none", class: one.isNumber ? "number" : null };
      const head = make("th", options, button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const keyed = rows.map((row) => [one.key(row.item), row]);
        const missing = ([key]) => key === undefined;
        keyed.sort((a, b) =>
          missing(a) || missing(b) || !down ? compared(a[0], b[0]) : compared(b[0], a[0]));
        body.append(...keyed.flatMap(([, row]) => row.elements));
      });
      return head;
    });
    body.append(...rows.flatMap((row) => row.elements));
    const head = make("thead", {}, make("tr", {}, ...heads));
    const whole = make("table", {}, make("caption", { class: "unseen" }, caption), head, body);
    return make("div", { class: "scroll" }, whole);
  }

  const cells = (columns, item) =>
    columns.slice(1).map((one) => make("td", { class: one.isNumber ? "number" : null }, one.show(item)));

  const words = (sample) =>
    [`#${sample.index}`, sample.id, sample.label, sample.prediction, sample.text]
      .filter((part) => part !== undefined).join("\n").toLowerCase();

  function testSection() {
    const known = (fact) => data.tests.some((test) => test[fact] !== undefined);
    const first = (pairs) => (pairs.length ? pairs[0][1] : undefined);
    const shown = (value) => (value === undefined ? "–" : coloured(value));
    const predicted = (test) => {
      const differs = test.label !== undefined && test.label !== test.prediction;
      const told = differs ? make("span", { class: "unseen" }, " (differs from the label)") : null;
      return make("span", { class: differs ? "differs" : null }, test.prediction ?? "–", told ?? "");
    };
    const columns = [
      column("Test sample", (test) => test.index),
      ...(known("label") ? [column("Label", (test) => test.label, (test) => test.label ?? "–")] : []),
      ...(known("prediction") ? [column("Predicted", (test) => test.prediction, predicted)] : []),
      column("Top proponent", (test) => first(test.proponents),
        (test) => shown(first(test.proponents)), true),
      column("Top opponent", (test) => first(test.opponents),
        (test) => shown(first(test.opponents)), true),
    ];
    const rows = data.tests.map((test) => {
      const id = `detail-${test.index}`;
      const under = make("tr", { id, class: "detail", hidden: "" });
      const button = make(
        "button",
        { type: "button", class: "toggle sample", "aria-expanded": "false", "aria-controls": id },
        picture(test, "test"),
        make("span", {}, ...naming(test)),
      );
      const open = (wanted) => {
        if (wanted && !under.firstChild) {
          under.append(make("td", { colspan: columns.length }, ...detail(test).filter(Boolean)));
        }
        under.hidden = !wanted;
        button.setAttribute("aria-expanded", String(wanted));
      };
      button.addEventListener("click", () => open(under.hidden));
      const row = make("tr", {}, make("th", { scope: "row" }, button), ...cells(columns, test));
      const listed = [...test.proponents, ...test.opponents].map(([index]) => data.train[index]);
      const names = new Set(listed.flatMap((one) => [`#${one.index}`, (one.id ?? "").toLowerCase()]));
      const show = (wanted) => {
        row.hidden = !wanted;
        under.hidden = !wanted || button.getAttribute("aria-expanded") === "false";
      };
      return { item: test, elements: [row, under], words: words(test), names, open, show };
    });
    const all = make("button", { type: "button", "aria-pressed": "false" }, "Open all");
    all.addEventListener("click", () => {
      const wanted = all.getAttribute("aria-pressed") === "false";
      all.setAttribute("aria-pressed", String(wanted));
      rows.filter((row) => !row.elements[0].hidden).forEach((row) => row.open(wanted));
    });
    if (rows.length) rows[0].open(true);
    const section = make(
      "section",
      { "aria-labelledby": "tests-title", id: "tests" },
      make("div", { class: "heading" }, make("h2", { id: "tests-title" }, "Test samples"), all),
      table("Test samples; each opens the lists of its proponents and opponents", columns, rows),
    );
    return { section, rows };
  }

  function suspectSection() {
    const sampleOf = ([index]) => data.train[index];
    const labelled = data.suspects.some((one) => sampleOf(one).label !== undefined);
    const columns = [
      column(influences ? "Training sample" : "Sample", ([index]) => index),
      ...(labelled
        ? [column("Label", (one) => sampleOf(one).label, (one) => sampleOf(one).label ?? "–")]
        : []),
      column(influences ? "Mean influence" : "Value", ([, value]) => value,
        ([, value]) => coloured(value), true),
      ...(influences
        ? [column("Opponent of", ([, , opposed]) => opposed, ([, , opposed]) => String(opposed), true)]
        : []),
    ];
    const rows = data.suspects.map((one) => {
      const sample = sampleOf(one);
      const naming_ = make("div", { class: "sample" }, picture(sample, "training"),
        make("span", {}, ...naming(sample)));
      const row = make("tr", {}, make("th", { scope: "row" }, naming_), ...cells(columns, one));
      const show = (wanted) => { row.hidden = !wanted; };
      return { item: one, elements: [row], words: words(sample), names: new Set(), show };
    });
    const title = influences ? "Suspicious training samples" : "Largest numbers";
    const told = influences
      ? "Those of the lowest mean influence on all test samples: more weight on them raises the loss on "
        + `average. The last column counts the test samples, of ${data.testCount}, that they are among `
        + `the ${data.k} strongest opponents of.`
      : null;
    const section = make(
      "section",
      { "aria-labelledby": "suspects-title", id: "suspects" },
      make("h2", { id: "suspects-title" }, title),
      told === null ? null : make("p", {}, told),
      rows.length ? table(title, columns, rows) : make("p", {}, "None has a negative mean."),
    );
    return { section, rows };
  }

  const parts = influences ? { "test samples": testSection() } : {};
  if (!influences) parts.samples = suspectSection();
  else if (data.wantSuspects) parts["suspicious training samples"] = suspectSection();
  const lists = document.getElementById("lists");
  if (data.coarse) lists.className = "coarse";
  const sections = Object.values(parts).map((part) => part.section);
  const links = [...sections, document.getElementById("provenance")].map((section) =>
    make("a", { href: `#${section.id}` }, section.querySelector("h2").textContent));
  lists.append(make("nav", { "aria-label": "On this page" }, ...links), ...sections);

  const find = document.getElementById("find");
  function search() {
    const wanted = find.value.trim().toLowerCase();
    const counts = Object.entries(parts).map(([name, { rows }]) => {
      const found = rows.filter((row) => {
        const fits = row.words.includes(wanted) || row.names.has(wanted);
        row.show(fits);
        return fits;
      });
      return `${found.length} of ${rows.length} ${name}`;
    });
    document.getElementById("found").textContent = `Showing ${counts.join(", and ")}.`;
  }
  find.addEventListener("input", search);
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      find.focus();
    }
  });
  search();
})();
