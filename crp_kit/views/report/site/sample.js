// Page of a sample: picture, heatmap, predictions, attributes, and its strongest concepts by layer.
"use strict";

(() => {
  const {
    about, bdi, cell, className, classAddress, el, enlargeable, filters, heading, layerAddress, load, missing, outlineWords, page,
    percent, relevance, sampleAddress, sampleData, scale, tile,
  } = crpKit;

  async function sampleView({ sample, query }) {
    const data = await sampleData(sample);
    const layers = await Promise.all(about.layers.map((_, number) => load(`layer-${number}`)));
    const alts = [data.name, `Heatmap of ${about.target ?? className(data.start)} in ${data.name}`];
    const pictures = data.cells.map((number, index) => (number < 0 ? null : cell(data.sheet, number, about.cell, alts[index])));
    const where = about.look.style === "masked" ? "the same, dark where little of the relevance" : "where in it the relevance";
    const hint = data.cells[1] < 0 ? null : el("p", { class: "hint" }, `The sample, and ${where} of ${about.target ?? "its class"} comes from.${outlineWords()}`);
    const listed = [];
    const sections = about.layers.map((layer, number) => section([layer.name, number], data.layers[number], layers[number], listed));
    return {
      title: data.name,
      parts: [
        heading(bdi(data.name)),
        el("p", { class: "lead" }, ...classes(data)),
        el("div", { class: "sample" }, el("div", {}, enlargeable(pictures, data.name), hint, hint ? scale() : null), facts(data, sample)),
        listed.length ? filters.ofTiles(sections, listed, query, sampleAddress(sample)) : null,
        ...sections,
      ],
    };
  }

  const link = (cls) => el("a", { href: classAddress(cls) }, bdi(className(cls)));

  function classes({ start, predictions }) {
    if (about.target) return ["Relevance started from ", bdi(about.target), "."];
    const predicted = predictions.length ? predictions[0][0] : -1;
    if (start < 0) return predicted < 0 ? ["No class is known."] : ["Predicted as ", link(predicted), "."];
    if (predicted < 0) return ["Relevance started from ", link(start), "."];
    if (start === predicted) return ["Relevance started from ", link(start), ", which is also what the model predicts."];
    return ["Relevance started from ", link(start), "; the model predicts ", link(predicted), "."];
  }

  function facts({ predictions, attributes }, sample) {
    const guesses = predictions.filter(([, probability]) => probability !== null).map(([cls, probability]) => el("tr", {}, el("th", { scope: "row" }, link(cls)), el("td", { class: "number" }, percent(probability))));
    const rows = attributes.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, bdi(name)), el("td", {}, bdi(value))));
    return el(
      "div",
      {},
      guesses.length ? [el("h2", {}, "Most probable classes"), el("table", { class: "facts" }, el("tbody", {}, guesses))] : [],
      el("h2", {}, "What is known of it"),
      el("table", { class: "facts" }, el("tbody", {}, el("tr", {}, el("th", { scope: "row" }, "Number in the dataset"), el("td", {}, String(sample))), rows)),
    );
  }

  /** The strongest concepts of a layer in the sample, whose tiles are noted in `listed`. */
  function section([name, number], { concepts, percentile }, layer, listed) {
    const unusual = percentile === null ? null : el("p", { class: "hint" }, `More unusual than ${percentile.toFixed(0)}\u00a0% of the ${about.target ? "other samples" : "rightly predicted samples of its class"} in this layer.`);
    const tiles = concepts.map(([concept, value]) => {
      const element = tile(number, layer, concept, null, relevance(value));
      listed.push({ element, number, concept, value });
      return element;
    });
    const none = el("p", { class: "note" }, "The atlas does not hold the scores of every sample of this layer.");
    return el("section", {}, el("h2", {}, el("a", { href: layerAddress(number) }, bdi(name))), unusual, tiles.length ? el("ul", { class: "tiles" }, tiles) : none);
  }

  page("sample", {
    read: (parts) => {
      const sample = parts.length === 1 && /^\d+$/.test(parts[0]) ? Number(parts[0]) : NaN;
      return about.shown.includes(sample) ? { sample } : missing(`no page of a sample ${parts.join("/")}`);
    },
    view: sampleView,
  });
})();
