// Page of a class: the concepts that serve it most, by layer.
"use strict";

(() => {
  const { about, bdi, className, counted, el, heading, layerAddress, load, missing, page, relevance, tile } = crpKit;

  async function classView({ cls }) {
    const tables = (await load(`classes-${Math.floor(cls / about.classesPerFile)}`))[cls % about.classesPerFile];
    const layers = await Promise.all(about.layers.map((_, number) => load(`layer-${number}`)));
    const seen = about.counts[cls];
    const sections = about.layers.map(({ name }, number) => {
      const tiles = tables[number].map(([concept, mean, std]) => tile(number, layers[number], concept, null, relevance(mean), `±\u00a0${relevance(std)}`));
      return [el("h2", {}, el("a", { href: layerAddress(number) }, bdi(name))), el("ul", { class: "tiles" }, tiles)];
    });
    return {
      title: className(cls),
      parts: [
        heading(bdi(className(cls))),
        el("p", { class: "lead" }, seen ? `Class ${cls}; relevance started from it in ${counted(seen, "sample", "samples")}.` : `Class ${cls}.`),
        seen ? el("p", { class: "hint" }, "The concepts with the highest mean relevance for this class, by layer, with their standard deviation over its samples.") : null,
        ...(seen ? sections.flat() : [el("p", { class: "note" }, "The atlas has no sample of this class, so that nothing is known of its concepts.")]),
      ],
    };
  }

  page("class", {
    read: (parts) => {
      const cls = parts.length === 1 ? Number(parts[0] || NaN) : NaN;
      return cls in about.classes ? { cls } : missing(`no class ${parts.join("/")}`);
    },
    view: classView,
  });
})();
