// Page of a layer: the table of its concepts.
"use strict";

(() => {
  const {
    about, bar, bdi, className, classAddress, conceptAddress, conceptName, cover, digits, drawn, el, filters, heading, integer,
    layerAddress, layerNumber, missing, page, relevance,
  } = crpKit;

  const ROWS = 100; // that the table shows at first
  const LETTERS = [11, 20]; // sizes of the numbers in the plane, on wide screens and on phones, as in report.css
  const CONCEPTS = { ChannelConcept: "a channel", NeuronConcept: "a neuron", TokenConcept: "a token", HeadConcept: "a head" };
  const COLUMNS = [
    { key: "picture", name: "" },
    { key: "concept", name: "Concept", up: true },
    { key: "relevance", name: "Relevance", number: true, tip: "Mean relevance over all samples" },
    { key: "bar", name: "", wide: true },
    { key: "spread", name: "Spread", number: true, wide: true, tip: "Standard deviation of relevance over all samples" },
    { key: "activation", name: "Activation", number: true, wide: true, tip: "Mean activation over all samples" },
    { key: "cls", name: "Main class", up: true, tip: "Class with the highest mean relevance" },
    { key: "served", name: "Classes served", number: true, wide: true, tip: "Classes with at least half the main class's mean" },
  ];

  async function layerView({ number, query }) {
    const rows = await filters.layerData(number);
    const layer = rows.data;
    const info = about.layers[number];
    const largest = Math.max(...layer.table.relevance.map((value) => Math.abs(value ?? 0)), 0);
    const signed = layer.table.relevance.some((value) => value < 0);
    const body = el("tbody");
    const more = el("div", { class: "more" });
    const heads = new Map();

    const row = (index) => {
      const { table } = layer;
      const concept = table.concept[index];
      const cls = table.cls[index];
      const name = el("a", { href: conceptAddress(number, concept) }, String(concept));
      const cells = {
        picture: el("td", { class: "picture" }, cover(layer, index)),
        concept: el("th", { scope: "row" }, name, conceptName(number, concept) ? el("small", { class: "called" }, " ", bdi(conceptName(number, concept))) : null),
        relevance: el("td", { class: "number" }, relevance(table.relevance[index])),
        bar: el("td", { class: "wide" }, bar(table.relevance[index], largest, signed)),
        spread: el("td", { class: "number wide" }, relevance(table.spread[index])),
        activation: el("td", { class: "number wide" }, digits(table.activation[index])),
        cls: el("td", {}, cls < 0 ? "–" : el("a", { href: classAddress(cls) }, bdi(className(cls)))),
        served: el("td", { class: "number wide" }, integer(table.served[index])),
      };
      return el("tr", {}, COLUMNS.map(({ key }) => cells[key]));
    };

    const apply = (values) => {
      const sorting = sortingOf(values);
      const indices = ordered(rows, values, sorting);
      const count = values.rows === "all" ? indices.length : Number(values.rows) || ROWS;
      body.replaceChildren(...indices.slice(0, count).map(row));
      const left = indices.length - count;
      const show = (text) => () => {
        values.rows = text;
        list.update();
      };
      more.replaceChildren();
      if (left > 0) more.append(el("button", { type: "button", on: { click: show(String(count + ROWS)) } }, `Show ${Math.min(ROWS, left)} more`));
      if (left > ROWS) more.append(el("button", { type: "button", on: { click: show("all") } }, `Show all ${integer(indices.length)}`));
      if (!indices.length) more.append(el("p", { class: "note" }, "No concept of this layer fits."));
      for (const [key, head] of heads) {
        if (key === sorting.by) head.setAttribute("aria-sort", sorting.up ? "ascending" : "descending");
        else head.removeAttribute("aria-sort");
      }
      return [indices.length, layer.table.concept.length];
    };
    const list = filters.bar(["text", "class", "for", "least"], query, { base: layerAddress(number), apply });
    for (const name of ["sort", "rows"]) list.values[name] = query.get(name) ?? "";

    const head = COLUMNS.map((column) => {
      const { key, name, tip } = column;
      const classes = [column.number ? "number" : "", column.wide ? "wide" : ""].join(" ").trim();
      if (!name) return el("td", { class: classes });
      const sort = () => {
        const sorting = sortingOf(list.values);
        const up = sorting.by === key ? !sorting.up : Boolean(column.up);
        list.values.sort = up ? key : `-${key}`;
        list.update();
      };
      const cell = el("th", { scope: "col", class: classes }, el("button", { type: "button", title: tip, on: { click: sort } }, name));
      heads.set(key, cell);
      return cell;
    });
    list.update();
    return {
      title: info.name,
      parts: [
        heading(bdi(info.name)),
        el("p", { class: "lead" }, `Output ${info.shape.join(" × ")}; a concept is ${CONCEPTS[info.concept.replace(/\(.*/, "")] ?? info.concept}.`),
        el("p", { class: "hint" }, `${tableHint()} `, el("a", { href: "#reading" }, "What the columns mean")),
        info.remark ? el("p", { class: "note" }, info.remark) : null,
        list.element,
        el("table", { class: "concepts" }, el("thead", {}, el("tr", {}, head)), body),
        more,
        scatter(number, layer.table),
      ],
    };
  }

  /** All concepts in the plane, similar ones near each other; the table leads to the same pages by keyboard. */
  function scatter(number, { concept: concepts, places, relevance: means, cls }) {
    if (concepts.length < 3) return null;
    const [width, height, edge] = [640, 400, 40]; // room for the numbers, which are larger on a phone
    const scale = (axis, size) => {
      const values = places.map((place) => place[axis] ?? 0);
      const [low, high] = [Math.min(...values), Math.max(...values)];
      return (value) => edge + ((size - 2 * edge) * ((value ?? 0) - low)) / (high - low || 1);
    };
    const [across, down] = [scale(0, width), scale(1, height)];
    const largest = Math.max(...means.map((value) => Math.abs(value ?? 0)), 0) || 1;
    const spots = concepts.map((concept, index) => ({
      index,
      text: String(concept),
      x: across(places[index][0]),
      y: height - down(places[index][1]),
      radius: 3 + 9 * Math.sqrt(Math.abs(means[index] ?? 0) / largest),
    }));
    const [wide, narrow] = LETTERS.map((size) => withRoom(spots, size));
    const points = spots.map(({ index, text, x, y, radius }) => {
      const concept = concepts[index];
      const called = conceptName(number, concept);
      const words = `concept ${concept}${called ? `, ${called}` : ""}: ${relevance(means[index])}${cls[index] < 0 ? "" : `, ${className(cls[index])}`}`;
      const circle = drawn("circle", { cx: x, cy: y, r: radius }, drawn("title", {}, words));
      const label = wide.has(index) ? [drawn("text", { x, y: y - radius - 3, class: narrow.has(index) ? "" : "wide" }, text)] : [];
      return drawn("a", { href: conceptAddress(number, concept), tabindex: "-1" }, circle, ...label);
    });
    const picture = drawn("svg", { viewBox: `0 0 ${width} ${height}`, class: "scatter", role: "img", "aria-label": "Concepts of this layer in the plane, similar ones near each other" }, ...points);
    return el("section", {}, el("h2", {}, "Concepts by similarity"), el("p", { class: "hint" }, `${about.similar}: similar concepts lie near each other, as far as a plane can show that. Larger discs have more mean relevance; each leads to its concept, and has its number where there is room.`), picture);
  }

  /** The concepts whose numbers have room, of those that would overlap the ones with the larger discs. */
  function withRoom(spots, size) {
    const placed = [];
    for (const { index, text, x, y, radius } of [...spots].sort((one, other) => other.radius - one.radius)) {
      const [half, base] = [text.length * size * 0.32, y - radius];
      const free = placed.every((label) => Math.abs(label.x - x) >= label.half + half || Math.abs(label.base - base) >= size);
      if (free) placed.push({ index, x, base, half });
    }
    return new Set(placed.map(({ index }) => index));
  }

  function tableHint() {
    const share = about.share ? "a concept's share of all relevance in this layer, the mean over all samples" : "the mean over all samples";
    const seen = about.field ? "what the concept's strongest neuron sees in the most relevant sample" : "the most relevant sample";
    return `Relevance is ${share}. The picture is ${seen}, dark where little of its relevance is.`;
  }

  /** The column that a table is sorted by, and whether upwards: by relevance where the address names none. */
  function sortingOf({ sort }) {
    const key = sort.replace("-", "");
    const known = COLUMNS.some((column) => column.name && column.key === key);
    return known ? { by: key, up: !sort.startsWith("-") } : { by: "relevance", up: false };
  }

  /** Indices of the rows that pass the filters, in order; rows without a value come last. */
  function ordered(rows, values, { by, up }) {
    const { table } = rows.data;
    const wanted = values.text.trim().toLocaleLowerCase();
    const fits = (index) =>
      (wanted === "" || String(table.concept[index]) === wanted || className(table.cls[index]).toLocaleLowerCase().includes(wanted)) &&
      filters.passes(rows, index, values);
    const key = by === "cls" ? (index) => className(table.cls[index]) : (index) => table[by][index];
    const compare = (a, b) => {
      const [left, right] = [key(a), key(b)];
      if (left === null || right === null) return (left === null) - (right === null);
      const order = typeof left === "string" ? left.localeCompare(right) : left - right;
      return (up ? order : -order) || a - b;
    };
    return table.concept.map((_, index) => index).filter(fits).sort(compare);
  }

  page("layer", {
    read: ([name]) => {
      const number = layerNumber(name);
      return number < 0 ? missing(`no layer ${name}`) : { number };
    },
    view: layerView,
  });
})();
