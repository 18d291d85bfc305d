// Page of a concept: reference samples, statistics, similar concepts and links.
"use strict";

(() => {
  const {
    about, bar, bdi, cell, className, classAddress, conceptAddress, conceptName, counted, digits, el, enlargeable,
    heading, idsOf, layerAddress, layerNumber, load, missing, outlineWords, page, percent, relevance, sampleAddress, scale, tile,
  } = crpKit;

  async function conceptView({ number, index, concept }) {
    const layer = await load(`layer-${number}`);
    const chunk = await load(`layer-${number}-${Math.floor(index / layer.per)}`);
    const data = chunk.concepts[index % layer.per];
    const { name, remark } = about.layers[number];
    const linked = new Set([...data.up, ...data.down].map(([target]) => target).filter((target) => target >= 0));
    const layers = new Map([[number, layer]]);
    for (const target of linked) layers.set(target, await load(`layer-${target}`));
    const label = `concept ${concept}`;
    return {
      title: `${name}, ${label}`,
      parts: [
        trail(number, index),
        heading(bdi(name), `, ${label}`),
        conceptName(number, concept) ? el("p", { class: "lead" }, "Named ", bdi(conceptName(number, concept))) : null,
        moments(data.moments),
        el("h2", {}, "RelMax: where it is most relevant"),
        el("p", { class: "hint" }, `The samples in which it contributes most to the model's output. The number is its ${about.share ? "share of all relevance in this layer" : "relevance"} there.`),
        legend(),
        references(data.references.relevance, chunk.sheet, label, "relevance"),
        el("h2", {}, "ActMax: where it is most active"),
        el("p", { class: "hint" }, "The samples in which it responds most, whether the model used it or not. The number is its activation."),
        references(data.references.activation, chunk.sheet, label, "activation"),
        remark ? el("p", { class: "note" }, remark) : null,
        el("div", { class: "columns" }, histogram(data.histogram), el("div", {}, similar(data.similar, number, layer))),
        el("h2", {}, "Links"),
        el("p", { class: about.linked ? "hint" : "note" }, about.links),
        about.linked ? el("div", { class: "columns" }, links("Up, towards the output", data.up, layers), links("Down, towards the input", data.down, layers)) : null,
      ],
    };
  }

  /** Links to the layer, and to the concepts before and after this one. */
  function trail(number, index) {
    const ids = idsOf(number);
    const step = (by, text, key) =>
      index + by in ids
        ? el("a", { href: conceptAddress(number, ids[index + by]), rel: by < 0 ? "prev" : "next", "aria-keyshortcuts": key }, text)
        : el("span", { class: "soft" }, text);
    return el(
      "nav",
      { class: "trail", "aria-label": "Concepts of this layer" },
      el("a", { href: layerAddress(number) }, "All concepts of ", bdi(about.layers[number].name)),
      el("span", {}, step(-1, "← previous", "ArrowLeft"), step(1, "next →", "ArrowRight")),
    );
  }

  function moments({ relevance: relevances, activation: activations }) {
    const entry = (name, [mean, std, low, high], format) =>
      el("div", {}, el("dt", {}, name), el("dd", {}, format(mean), el("small", {}, `± ${format(std)} over all samples, from ${format(low)} to ${format(high)}`)));
    return el("dl", { class: "moments" }, entry(about.share ? "Mean relevance (share of its layer)" : "Mean relevance", relevances, relevance), entry("Mean activation", activations, digits));
  }

  function legend() {
    const where = about.look.style === "masked" ? "the same, dark where little of this concept's relevance comes from" : "where in it this concept's relevance comes from";
    return el(
      "div",
      { class: "legend" },
      el("p", { class: "hint" }, `Each sample: as it is; ${where}, starting from ${about.start}${about.field ? "; what its strongest neuron sees" : ""}.${outlineWords()}`),
      scale(),
    );
  }

  function references(entries, sheet, label, mode) {
    if (!entries.length) return el("p", { class: "note" }, "No sample is in this ranking.");
    const figures = entries.map(([name, cls, score, cells, number]) => {
      const sample = cls < 0 ? name : `${name} (${className(cls)})`;
      const alts = [sample, `Heatmap of ${label} in ${sample}`, `What the strongest neuron of ${label} sees in ${sample}`];
      const pictures = cells.map((place, position) => (place < 0 ? null : cell(sheet, place, about.cell, alts[position])));
      const value = mode === "relevance" ? relevance(score) : digits(score);
      const link = cls < 0 ? null : el("a", { href: classAddress(cls) }, bdi(className(cls)));
      const caption = el("figcaption", {}, el("strong", { title: `${mode} in this sample` }, value), link, link ? ", " : null, el("a", { href: sampleAddress(number) }, bdi(name)));
      return el("li", {}, el("figure", {}, enlargeable(pictures, sample), caption));
    });
    return el("ol", { class: "samples" }, figures);
  }

  function histogram({ cls, mean, std, count, rest, below }) {
    const largest = Math.max(...mean.map((value) => Math.abs(value ?? 0)), 0);
    const signed = mean.some((value) => value < 0);
    const rows = cls.map((number, index) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, el("a", { href: classAddress(number) }, bdi(className(number)))),
        el("td", {}, bar(mean[index], largest, signed)),
        el("td", { class: "number", title: `± ${relevance(std[index])}, ${counted(count[index], "sample", "samples")}` }, relevance(mean[index])),
      ),
    );
    const others = rest ? el("p", { class: "hint" }, `${counted(rest, "other class", "other classes")}: at most ${relevance(below)} in magnitude.`) : null;
    const empty = rows.length ? null : el("p", { class: "note" }, about.classes.length ? "No class of the samples is known." : "Relevance does not start from classes.");
    const hint = el("p", { class: "hint" }, "Over the samples in which relevance starts from the class: red bars for it, blue against it.");
    return el("section", {}, el("h2", {}, "Mean relevance by class"), rows.length ? hint : null, el("table", { class: "bars" }, el("tbody", {}, rows)), others, empty);
  }

  function similar(entries, number, layer) {
    const tiles = entries.map(([concept, value]) => tile(number, layer, concept, null, digits(value)));
    return [
      el("h2", {}, "Similar concepts"),
      el("p", { class: "hint" }, `${about.similar}, in this layer; 1 at most.`),
      tiles.length ? el("ul", { class: "tiles" }, tiles) : el("p", { class: "note" }, "No concept of this layer is similar."),
    ];
  }

  function links(title, entries, layers) {
    const tiles = entries.map(([target, name, concept, weight]) => tile(target, layers.get(target), concept, name, about.linkShares ? percent(weight) : digits(weight)));
    return el("section", {}, el("h3", {}, title), tiles.length ? el("ul", { class: "tiles" }, tiles) : el("p", { class: "hint" }, "None."));
  }

  page("concept", {
    read: ([name, text]) => {
      const number = layerNumber(name);
      if (number < 0) return missing(`no layer ${name}`);
      const index = /^\d+$/.test(text) ? idsOf(number).indexOf(Number(text)) : -1;
      return index < 0 ? missing(`no concept ${text} of ${name}`) : { number, index, concept: Number(text) };
    },
    view: conceptView,
  });
})();
