// Filters of lists of concepts: by layer, by class, by relevance. Their state is kept in the address, behind "?", so that
// a filtered list can be sent to somebody, and the browser's way back leads to it.
"use strict";

crpKit.filters = (() => {
  const { about, counted, el, integer, keep, load } = crpKit;

  // Each field: its label; its value in the query of an address as text, "" for what is unknown; its element.
  const FIELDS = {
    text: {
      label: () => "Filter",
      read: (text) => text,
      element: (value) => el("input", { type: "search", value, placeholder: about.classes.length ? "Number or main class" : "Number", autocomplete: "off" }),
    },
    layer: {
      label: () => "Layer",
      read: (text) => (about.layers.some(({ name }) => name === text) ? text : ""),
      element: (value) => menu(value, [["", "All layers"], ...about.layers.map(({ name }) => [name, name])]),
    },
    class: {
      label: () => "Class",
      read: (text) => (/^\d+$/.test(text) && about.counts[text] > 0 ? text : ""),
      element: (value) => menu(value, [["", "Any class"], ...classes()]),
    },
    for: {
      label: () => "Which is",
      read: (text) => (text === "served" ? text : ""),
      element: (value) => menu(value, [["", "the main class"], ["served", "a class served"]]),
    },
    least: {
      label: () => (about.share ? "Relevance of at least, in %" : "Relevance of at least"),
      read: (text) => (Number(text) > 0 && Number.isFinite(Number(text)) ? text : ""),
      element: (value) => el("input", { type: "number", min: 0, step: "any", inputmode: "decimal", value, placeholder: "0" }),
    },
  };

  function menu(value, options) {
    const element = el("select", {}, options.map(([key, text]) => el("option", { value: key }, text)));
    element.value = value;
    return element;
  }

  /** Numbers and names of the classes that have samples, by name. */
  function classes() {
    const seen = about.classes.map((name, cls) => [String(cls), name]).filter(([cls]) => about.counts[cls] > 0);
    return seen.sort(([, a], [, b]) => a.localeCompare(b));
  }

  /** Fields above a list, with their values by name. `apply` shows what passes these, and returns how many concepts that
      are, of how many; it is called by `update`, at every change too. `base` is the address of the list. */
  function bar(names, query, { base, apply }) {
    const used = names.filter((name) => about.classes.length || (name !== "class" && name !== "for"));
    const values = Object.fromEntries(used.map((name) => [name, FIELDS[name].read(query.get(name) ?? "")]));
    const elements = new Map(used.map((name) => [name, FIELDS[name].element(values[name])]));
    const labels = new Map([...elements].map(([name, element]) => [name, el("label", {}, FIELDS[name].label(), element)]));
    const status = el("p", { class: "soft", role: "status", "aria-live": "polite" });
    const clear = el("button", { type: "button", class: "plain" }, "Clear");
    const update = () => {
      keep(base, values);
      const [some, all] = apply(values);
      status.textContent = some < all ? `${integer(some)} of ${counted(all, "concept", "concepts")}` : counted(all, "concept", "concepts");
      clear.hidden = used.every((name) => values[name] === "");
      labels.get("for")?.toggleAttribute("hidden", values.class === "");
    };
    const change = () => {
      for (const [name, element] of elements) values[name] = FIELDS[name].read(element.value);
      values.rows = "";
      update();
    };
    for (const element of elements.values()) element.addEventListener("input", change);
    clear.addEventListener("click", () => {
      for (const element of elements.values()) element.value = "";
      change();
      elements.values().next().value.focus();
    });
    return { element: el("div", { class: "tools" }, [...labels.values()], clear, status), values, update };
  }

  /** Whether a value of relevance is as large as is asked for, in magnitude. */
  function enough(value, { least }) {
    return !least || (value !== null && Math.abs(value) * (about.share ? 100 : 1) >= Number(least));
  }

  /** A layer's number and data, and the classes that each of its concepts serves: by row, a bit for each class in
      hexadecimal digits. */
  async function layerData(number) {
    return { number, data: await load(`layer-${number}`), served: about.classes.length ? await load(`served-${number}`) : [] };
  }

  /** Whether a row of a layer's table passes. */
  function passes({ number, data: { table }, served }, index, values) {
    if (values.layer && about.layers[number].name !== values.layer) return false;
    if (!enough(table.relevance[index], values)) return false;
    if (!values.class) return true;
    const cls = Number(values.class);
    if (values.for !== "served") return table.cls[index] === cls;
    return Boolean((parseInt(served[index][cls >> 2], 16) >> (3 - (cls & 3))) & 1);
  }

  /** Filters of tiles on a page with a section for each layer. `listed` has the element of each tile, its layer's number,
      its concept, and the relevance that it shows; sections that have no tile left are hidden. */
  function ofTiles(sections, listed, query, base) {
    const remain = (section) => [...section.querySelectorAll(".tiles > li")].some((tile) => !tile.hidden);
    const distinct = (tiles) => new Set(tiles.map(({ number, concept }) => `${number}/${concept}`)).size;
    const apply = (values) => {
      for (const { element, value } of listed) element.hidden = !enough(value, values);
      sections.forEach((section, number) => {
        for (const group of section.querySelectorAll("section:has(> .tiles)")) group.hidden = !remain(group);
        const elsewhere = values.layer && about.layers[number].name !== values.layer;
        section.hidden = Boolean(elsewhere || (values.least && !remain(section)));
      });
      const passing = listed.filter(({ element, number }) => !element.hidden && !sections[number].hidden);
      return [distinct(passing), distinct(listed)];
    };
    const list = bar(["layer", "least"], query, { base, apply });
    list.update();
    return list.element;
  }

  return { bar, layerData, ofTiles, passes };
})();
