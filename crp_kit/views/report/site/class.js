// Page of a class: by layer, the concepts that serve it most, its markers, mistakes, prototypes and outliers.
"use strict";

(() => {
  const {
    about, bdi, className, counted, el, heading, layerAddress, load, missing, page, percent, relevance, sampleTile, tile,
  } = crpKit;

  async function classView({ cls }) {
    const tables = (await load(`classes-${Math.floor(cls / about.classesPerFile)}`))[cls % about.classesPerFile];
    const layers = await Promise.all(about.layers.map((_, number) => load(`layer-${number}`)));
    const seen = about.counts[cls];
    const sections = await Promise.all(about.layers.map(({ name }, number) => section(name, number, tables[number], layers[number], seen)));
    return {
      title: className(cls),
      parts: [
        heading(bdi(className(cls))),
        el("p", { class: "lead" }, seen ? `Class ${cls}; relevance started from it in ${counted(seen, "sample", "samples")}.` : `Class ${cls}.`),
        seen ? el("p", { class: "hint" }, "By layer: the concepts with the highest mean relevance, those that mark the class among the others, and how its samples differ. ", el("a", { href: "#reading" }, "What the words mean")) : null,
        ...(seen ? sections.flat() : [el("p", { class: "note" }, "The atlas has no sample of this class, so that nothing is known of its concepts.")]),
      ],
    };
  }

  async function section(name, number, data, layer, seen) {
    const spread = (std) => (seen === 1 ? "n = 1" : `±\u00a0${relevance(std)}`);
    const used = data.concepts.map(([concept, mean, std]) => tile(number, layer, concept, null, relevance(mean), spread(std)));
    return [
      el("h2", {}, el("a", { href: layerAddress(number) }, bdi(name))),
      tiles("Highest mean relevance", null, used),
      tiles("Markers", "More relevant for this class than for the others; the difference of the means.", differences(number, layer, data.markers ?? [])),
      mistakes(number, layer, data.mistakes),
      await prototypes(data.prototypes ?? []),
      await outliers(data.outliers ?? []),
    ];
  }

  const differences = (number, layer, entries) => entries.map(([concept, difference]) => tile(number, layer, concept, null, `+${relevance(difference)}`));

  function tiles(title, hint, items) {
    if (!items.length) return null;
    return el("section", {}, el("h3", {}, title), hint ? el("p", { class: "hint" }, hint) : null, el("ul", { class: "tiles" }, items));
  }

  function mistakes(number, layer, data) {
    if (!data) return null;
    const counts = `${counted(data.right, "sample is", "samples are")} predicted right, ${counted(data.wrong, "sample", "samples")} wrong`;
    if (!data.used.length) return el("section", {}, el("h3", {}, "Mistakes"), el("p", { class: "hint" }, `${counts}; no concept is used more in these beyond chance.`));
    return tiles("Mistakes", `${counts}; these concepts are used more where the prediction is wrong.`, differences(number, layer, data.used));
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

  page("class", {
    read: (parts) => {
      const cls = parts.length === 1 ? Number(parts[0] || NaN) : NaN;
      return cls in about.classes ? { cls } : missing(`no class ${parts.join("/")}`);
    },
    view: classView,
  });
})();
