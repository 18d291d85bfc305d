// Page of the concept graph of a class: layers as columns, concepts as boxes, relevance as bands between them; below the
// picture the same in words.
"use strict";

(() => {
  const {
    about, bdi, cell, className, classAddress, conceptAddress, conceptName, counted, cover, drawn, el, heading, idsOf,
    layerAddress, load, missing, page, sampleAddress, sampleData,
  } = crpKit;

  const [WIDE, BETWEEN, HIGH, APART] = [152, 104, 60, 16]; // pixels: of a box, to the next column, of a box, to the next box
  const [WIDEST, THINNEST] = [14, 1]; // pixels of a band
  const FULL = [0.01, 0.04, 0.1, 0.2, 0.4, 1]; // shares that the widest band may stand for: the first one that none exceeds

  /** A share in percent, with one decimal where it would else be 0. */
  const share = (value) => (value !== 0 && Math.abs(value) < 0.0005 ? `${value < 0 ? "−" : ""}<0.1\u00a0%` : rounded(value));
  const rounded = (value) => `${(100 * value).toFixed(Math.abs(value) < 0.01 ? 1 : 0).replace("-", "−")}\u00a0%`;

  async function graphView({ cls }) {
    const data = await load(`graph-${cls}`);
    const layers = await Promise.all(about.layers.map((_, number) => load(`layer-${number}`)));
    const boxes = data.boxes.map(([column, middle, concept, part, others, absorbed]) => ({ number: data.columns[column], column, middle, concept, part, others, absorbed }));
    const edges = data.edges.map(([source, target, part, positive, lanes]) => ({ source, target, part, positive, lanes }));
    const samples = await Promise.all(data.samples.map(async (number) => ({ number, ...(await sampleData(number)) })));
    const graph = { ...data, cls, boxes, edges, layers, samples };
    const links = samples.map(({ number, name }) => el("a", { href: sampleAddress(number) }, bdi(name)));
    return {
      title: `Concept graph of ${className(cls)}`,
      parts: [
        heading("How the model comes to ", bdi(className(cls))),
        el("p", { class: "lead" }, `The concepts that relevance for `, el("a", { href: classAddress(cls) }, "this class"), ` passes on its way to the image, ${samples.length === 1 ? "in one sample" : `in the mean over ${counted(samples.length, "sample", "samples")}`}: `, links.flatMap((link, index) => (index ? [", ", link] : [link])), "."),
        el("p", { class: "hint" }, "At a concept: its share of all relevance of the class. At a band: the share that the lower concept gets of what passes the upper one. Pictures are of the samples in which a concept is most relevant, dark where little of its relevance is."),
        legend(graph),
        picture(graph),
        el("h2", {}, "In words"),
        el("ul", { class: "sentences" }, boxes.map((_, index) => sentence(graph, index))),
        others(cls),
      ],
    };
  }

  const full = ({ edges }) => FULL.find((bound) => edges.every(({ part }) => Math.abs(part) <= bound)) ?? 1;
  const thickness = (graph, part) => THINNEST + (WIDEST - THINNEST) * Math.min(1, Math.abs(part) / full(graph));

  function legend(graph) {
    const line = (part, name) => drawn("svg", { viewBox: `0 0 32 ${WIDEST}`, width: 32, height: WIDEST, "aria-hidden": "true" }, drawn("path", { d: `M0 ${WIDEST / 2}H32`, class: name, "stroke-width": thickness(graph, part) }));
    const entry = (text, part, name) => el("span", {}, line(part, name), text);
    const signs = [[true, "for", "for the class"], [false, "against", "against it"]].filter(([sign]) => graph.edges.some(({ positive }) => positive === sign));
    const widths = [1, 0.5, 0.1].map((part) => part * full(graph));
    return el("p", { class: "bands key" }, signs.map(([, name, text]) => entry(text, full(graph) / 3, name)), widths.map((part) => entry(share(part), part, "plain")));
  }

  // ---- The picture

  function picture(graph) {
    const [width, height] = [graph.columns.length * (WIDE + BETWEEN) - BETWEEN, graph.height * (HIGH + APART)];
    const lines = drawn("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "bands", "aria-hidden": "true" });
    const order = [...graph.edges].sort((a, b) => Math.abs(b.part) - Math.abs(a.part));
    for (const edge of order) lines.append(band(graph, edge));
    for (const edge of order) lines.append(bandLabel(graph, edge));
    const heads = graph.columns.map((number) => el("span", { style: { width: `${WIDE}px` } }, number < 0 ? "model output" : el("a", { href: layerAddress(number) }, bdi(about.layers[number].name))));
    return el(
      "div",
      { class: "graph", role: "region", tabindex: "0", "aria-label": "Picture of the concept graph" },
      el("div", { class: "heads", style: { width: `${width}px`, gap: `${BETWEEN}px` } }, heads),
      el("div", { class: "plane", style: { width: `${width}px`, height: `${height}px` } }, lines, graph.boxes.map((_, index) => box(graph, index))),
    );
  }

  const left = (column) => column * (WIDE + BETWEEN);
  const down = (middle) => middle * (HIGH + APART);

  /** The heights at which an edge leaves its upper box and arrives at its lower one, spread over these. */
  function ports(graph, edge) {
    const height = (end, other) => {
      const at = graph.edges.filter((one) => one[end] === edge[end]);
      const towards = (one) => (one.lanes.length ? one.lanes.at(end === "source" ? 0 : -1) : graph.boxes[one[other]].middle);
      const ranked = [...at].sort((a, b) => towards(a) - towards(b));
      const step = Math.min(14, HIGH / (at.length + 1));
      return down(graph.boxes[edge[end]].middle) + step * (ranked.indexOf(edge) - (at.length - 1) / 2);
    };
    return [height("source", "target"), height("target", "source")];
  }

  function band(graph, edge) {
    const [start, end] = ports(graph, edge);
    const first = graph.boxes[edge.source].column;
    const points = [[left(first) + WIDE, start]];
    edge.lanes.forEach((middle, index) => points.push([left(first + 1 + index), down(middle)], [left(first + 1 + index) + WIDE, down(middle)]));
    points.push([left(graph.boxes[edge.target].column), end]);
    const steps = points.slice(1).map(([x, y], index) => {
      const [beforeX, beforeY] = points[index];
      const middle = (beforeX + x) / 2;
      return `C${middle} ${beforeY} ${middle} ${y} ${x} ${y}`;
    });
    return drawn("path", { d: `M${points[0].join(" ")}${steps.join("")}`, class: edge.positive ? "for" : "against", "stroke-width": thickness(graph, edge.part) });
  }

  function bandLabel(graph, edge) {
    const [, end] = ports(graph, edge);
    return drawn("text", { x: left(graph.boxes[edge.target].column) - 6, y: end + 4 }, share(edge.part));
  }

  function box(graph, index) {
    const { number, column, middle, concept, part } = graph.boxes[index];
    const style = { left: `${left(column)}px`, top: `${down(middle) - HIGH / 2}px`, width: `${WIDE}px`, height: `${HIGH}px` };
    if (number < 0) return el("a", { href: classAddress(concept), style }, cell(graph.samples[0].sheet, graph.samples[0].cells[0], about.cell, ""), el("span", {}, el("strong", {}, bdi(className(concept)))));
    const row = idsOf(number).indexOf(concept);
    const called = conceptName(number, concept);
    const text = el("span", {}, el("strong", {}, String(concept)), called ? el("small", {}, bdi(called)) : null, el("small", {}, share(part)));
    return row < 0 ? el("div", { style }, text) : el("a", { href: conceptAddress(number, concept), style }, cover(graph.layers[number], row), text);
  }

  // ---- In words

  function named({ number, concept }) {
    if (number < 0) return [bdi(className(concept))];
    const name = `concept ${concept}`;
    const link = idsOf(number).includes(concept) ? el("a", { href: conceptAddress(number, concept) }, name) : name;
    const called = conceptName(number, concept);
    return [link, called ? [" (", bdi(called), ")"] : [], " of ", bdi(about.layers[number].name)].flat();
  }

  /** What becomes of the relevance that passes a concept; null for one that is not decomposed. */
  function sentence(graph, index) {
    const own = graph.boxes[index];
    if (own.absorbed === null) return null;
    const parts = graph.edges.filter(({ source }) => source === index).map(({ target, part }) => [`${share(part)} to `, ...named(graph.boxes[target])]);
    if (own.others) parts.push([`${share(own.others)} to other concepts`]);
    const joined = parts.flatMap((words, number) => (number ? [", ", ...words] : words));
    return el("li", {}, "Of the relevance of ", named(own), ": ", joined, absorbed(own, parts.length ? "; " : ""), ".");
  }

  function absorbed({ absorbed: part }, before) {
    if (part === 0) return "";
    const sign = part < 0 ? " of the opposite sign, so that the concepts below get more than what passes this one" : "";
    return `${before}biases, stabilizers and other paths absorb ${share(Math.abs(part))}${sign}`;
  }

  function others(cls) {
    const items = about.graphs.filter((other) => other !== cls).map((other) => el("li", {}, el("a", { href: `#graph/${other}` }, bdi(className(other)))));
    return items.length ? el("section", {}, el("h2", {}, "Concept graphs of other classes"), el("ul", { class: "chips" }, items)) : null;
  }

  page("graph", {
    read: (parts) => {
      const cls = parts.length === 1 && /^\d+$/.test(parts[0]) ? Number(parts[0]) : NaN;
      return about.graphs.includes(cls) ? { cls } : missing(`no concept graph ${parts.join("/")}`);
    },
    view: graphView,
  });
})();
