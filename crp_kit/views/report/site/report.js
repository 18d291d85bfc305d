// A report of crp-kit, without a server: data comes as scripts that call crpKit.put, because a page from disk may load
// scripts but fetch nothing. Texts from the data only ever become text nodes and attributes, never markup.
"use strict";

const crpKit = (() => {
  const ROWS = 100;
  const COVERS = 256; // on one sheet, as crp_kit.views.report.writer has it
  const FOUND = 30;
  const arrived = new Map(); // data by name
  const waiting = new Map(); // promises by name, with how to keep them
  const tables = new Map(); // how each layer's table was left
  const byId = (id) => document.getElementById(id);
  let about = null;
  let current = { kind: "overview" };
  let turn = 0;

  // ---- Data

  function put(name, data) {
    arrived.set(name, data);
    waiting.get(name)?.keep(data);
    if (name === "report") start(data);
  }

  function load(name) {
    if (arrived.has(name)) return Promise.resolve(arrived.get(name));
    if (!waiting.has(name)) {
      const entry = {};
      entry.promise = new Promise((keep, fail) => {
        entry.keep = keep;
        const script = document.createElement("script");
        script.src = `data/${name}.js`;
        script.onerror = () => {
          waiting.delete(name);
          fail(new Error(`data/${name}.js cannot be read; the report's folder is not complete`));
        };
        script.onload = () => script.remove();
        document.head.append(script);
      });
      waiting.set(name, entry);
    }
    return waiting.get(name).promise;
  }

  // ---- Elements

  function el(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
      else if (name === "style") for (const [key, one] of Object.entries(value)) made.style.setProperty(key, one);
      else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
    }
    made.append(...children.flat().filter((one) => one !== null && one !== undefined));
    return made;
  }

  const bdi = (text) => el("bdi", {}, text); // a name in any script keeps to itself

  /** One cell of a sheet of pictures: the whole sheet behind a window of the cell's size. */
  function cell([file, columns, rows], number, { size, gutter }, alt) {
    const pitch = size + 2 * gutter;
    const part = (pixels) => `${(100 * pixels) / size}%`;
    const place = [number % columns, Math.floor(number / columns)].map((one) => part(-(one * pitch + gutter)));
    const style = { width: part(columns * pitch), height: part(rows * pitch), left: place[0], top: place[1] };
    return el("span", { class: "cell" }, el("img", { src: `pictures/${file}`, alt, loading: "lazy", style }));
  }

  /** The small picture of a concept, by its place in its layer; decoration beside the concept's number. */
  function cover(layer, place) {
    const number = layer.covers[place];
    if (number < 0) return el("span", { class: "cell" });
    return cell(layer.sheets[Math.floor(number / COVERS)], number % COVERS, about.cover, "");
  }

  function bar(value, largest, signed) {
    const share = largest > 0 ? Math.min(1, Math.abs(value ?? 0) / largest) * (signed ? 50 : 100) : 0;
    const left = signed ? (value < 0 ? 50 - share : 50) : 0;
    const fill = el("i", { class: value < 0 ? "against" : null, style: { width: `${share}%`, left: `${left}%` } });
    return el("span", { class: signed ? "bar signed" : "bar", "aria-hidden": "true" }, fill);
  }

  // ---- Words

  const digits = (value) => (value === null ? "–" : String(Number(value.toPrecision(3))).replace("-", "−"));
  const whole = (value) => value.toLocaleString("en");
  const percent = (value) => {
    const shown = 100 * value;
    if (shown !== 0 && Math.abs(shown) < 0.005) return `${shown < 0 ? "−" : ""}<0.01\u00a0%`;
    return `${shown.toFixed(Math.abs(shown) < 9.995 ? 2 : 1).replace("-", "−")}\u00a0%`;
  };
  const relevance = (value) => (value === null || !about.share ? digits(value) : percent(value));
  const named = (cls) => (cls < 0 ? "none" : about.classes[cls]);
  const counted = (count, word, words) => `${whole(count)} ${count === 1 ? word : words}`;

  // ---- Addresses

  const layerAddress = (number) => `#/${encodeURIComponent(about.layers[number].name)}`;
  const conceptAddress = (number, concept) => `${layerAddress(number)}/${concept}`;
  const classAddress = (cls) => `#class/${cls}`;
  const idsOf = (number) => about.layers[number].ids ?? Array.from({ length: about.layers[number].size }, (_, i) => i);

  function decoded(text) {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  }

  /** What an address means; what the report does not have is said, not guessed. */
  function route(hash) {
    const parts = hash.slice(1).split("/");
    if (parts[0] === "class" && parts.length === 2) {
      const cls = Number(parts[1] || NaN);
      return cls in about.classes ? { kind: "class", cls } : missing(`no class ${parts[1]}`);
    }
    if (!hash.startsWith("#/") || parts.length < 2 || parts[1] === "") return { kind: "overview", anchor: parts[0] };
    const name = decoded(parts[1]);
    const number = about.layers.findIndex((one) => one.name === name);
    if (number < 0) return missing(`no layer ${name}`);
    if (parts.length < 3 || parts[2] === "") return { kind: "layer", number };
    const place = /^\d+$/.test(parts[2]) ? idsOf(number).indexOf(Number(parts[2])) : -1;
    if (place < 0) return missing(`no concept ${decoded(parts[2])} of ${name}`);
    return { kind: "concept", number, place, concept: Number(parts[2]) };
  }

  const missing = (what) => ({ kind: "missing", what });

  // ---- A layer

  const KINDS = { ChannelConcept: "a channel", NeuronConcept: "a neuron", TokenConcept: "a token", HeadConcept: "a head" };
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

  async function layerView({ number }) {
    const layer = await load(`layer-${number}`);
    const info = about.layers[number];
    const state = tables.get(number) ?? { by: "relevance", up: false, filter: "", shown: ROWS };
    tables.set(number, state);
    const largest = Math.max(...layer.table.relevance.map((one) => Math.abs(one ?? 0)), 0);
    const signed = layer.table.relevance.some((one) => one < 0);
    const body = el("tbody");
    const count = el("p", { class: "soft", role: "status" });
    const more = el("div", { class: "more" });
    const heads = new Map();

    const row = (place) => {
      const { table } = layer;
      const concept = table.concept[place];
      const cls = table.cls[place];
      const name = el("a", { href: conceptAddress(number, concept) }, String(concept));
      const cells = {
        picture: el("td", { class: "picture" }, cover(layer, place)),
        concept: el("th", { scope: "row" }, name),
        relevance: el("td", { class: "number" }, relevance(table.relevance[place])),
        bar: el("td", { class: "wide" }, bar(table.relevance[place], largest, signed)),
        spread: el("td", { class: "number wide" }, relevance(table.spread[place])),
        activation: el("td", { class: "number wide" }, digits(table.activation[place])),
        cls: el("td", {}, cls < 0 ? "–" : el("a", { href: classAddress(cls) }, bdi(named(cls)))),
        served: el("td", { class: "number wide" }, whole(table.served[place])),
      };
      return el("tr", {}, COLUMNS.map(({ key }) => cells[key]));
    };

    const update = () => {
      const places = ordered(layer.table, state);
      body.replaceChildren(...places.slice(0, state.shown).map(row));
      const all = layer.table.concept.length;
      count.textContent =
        places.length < all ? `${whole(places.length)} of ${counted(all, "concept", "concepts")}` : counted(all, "concept", "concepts");
      const left = places.length - state.shown;
      const show = (rows) => () => {
        state.shown += rows;
        update();
      };
      more.replaceChildren();
      if (left > 0) more.append(el("button", { type: "button", on: { click: show(ROWS) } }, `Show ${Math.min(ROWS, left)} more`));
      if (left > ROWS) more.append(el("button", { type: "button", on: { click: show(left) } }, `Show all ${whole(places.length)}`));
      if (!places.length) more.append(el("p", { class: "note" }, "No concept has this number, and none this main class."));
      for (const [key, head] of heads) {
        if (key === state.by) head.setAttribute("aria-sort", state.up ? "ascending" : "descending");
        else head.removeAttribute("aria-sort");
      }
    };

    const head = COLUMNS.map((column) => {
      const { key, name, tip } = column;
      const kind = [column.number ? "number" : "", column.wide ? "wide" : ""].join(" ").trim();
      if (!name) return el("td", { class: kind });
      const sort = () => {
        state.up = state.by === key ? !state.up : Boolean(column.up);
        state.by = key;
        update();
      };
      const made = el("th", { scope: "col", class: kind }, el("button", { type: "button", title: tip, on: { click: sort } }, name));
      heads.set(key, made);
      return made;
    });
    const filter = el("input", { type: "search", value: state.filter, placeholder: "Number or main class", autocomplete: "off" });
    filter.addEventListener("input", () => {
      Object.assign(state, { filter: filter.value, shown: ROWS });
      update();
    });
    update();
    return {
      title: info.name,
      parts: [
        heading(bdi(info.name)),
        el("p", { class: "lead" }, `Output ${info.shape.join(" × ")}; a concept is ${KINDS[info.concept.replace(/\(.*/, "")] ?? info.concept}.`),
        el("p", { class: "hint" }, `${tableHint()} `, el("a", { href: "#reading" }, "What the columns mean")),
        info.remark ? el("p", { class: "note" }, info.remark) : null,
        el("div", { class: "tools" }, el("label", {}, "Filter", filter), count),
        el("table", { class: "concepts" }, el("thead", {}, el("tr", {}, head)), body),
        more,
      ],
    };
  }

  function tableHint() {
    const share = about.share ? "a concept's share of all relevance in this layer, the mean over all samples" : "the mean over all samples";
    const seen = about.field ? "what the concept's strongest neuron sees in the most relevant sample" : "the most relevant sample";
    return `Relevance is ${share}. The picture is ${seen}.`;
  }

  /** Places of the rows that pass the filter, in order; rows without a value come last. */
  function ordered(table, { by, up, filter }) {
    const wanted = filter.trim().toLocaleLowerCase();
    const fits = (place) =>
      wanted === "" || String(table.concept[place]) === wanted || named(table.cls[place]).toLocaleLowerCase().includes(wanted);
    const key = by === "cls" ? (place) => named(table.cls[place]) : (place) => table[by][place];
    const compare = (a, b) => {
      const [left, right] = [key(a), key(b)];
      if (left === null || right === null) return (left === null) - (right === null);
      const order = typeof left === "string" ? left.localeCompare(right) : left - right;
      return (up ? order : -order) || a - b;
    };
    return table.concept.map((_, place) => place).filter(fits).sort(compare);
  }

  // ---- A concept

  async function conceptView({ number, place, concept }) {
    const layer = await load(`layer-${number}`);
    const chunk = await load(`layer-${number}-${Math.floor(place / layer.per)}`);
    const page = chunk.concepts[place % layer.per];
    const { name, remark } = about.layers[number];
    const linked = new Set([...page.up, ...page.down].map(([target]) => target).filter((target) => target >= 0));
    const layers = new Map([[number, layer]]);
    for (const target of linked) layers.set(target, await load(`layer-${target}`));
    const said = `concept ${concept}`;
    return {
      title: `${name}, ${said}`,
      parts: [
        trail(number, place),
        heading(bdi(name), `, ${said}`),
        moments(page.moments),
        el("h2", {}, "RelMax: where it is most relevant"),
        el("p", { class: "hint" }, `The samples in which it contributes most to the model's output. The number is its ${about.share ? "share of all relevance in this layer" : "relevance"} there.`),
        legend(),
        references(page.references.relevance, chunk.sheet, said, "relevance"),
        el("h2", {}, "ActMax: where it is most active"),
        el("p", { class: "hint" }, "The samples in which it responds most, whether the model used it or not. The number is its activation."),
        references(page.references.activation, chunk.sheet, said, "activation"),
        remark ? el("p", { class: "note" }, remark) : null,
        el("div", { class: "columns" }, histogram(page.histogram), el("div", {}, similar(page.similar, number, layer))),
        el("h2", {}, "Links"),
        el("p", { class: about.linked ? "hint" : "note" }, about.links),
        about.linked ? el("div", { class: "columns" }, links("Up, towards the output", page.up, layers), links("Down, towards the image", page.down, layers)) : null,
      ],
    };
  }

  function trail(number, place) {
    const ids = idsOf(number);
    const step = (by, text, key) =>
      place + by in ids
        ? el("a", { href: conceptAddress(number, ids[place + by]), rel: by < 0 ? "prev" : "next", "aria-keyshortcuts": key }, text)
        : el("span", { class: "soft" }, text);
    return el(
      "nav",
      { class: "trail", "aria-label": "Concepts of this layer" },
      el("a", { href: layerAddress(number) }, "All concepts of ", bdi(about.layers[number].name)),
      el("span", {}, step(-1, "← previous", "ArrowLeft"), step(1, "next →", "ArrowRight")),
    );
  }

  function moments({ relevance: rel, activation: act }) {
    const one = (name, [mean, std, low, high], words) =>
      el("div", {}, el("dt", {}, name), el("dd", {}, words(mean), el("small", {}, `± ${words(std)} over all samples, from ${words(low)} to ${words(high)}`)));
    return el("dl", { class: "moments" }, one(about.share ? "Mean relevance (share of its layer)" : "Mean relevance", rel, relevance), one("Mean activation", act, digits));
  }

  function legend() {
    const ends = ["against (−)", "0", "for (+)"].map((text) => el("span", {}, text));
    return el(
      "div",
      { class: "legend" },
      el("p", { class: "hint" }, `Each sample: the image; where in it this concept's relevance comes from, starting from ${about.start}${about.field ? "; what its strongest neuron sees" : ""}.`),
      el("span", { class: "scale" }, el("span", { class: "ramp" }), el("span", { class: "ends" }, ends)),
    );
  }

  function references(entries, sheet, said, mode) {
    if (!entries.length) return el("p", { class: "note" }, "No sample is in this ranking.");
    const figures = entries.map(([name, cls, score, cells]) => {
      const what = cls < 0 ? name : `${name} (${named(cls)})`;
      const alts = [what, `Heatmap of ${said} in ${what}`, `What the strongest neuron of ${said} sees in ${what}`];
      const pictures = cells.map((one, kind) => (one < 0 ? null : cell(sheet, one, about.cell, alts[kind])));
      const words = mode === "relevance" ? relevance(score) : digits(score);
      const link = cls < 0 ? null : el("a", { href: classAddress(cls) }, bdi(named(cls)));
      const caption = el("figcaption", {}, el("strong", { title: `${mode} in this sample` }, words), link, link ? ", " : null, bdi(name));
      return el("li", {}, el("figure", {}, pictures, caption));
    });
    return el("ol", { class: "samples" }, figures);
  }

  function histogram({ cls, mean, std, count, rest, below }) {
    const largest = Math.max(...mean.map((one) => Math.abs(one ?? 0)), 0);
    const signed = mean.some((one) => one < 0);
    const rows = cls.map((one, place) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, el("a", { href: classAddress(one) }, bdi(named(one)))),
        el("td", {}, bar(mean[place], largest, signed)),
        el("td", { class: "number", title: `± ${relevance(std[place])}, ${counted(count[place], "sample", "samples")}` }, relevance(mean[place])),
      ),
    );
    const others = rest ? el("p", { class: "hint" }, `${counted(rest, "other class", "other classes")}: at most ${relevance(below)} in magnitude.`) : null;
    const empty = rows.length ? null : el("p", { class: "note" }, "No class of the samples is known.");
    const hint = el("p", { class: "hint" }, "Over the samples in which relevance starts from the class: red bars for it, blue against it.");
    return el("section", {}, el("h2", {}, "Mean relevance by class"), rows.length ? hint : null, el("table", { class: "bars" }, el("tbody", {}, rows)), others, empty);
  }

  /** A concept to go to: its cover, number, layer unless that is plain, and what is said of it. */
  function tile(target, layer, concept, name, ...notes) {
    const place = layer ? idsOf(target).indexOf(concept) : -1;
    const inside = [
      place < 0 ? el("span", { class: "cell" }) : cover(layer, place),
      el("span", {}, el("strong", {}, String(concept)), name ? el("small", {}, bdi(name)) : null, notes.map((note) => el("small", {}, note))),
    ];
    return el("li", {}, place < 0 ? el("div", {}, inside) : el("a", { href: conceptAddress(target, concept) }, inside));
  }

  function similar(entries, number, layer) {
    const tiles = entries.map(([concept, value]) => tile(number, layer, concept, null, digits(value)));
    return [
      el("h2", {}, "Similar concepts"),
      el("p", { class: "hint" }, `Cosine similarity of ${about.similar}, within this layer; 1 at most.`),
      tiles.length ? el("ul", { class: "tiles" }, tiles) : el("p", { class: "note" }, "No concept of this layer is similar."),
    ];
  }

  function links(title, entries, layers) {
    const tiles = entries.map(([target, name, concept, weight]) => tile(target, layers.get(target), concept, name, about.linkShares ? percent(weight) : digits(weight)));
    return el("section", {}, el("h3", {}, title), tiles.length ? el("ul", { class: "tiles" }, tiles) : el("p", { class: "hint" }, "None."));
  }

  // ---- A class

  async function classView({ cls }) {
    const page = (await load(`classes-${Math.floor(cls / about.classesPerFile)}`))[cls % about.classesPerFile];
    const layers = await Promise.all(about.layers.map((_, number) => load(`layer-${number}`)));
    const seen = about.counts[cls];
    const sections = about.layers.map(({ name }, number) => {
      const tiles = page[number].map(([concept, mean, std]) => tile(number, layers[number], concept, null, relevance(mean), `±\u00a0${relevance(std)}`));
      return [el("h2", {}, el("a", { href: layerAddress(number) }, bdi(name))), el("ul", { class: "tiles" }, tiles)];
    });
    return {
      title: named(cls),
      parts: [
        heading(bdi(named(cls))),
        el("p", { class: "lead" }, seen ? `Class ${cls}; relevance started from it in ${counted(seen, "sample", "samples")}.` : `Class ${cls}.`),
        seen ? el("p", { class: "hint" }, "The concepts with the highest mean relevance for this class, by layer, with their standard deviation over its samples.") : null,
        ...(seen ? sections.flat() : [el("p", { class: "note" }, "The atlas has no sample of this class, so that nothing is known of its concepts.")]),
      ],
    };
  }

  // ---- Showing

  const heading = (...inside) => el("h1", { tabindex: "-1" }, ...inside);

  async function missingView({ what }) {
    const parts = [heading("Nothing here"), el("p", { class: "note" }, `This report has ${what}.`), el("p", {}, el("a", { href: "#" }, "Overview"))];
    return { title: "Nothing here", parts };
  }

  const VIEWS = { layer: layerView, concept: conceptView, class: classView, missing: missingView };

  async function show(first) {
    const wanted = route(location.hash);
    const mine = ++turn;
    const view = byId("view");
    let made = null;
    try {
      made = wanted.kind in VIEWS ? await VIEWS[wanted.kind](wanted) : null;
    } catch (error) {
      made = { title: "Cannot be shown", parts: [heading("Cannot be shown"), el("p", { class: "note", role: "alert" }, error.message)] };
    }
    if (mine !== turn) return; // somebody went on meanwhile
    current = wanted;
    view.replaceChildren(...(made?.parts ?? []).flat().filter(Boolean));
    view.hidden = made === null;
    byId("overview").hidden = made !== null;
    document.title = made === null ? about.title : `${made.title} – ${about.title}`;
    document.documentElement.dataset.view = wanted.kind;
    for (const link of document.querySelectorAll("nav.layers a")) {
      if (Number(link.dataset.layer) === wanted.number) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    const anchor = wanted.anchor ? byId(wanted.anchor) : null;
    if (anchor) {
      anchor.tabIndex = -1;
      anchor.scrollIntoView();
      anchor.focus({ preventScroll: true });
    }
    if (!anchor && !first) {
      window.scrollTo(0, 0);
      (view.querySelector("h1") ?? byId("main")).focus({ preventScroll: true });
    }
  }

  // ---- Search

  function matches(text) {
    const words = text.trim().toLocaleLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return [];
    const has = (name, some) => some.every((word) => name.toLocaleLowerCase().includes(word));
    const found = [];
    about.layers.forEach(({ name }, number) => {
      if (has(name, words)) found.push({ to: layerAddress(number), text: name, kind: "layer" });
    });
    const last = words.at(-1);
    if (/^\d+$/.test(last)) {
      about.layers.forEach(({ name }, number) => {
        const fits = has(name, words.slice(0, -1)) && idsOf(number).includes(Number(last));
        if (fits) found.push({ to: conceptAddress(number, Number(last)), text: `${name}, concept ${Number(last)}`, kind: "concept" });
      });
    }
    about.classes.forEach((name, cls) => {
      if (found.length < FOUND && has(name, words)) found.push({ to: classAddress(cls), text: name, kind: "class" });
    });
    return found.slice(0, FOUND);
  }

  function startSearch() {
    const input = byId("search");
    const list = byId("found");
    let active = -1;
    const options = () => [...list.querySelectorAll("[data-to]")];
    const close = () => {
      list.hidden = true;
      input.setAttribute("aria-expanded", "false");
      input.removeAttribute("aria-activedescendant");
    };
    const go = (to) => {
      input.value = "";
      close();
      input.blur();
      location.hash = to;
    };
    const mark = (place) => {
      active = place;
      options().forEach((one, number) => one.setAttribute("aria-selected", String(number === active)));
      const chosen = options()[active];
      if (!chosen) return;
      input.setAttribute("aria-activedescendant", chosen.id);
      chosen.scrollIntoView({ block: "nearest" });
    };
    input.addEventListener("input", () => {
      const found = matches(input.value);
      const items = found.map(({ to, text, kind }, number) =>
        el("li", { id: `found-${number}`, role: "option", "data-to": to, "aria-selected": "false" }, bdi(text), el("small", {}, kind)),
      );
      const nothing = el("li", { role: "option", "aria-disabled": "true" }, "Nothing found: no layer, concept number or class is called so.");
      list.replaceChildren(...(items.length ? items : [nothing]));
      list.hidden = input.value.trim() === "";
      input.setAttribute("aria-expanded", String(!list.hidden));
      mark(items.length ? 0 : -1);
    });
    input.addEventListener("keydown", (event) => {
      const count = options().length;
      if (event.key === "Escape") {
        input.value = "";
        close();
        input.blur();
      } else if (event.key === "Enter" && options()[active]) go(options()[active].dataset.to);
      else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && count) {
        mark((active + (event.key === "ArrowDown" ? 1 : count - 1)) % count);
      } else return;
      event.preventDefault();
    });
    list.addEventListener("mousedown", (event) => event.preventDefault()); // or the input loses its focus first
    list.addEventListener("click", (event) => {
      const option = event.target.closest("[data-to]");
      if (option) go(option.dataset.to);
    });
    input.addEventListener("blur", close);
  }

  // ---- Keys and light

  function onKey(event) {
    const typing = event.target.closest("input, select, textarea");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") byId("search").focus();
    else if (current.kind === "concept" && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      const link = document.querySelector(`.trail a[rel="${event.key === "ArrowLeft" ? "prev" : "next"}"]`);
      if (!link) return;
      location.hash = link.getAttribute("href");
    } else if (current.kind === "layer" && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      const rows = [...document.querySelectorAll(".concepts tbody th a")];
      const place = rows.indexOf(event.target.closest("tr")?.querySelector("th a"));
      if (place < 0) return;
      rows[place + (event.key === "ArrowDown" ? 1 : -1)]?.focus();
    } else return;
    event.preventDefault();
  }

  function startTheme() {
    const button = byId("theme");
    const themes = ["auto", "light", "dark"];
    const set = (theme) => {
      if (theme === "auto") delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = theme;
      button.lastChild.textContent = theme;
      button.setAttribute("aria-label", `Theme: ${theme}`);
    };
    const kept = (theme) => {
      try {
        // Some browsers keep nothing for pages from disk.
        if (theme) localStorage.setItem("crp-kit-theme", theme);
        return localStorage.getItem("crp-kit-theme");
      } catch {
        return null;
      }
    };
    let now = themes.includes(kept()) ? kept() : "auto";
    set(now);
    button.addEventListener("click", () => {
      now = themes[(themes.indexOf(now) + 1) % themes.length];
      kept(now);
      set(now);
    });
  }

  function start(data) {
    about = data;
    startTheme();
    startSearch();
    document.addEventListener("keydown", onKey);
    window.addEventListener("hashchange", () => show(false));
    byId("skip").addEventListener("click", (event) => {
      event.preventDefault();
      byId("main").focus();
    });
    show(true);
  }

  return { put };
})();
