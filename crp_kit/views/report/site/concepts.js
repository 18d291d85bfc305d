// The concepts of all layers on the overview, with filters.
"use strict";

(() => {
  const { about, article, bdi, className, el, filters, relevance, tile } = crpKit;

  const TILES = 24; // that are shown at first

  article("overview", async (query) => {
    const layers = await Promise.all(about.layers.map((_, number) => filters.layerData(number)));
    const rows = layers.flatMap((layer) => layer.data.table.concept.map((_, index) => ({ ...layer, index })));
    const magnitude = ({ data, index }) => Math.abs(data.table.relevance[index] ?? 0);
    rows.sort((a, b) => magnitude(b) - magnitude(a) || a.number - b.number || a.index - b.index);
    const tiles = el("ul", { class: "tiles" });
    const more = el("div", { class: "more" });

    const apply = (values) => {
      const fitting = rows.filter((row) => filters.passes(row, row.index, values));
      const count = Number(values.rows) || TILES;
      tiles.replaceChildren(...fitting.slice(0, count).map(conceptTile));
      const left = fitting.length - count;
      const show = () => {
        values.rows = String(2 * count);
        list.update();
        tiles.children[count].querySelector("a").focus();
      };
      const button = el("button", { type: "button", on: { click: show } }, `Show ${Math.min(count, left)} more`);
      more.replaceChildren(...(left > 0 ? [button] : []), ...(fitting.length ? [] : [el("p", { class: "note" }, "No concept fits.")]));
      return [fitting.length, rows.length];
    };
    const list = filters.bar(["layer", "class", "for", "least"], query, { base: "#concepts", apply });
    list.values.rows = query.get("rows") ?? "";
    list.update();
    document.getElementById("concept-list").replaceChildren(list.element, tiles, more);
  });

  function conceptTile({ number, data, index }) {
    const { concept, relevance: means, cls } = data.table;
    const notes = [relevance(means[index])];
    if (cls[index] >= 0) notes.push(bdi(className(cls[index])));
    return tile(number, data, concept[index], about.layers[number].name, ...notes);
  }
})();
