// Page of a class: by layer, the concepts that serve it most, its markers, mistakes, prototypes and outliers;
// below them what distinguishes it from another class.
"use strict";

(() => {
  const {
    about, bdi, cell, className, classAddress, conceptAddress, conceptName, counted, cover, digits, el, filters,
    heading, idsOf, layerAddress, load, missing, outlineWords, page, percent, relevance, sampleAddress, sampleData, sampleTile, scale,
    tile,
  } = crpKit;

  async function classView({ cls, other, query }) {
    const data = (await load(`classes-${Math.floor(cls / about.classesPerFile)}`))[cls % about.classesPerFile];
    const layers = await Promise.all(about.layers.map((_, number) => load(`layer-${number}`)));
    const seen = about.counts[cls];
    const listed = [];
    const sections = await Promise.all(about.layers.map(({ name }, number) => section([name, number], data.layers[number], layers[number], seen, listed)));
    const address = other === null ? classAddress(cls) : `${classAddress(cls)}/${other}`;
    return {
      title: className(cls),
      parts: [
        heading(bdi(className(cls))),
        el("p", { class: "lead" }, seen ? `Class ${cls}; relevance started from it in ${counted(seen, "sample", "samples")}.` : `Class ${cls}.`),
        seen ? el("p", { class: "hint" }, "By layer: the concepts with the highest mean relevance, those that mark the class among the others, and how its samples differ. ", el("a", { href: "#reading" }, "What the words mean")) : null,
        about.graphs.includes(cls) ? el("p", {}, el("a", { href: `#graph/${cls}` }, "Concept graph: how the model comes to this class")) : null,
        await examples(data.samples),
        ...(listed.length ? [filters.ofTiles(sections, listed, query, address)] : []),
        ...(seen ? sections : [el("p", { class: "note" }, "The atlas has no sample of this class, so that nothing is known of its concepts.")]),
        seen ? comparison(cls, other, data.layers, layers) : null,
      ],
    };
  }

  /** Samples of the class, each with the heatmap of the class over it. */
  async function examples(samples) {
    if (!samples.length) return null;
    const items = await Promise.all(
      samples.map(async (sample) => {
        const { sheet, name, cells } = await sampleData(sample);
        const pictures = cells.filter((number) => number >= 0).map((number) => cell(sheet, number, about.cell, ""));
        return el("li", {}, el("a", { href: sampleAddress(sample) }, el("span", { class: "pair" }, pictures), bdi(name)));
      }),
    );
    const where = about.look.style === "masked" ? "the same, dark where little of the class's relevance comes from" : "where in it the class's relevance comes from";
    return el("section", {}, el("h2", {}, "Samples"), el("p", { class: "hint" }, `Each sample, and ${where}.${outlineWords()}`), scale(), el("ul", { class: "pictures pairs" }, items));
  }

  /** What a layer says of the class; the tiles of its concepts are noted in `listed`. */
  async function section([name, number], data, layer, seen, listed) {
    const spread = (std) => (seen === 1 ? "n = 1" : `±\u00a0${relevance(std)}`);
    const note = (concept, value, ...texts) => {
      const element = tile(number, layer, concept, null, ...texts);
      listed.push({ element, number, concept, value });
      return element;
    };
    const used = data.concepts.map(([concept, mean, std]) => note(concept, mean, relevance(mean), spread(std)));
    const differences = (entries) => entries.map(([concept, difference]) => note(concept, difference, `+${relevance(difference)}`));
    const parts = [
      el("h2", {}, el("a", { href: layerAddress(number) }, bdi(name))),
      tiles("Highest mean relevance", null, used),
      tiles("Markers", "More relevant for this class than for the others; the difference of the means.", differences(data.markers ?? [])),
      mistakes(data.mistakes, differences),
      await prototypes(data.prototypes ?? []),
      await outliers(data.outliers ?? []),
    ];
    return el("section", {}, parts);
  }

  function tiles(title, hint, items) {
    if (!items.length) return null;
    return el("section", {}, el("h3", {}, title), hint ? el("p", { class: "hint" }, hint) : null, el("ul", { class: "tiles" }, items));
  }

  function mistakes(data, differences) {
    if (!data) return null;
    const counts = `${counted(data.right, "sample is", "samples are")} predicted right, ${counted(data.wrong, "sample", "samples")} wrong`;
    if (!data.used.length) return el("section", {}, el("h3", {}, "Mistakes"), el("p", { class: "hint" }, `${counts}; no concept is used more in these beyond chance.`));
    return tiles("Mistakes", `${counts}; these concepts are used more where the prediction is wrong.`, differences(data.used));
  }

  async function prototypes(entries) {
    const parts = await Promise.all(
      entries.map(async ({ weight, n, nearest }) => {
        const items = await Promise.all(nearest.map((sample) => sampleTile(sample)));
        return [el("p", { class: "hint" }, `${percent(weight)} of the class, ${counted(n, "sample", "samples")}; those nearest to it:`), el("ul", { class: "pictures" }, items)];
      }),
    );
    return parts.length ? el("section", {}, el("h3", {}, parts.length === 1 ? "Prototype" : "Prototypes"), parts.flat()) : null;
  }

  async function outliers(entries) {
    const items = await Promise.all(entries.map(([sample, percentile]) => sampleTile(sample, `${percentile.toFixed(0)}\u00a0%`)));
    if (!items.length) return null;
    return el("section", {}, el("h3", {}, "Most unusual samples"), el("p", { class: "hint" }, "With how many percent of the class are more ordinary."), el("ul", { class: "pictures" }, items));
  }

  /** Two classes side by side: a menu of other classes, and for each layer the concepts that distinguish the two. */
  function comparison(cls, other, tables, layers) {
    const others = [...new Set(tables.flatMap(({ compared }) => (compared ?? []).map(([number]) => number)))];
    if (!others.length) return null;
    const option = (number) => el("option", { value: number, selected: number === other ? "" : null }, className(number));
    const menu = el("select", { id: "other" }, el("option", { value: "" }, "Choose a class"), others.map(option));
    menu.addEventListener("change", () => {
      location.hash = menu.value === "" ? classAddress(cls) : `${classAddress(cls)}/${menu.value}`;
    });
    const results = other === null ? [] : about.layers.map(({ name }, number) => compared(name, number, layers[number], tables[number].compared ?? [], [cls, other]));
    return el(
      "section",
      { "aria-labelledby": "compare" },
      el("h2", { id: "compare" }, other === null ? "Compare with another class" : ["Compared with ", el("a", { href: classAddress(other) }, bdi(className(other)))]),
      el("div", { class: "tools" }, el("label", { for: "other" }, "Another class, the most alike first", menu)),
      results.flat(),
    );
  }

  function compared(name, number, layer, pairs, [cls, other]) {
    const rows = pairs.find(([to]) => to === other)?.[1];
    const title = el("h3", {}, el("a", { href: layerAddress(number) }, bdi(name)));
    if (!rows) return [title, el("p", { class: "note" }, "In this layer other classes are more alike, and this report does not compare these two.")];
    const unclear = rows.some(([, , , q]) => q !== null && q < 0.05) ? null : el("p", { class: "note" }, "No concept differs beyond chance (q below 5 %).");
    const head = [
      el("td", {}),
      el("th", { scope: "col" }, "Concept"),
      ...[cls, other].map((one) => el("th", { scope: "col", class: "number" }, bdi(className(one)))),
      el("th", { scope: "col", class: "number" }, "q"),
      el("th", { scope: "col", class: "number wide" }, "g"),
    ];
    const body = rows.map(([concept, here, there, q, g]) => {
      const index = idsOf(number).indexOf(concept);
      const label = [String(concept), conceptName(number, concept) ? el("small", {}, " ", bdi(conceptName(number, concept))) : null];
      return el(
        "tr",
        {},
        el("td", { class: "picture" }, index < 0 ? null : cover(layer, index)),
        el("th", { scope: "row" }, index < 0 ? label : el("a", { href: conceptAddress(number, concept) }, label)),
        ...[here, there].map((mean) => el("td", { class: mean === Math.max(here, there) ? "number more-used" : "number" }, relevance(mean))),
        el("td", { class: "number" }, q !== null && q < 0.001 ? "< 0.001" : digits(q)),
        el("td", { class: "number wide" }, digits(g)),
      );
    });
    return [title, unclear, el("table", { class: "concepts compared" }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, body))];
  }

  page("class", {
    read: (parts) => {
      const [cls, other] = parts.map((part) => Number(part || NaN));
      const known = parts.length <= 2 && [cls, other ?? cls].every((one) => one in about.classes) && cls !== other;
      if (!known) return missing(`no class ${parts.join("/")}`);
      return parts.length === 2 ? { cls, other, anchor: "compare" } : { cls, other: null };
    },
    view: classView,
  });
})();
