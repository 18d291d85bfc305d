// Frame of a report: data, elements, addresses, search, keys and theme. Each script in the folder "pages" adds a page by
// crpKit.page. Data come as scripts that call crpKit.put, because a page from disk may load scripts but fetch nothing.
// Text of the data only ever becomes text nodes and attributes, never markup.
"use strict";

const crpKit = (() => {
  const COVERS = 256; // on one sheet, as in crp_kit/views/report/covers.py
  const MATCHES = 30; // that the search lists
  const loaded = new Map(); // data by name
  const pending = new Map(); // promises of data by name, with their resolve functions
  const pages = new Map(); // pages by name: {read, view}
  const articles = new Map(); // functions that fill in an article of index.html, by its id
  const about = {}; // what every page reads: the data "report"
  const byId = (id) => document.getElementById(id);
  let current = { page: "overview" };
  let request = 0; // number of the latest page that was asked for

  // ---- Data

  function put(name, data) {
    loaded.set(name, data);
    pending.get(name)?.resolve(data);
    if (name === "report") start(data);
  }

  /** Data by name, from data/NAME.js. */
  function load(name) {
    if (loaded.has(name)) return Promise.resolve(loaded.get(name));
    if (!pending.has(name)) {
      const entry = {};
      entry.promise = new Promise((resolve, reject) => {
        entry.resolve = resolve;
        const script = document.createElement("script");
        script.src = `data/${name}.js`;
        script.onerror = () => {
          pending.delete(name);
          reject(new Error(`data/${name}.js cannot be read; the report's folder is not complete`));
        };
        script.onload = () => script.remove();
        document.head.append(script);
      });
      pending.set(name, entry);
    }
    return pending.get(name).promise;
  }

  /** Add a page: `read` returns parameters from the parts of an address behind the name, or missing(…); `view` returns a
      promise of the title and the elements of the page with these parameters. */
  function page(name, { read, view }) {
    pages.set(name, { read, view });
  }

  /** Add to an article of index.html: `fill` is called with the query of its address whenever it is shown. */
  function article(id, fill) {
    articles.set(id, fill);
  }

  // ---- Elements

  function el(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
      else if (name === "style") for (const [property, setting] of Object.entries(value)) element.style.setProperty(property, setting);
      else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return element;
  }

  /** An element of a picture. */
  function drawn(tag, attributes, ...children) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  const bdi = (text) => el("bdi", {}, text); // isolates the writing direction of a name

  /** One cell of a sheet of pictures: the whole sheet behind a window of the cell's size. */
  function cell([file, columns, rows], number, { size, gutter }, alt) {
    const pitch = size + 2 * gutter;
    const relative = (pixels) => `${(100 * pixels) / size}%`;
    const [left, top] = [number % columns, Math.floor(number / columns)].map((cells) => relative(-(cells * pitch + gutter)));
    const style = { width: relative(columns * pitch), height: relative(rows * pitch), left, top };
    return el("span", { class: "cell" }, el("img", { src: `pictures/${file}`, alt, loading: "lazy", style }));
  }

  /** The small picture of a concept, by its index in its layer; decoration beside the concept's number. */
  function cover(layer, index) {
    const number = layer.covers[index];
    if (number < 0) return el("span", { class: "cell" });
    return cell(layer.sheets[Math.floor(number / COVERS)], number % COVERS, about.cover, "");
  }

  /** A bar as long as the share of a value in the largest magnitude; with signs, from the middle to either side. */
  function bar(value, largest, signed) {
    const share = largest > 0 ? Math.min(1, Math.abs(value ?? 0) / largest) * (signed ? 50 : 100) : 0;
    const left = signed ? (value < 0 ? 50 - share : 50) : 0;
    const fill = el("i", { class: value < 0 ? "against" : null, style: { width: `${share}%`, left: `${left}%` } });
    return el("span", { class: signed ? "bar signed" : "bar", "aria-hidden": "true" }, fill);
  }

  // ---- Numbers and names

  const digits = (value) => (value === null ? "–" : String(Number(value.toPrecision(3))).replace("-", "−"));
  const integer = (value) => value.toLocaleString("en");
  const percent = (value) => {
    const shown = 100 * value;
    if (shown !== 0 && Math.abs(shown) < 0.005) return `${shown < 0 ? "−" : ""}<0.01\u00a0%`;
    return `${shown.toFixed(Math.abs(shown) < 9.995 ? 2 : 1).replace("-", "−")}\u00a0%`;
  };
  const relevance = (value) => (value === null || !about.share ? digits(value) : percent(value));
  const className = (cls) => (cls < 0 ? "none" : about.classes[cls]);
  const conceptName = (number, concept) => about.layers[number]?.names[concept] ?? null;
  const counted = (count, singular, plural) => `${integer(count)} ${count === 1 ? singular : plural}`;

  // ---- Addresses

  const layerAddress = (number) => `#/${encodeURIComponent(about.layers[number].name)}`;
  const conceptAddress = (number, concept) => `${layerAddress(number)}/${concept}`;
  const classAddress = (cls) => `#class/${cls}`;
  const sampleAddress = (sample) => `#sample/${sample}`;
  const idsOf = (number) => about.layers[number].ids ?? Array.from({ length: about.layers[number].size }, (_, i) => i);

  function decoded(text) {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  }

  /** The name of the page that the parts of an address lead to: layers and concepts have none before the first slash. */
  function pageName(parts) {
    if (parts[0] !== "" || parts.length < 2 || parts[1] === "") return parts[0];
    return parts.length > 2 && parts[2] !== "" ? "concept" : "layer";
  }

  /** The page of an address, its parameters, and its query, which follows "?"; for what the report does not have, the page
      that says so. */
  function route(hash) {
    const [path, ...rest] = hash.slice(1).split("?");
    const query = new URLSearchParams(rest.join("?"));
    const parts = path.split("/");
    const name = pageName(parts);
    if (pages.has(name)) return { page: name, query, ...pages.get(name).read(parts.slice(1).map(decoded)) };
    return articleOf(name) ? { page: name, query } : { page: "overview", query, anchor: parts[0] };
  }

  /** Keep values in the query of the address, if there are any, so that it leads to what is shown; no page is left. */
  function keep(base, values) {
    const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value)).toString();
    if (query || location.hash.includes("?")) history.replaceState(null, "", query ? `${base}?${query}` : base);
  }

  const missing = (what) => ({ page: "missing", what });
  const articleOf = (name) => [...document.querySelectorAll("main > article")].find((article) => article.id === name);
  const layerNumber = (name) => about.layers.findIndex((layer) => layer.name === name);

  // ---- Parts of pages

  const heading = (...content) => el("h1", { tabindex: "-1" }, ...content);

  /** A link to a concept: its cover, number and name, the name of its layer if another one, and notes; words alone for
      one that the report leaves out. */
  function tile(target, layer, concept, name, ...notes) {
    const index = layer ? idsOf(target).indexOf(concept) : -1;
    const called = conceptName(target, concept);
    const content = [
      index < 0 ? null : cover(layer, index),
      el("span", {}, el("strong", {}, String(concept)), called ? el("small", { class: "called" }, bdi(called)) : null, name ? el("small", {}, bdi(name)) : null, notes.map((note) => el("small", {}, note))),
    ];
    return el("li", {}, index < 0 ? el("div", {}, content) : el("a", { href: conceptAddress(target, concept) }, content));
  }

  /** Pictures of a sample, which a click or the Enter key enlarges. */
  function enlargeable(pictures, label) {
    const shown = pictures.filter(Boolean);
    const open = () => {
      const close = el("button", { type: "button" }, "Close");
      const dialog = el("dialog", { class: "large", "aria-label": label }, el("div", {}, shown.map((picture) => picture.cloneNode(true))), el("p", {}, bdi(label)), close);
      close.addEventListener("click", () => dialog.close());
      dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
      dialog.addEventListener("close", () => dialog.remove());
      document.body.append(dialog);
      dialog.showModal();
    };
    return el("button", { type: "button", class: "enlarge", "aria-label": `Enlarge ${label}`, on: { click: open } }, shown);
  }

  /** What the line in a heatmap means; empty where there is none. */
  const outlineWords = () => (about.outlined ? " A dark line is around where relevance starts." : "");

  /** The colours of heatmaps, from negative to positive; null where their style has none. */
  function scale() {
    if (about.look.style === "masked") return null;
    const ends = ["against (−)", "0", "for (+)"].map((text) => el("span", {}, text));
    const words = el("span", {}, `Strongest: the ${about.look.scale} in each map`);
    return el("span", { class: "scale" }, el("span", { class: "ramp" }), el("span", { class: "ends" }, ends), words);
  }

  /** Data of a sample's page, with the sheet of its pictures. */
  async function sampleData(sample) {
    const index = about.shown.indexOf(sample);
    const part = await load(`samples-${Math.floor(index / about.samplesPerFile)}`);
    return { sheet: part.sheet, ...part.samples[index % about.samplesPerFile] };
  }

  /** A link to a sample: its picture, its name, and notes. */
  async function sampleTile(sample, ...notes) {
    const { sheet, name, cells } = await sampleData(sample);
    const text = el("span", {}, bdi(name), notes.map((note) => el("small", {}, note)));
    return el("li", {}, el("a", { href: sampleAddress(sample) }, cell(sheet, cells[0], about.cell, ""), text));
  }

  // ---- Showing

  page("missing", {
    read: () => missing("no such page"),
    view: async ({ what }) => ({
      title: "Nothing here",
      parts: [heading("Nothing here"), el("p", { class: "note" }, `This report has ${what}.`), el("p", {}, el("a", { href: "#" }, "Overview"))],
    }),
  });

  /** Title and elements of a page of its own; null for one that is an article of index.html, which is filled in. */
  async function render(target) {
    try {
      if (pages.has(target.page)) return await pages.get(target.page).view(target);
      await articles.get(target.page)?.(target.query);
      return null;
    } catch (error) {
      const message = el("p", { class: "note", role: "alert" }, error.message);
      return { title: "Cannot be shown", parts: [heading("Cannot be shown"), message] };
    }
  }

  /** Show the page of the current address; the first one leaves the focus where it is. */
  async function show(first) {
    const target = route(location.hash);
    const own = ++request;
    const rendered = await render(target);
    if (own !== request) return; // another page was asked for meanwhile
    current = target;
    const view = byId("view");
    view.replaceChildren(...(rendered?.parts ?? []).flat().filter(Boolean));
    view.hidden = rendered === null;
    for (const article of document.querySelectorAll("main > article")) article.hidden = article.id !== target.page;
    const title = rendered?.title ?? articleOf(target.page).querySelector("h1")?.textContent ?? target.page;
    document.title = target.page === "overview" ? about.title : `${title} – ${about.title}`;
    document.documentElement.dataset.view = target.page;
    markNavigation(target);
    const anchor = target.anchor ? byId(target.anchor) : null;
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

  function markNavigation(target) {
    for (const link of document.querySelectorAll("nav.layers a")) {
      const shown = link.dataset.page ? link.dataset.page === target.page : Number(link.dataset.layer) === target.number;
      if (shown) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  // ---- Search

  let names = null; // of samples, loaded when the search is first used

  /** How well words fit a name: 0 for not at all, more for its start and for whole words. */
  function fit(name, words) {
    const text = name.toLocaleLowerCase();
    if (!words.every((word) => text.includes(word))) return 0;
    const parts = text.split(/[^\p{L}\p{N}]+/u);
    const whole = words.filter((word) => parts.includes(word)).length;
    return 1 + whole + (text.startsWith(words[0]) ? 1 : 0) + (text === words.join(" ") ? words.length + 1 : 0);
  }

  function matches(text) {
    const words = text.trim().toLocaleLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return [];
    const results = [];
    const add = (score, to, shown, type) => score > 0 && results.push({ score, to, text: shown, type });
    const last = words.at(-1);
    about.layers.forEach(({ name, names: called }, number) => {
      add(fit(name, words), layerAddress(number), name, "layer");
      const numbered = /^\d+$/.test(last) && idsOf(number).includes(Number(last));
      const before = words.slice(0, -1);
      if (numbered) add(before.length ? fit(name, before) + 1 : 2, conceptAddress(number, Number(last)), `${name}, concept ${Number(last)}`, "concept");
      for (const [concept, own] of Object.entries(called)) {
        if (idsOf(number).includes(Number(concept))) add(fit(own, words), conceptAddress(number, concept), `${own}: ${name}, concept ${concept}`, "concept");
      }
    });
    about.classes.forEach((name, cls) => about.counts[cls] && add(fit(name, words), classAddress(cls), name, "class"));
    names?.forEach((name, index) => add(fit(name, words), sampleAddress(about.shown[index]), name, "sample"));
    return results.sort((a, b) => b.score - a.score).slice(0, MATCHES);
  }

  function startSearch() {
    const input = byId("search");
    const list = byId("results");
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
    const select = (index) => {
      active = index;
      options().forEach((option, number) => option.setAttribute("aria-selected", String(number === active)));
      const chosen = options()[active];
      if (!chosen) return;
      input.setAttribute("aria-activedescendant", chosen.id);
      chosen.scrollIntoView({ block: "nearest" });
    };
    input.addEventListener("focus", async () => {
      names ??= await load("sample-names").catch(() => null);
    });
    input.addEventListener("input", () => {
      const items = matches(input.value).map(({ to, text, type }, number) =>
        el("li", { id: `result-${number}`, role: "option", "data-to": to, "aria-selected": "false" }, bdi(text), el("small", {}, type)),
      );
      const nothing = el("li", { role: "option", "aria-disabled": "true" }, "Nothing found: no layer, concept, class with samples, or sample is called so.");
      list.replaceChildren(...(items.length ? items : [nothing]));
      list.hidden = input.value.trim() === "";
      input.setAttribute("aria-expanded", String(!list.hidden));
      select(items.length ? 0 : -1);
    });
    input.addEventListener("keydown", (event) => {
      const count = options().length;
      if (event.key === "Escape") {
        input.value = "";
        close();
        input.blur();
      } else if (event.key === "Enter" && options()[active]) go(options()[active].dataset.to);
      else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && count) {
        select((active + (event.key === "ArrowDown" ? 1 : count - 1)) % count);
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

  // ---- Keys and theme

  function onKey(event) {
    const typing = event.target.closest("input, select, textarea");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") byId("search").focus();
    else if (current.page === "concept" && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      const link = document.querySelector(`.trail a[rel="${event.key === "ArrowLeft" ? "prev" : "next"}"]`);
      if (!link) return;
      location.hash = link.getAttribute("href");
    } else if (current.page === "layer" && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      const rows = [...document.querySelectorAll(".concepts tbody th a")];
      const index = rows.indexOf(event.target.closest("tr")?.querySelector("th a"));
      if (index < 0) return;
      rows[index + (event.key === "ArrowDown" ? 1 : -1)]?.focus();
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
    const stored = (theme) => {
      try {
        // Some browsers have no storage for pages from disk.
        if (theme) localStorage.setItem("crp-kit-theme", theme);
        return localStorage.getItem("crp-kit-theme");
      } catch {
        return null;
      }
    };
    let now = themes.includes(stored()) ? stored() : "auto";
    set(now);
    button.addEventListener("click", () => {
      now = themes[(themes.indexOf(now) + 1) % themes.length];
      stored(now);
      set(now);
    });
  }

  function start(data) {
    Object.assign(about, data);
    document.documentElement.style.setProperty("--ramp", `linear-gradient(90deg, ${about.look.ramp.join(", ")})`);
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

  return {
    about, article, bar, bdi, cell, className, classAddress, conceptAddress, conceptName, counted, cover, digits, drawn, el,
    enlargeable, heading, idsOf, integer, keep, layerAddress, layerNumber, load, missing, page, percent, put, relevance, sampleAddress,
    outlineWords, sampleData, sampleTile, scale, tile,
  };
})();
