// What a page of results can do beyond being read: it works from the file system and asks no network.
"use strict";
(() => {
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const one = (selector, inside = document) => inside.querySelector(selector);
  const make = (tag, text, kind) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (kind) element.className = kind;
    return element;
  };

  // Light, dark, or as the system says
  const THEMES = ["auto", "light", "dark"];
  const kept = {
    get: (name) => { try { return localStorage.getItem(name); } catch { return null; } },
    set: (name, value) => { try { localStorage.setItem(name, value); } catch { /* private windows forget */ } },
  };
  function theme(name) {
    document.documentElement.dataset.theme = name;
    all("[data-theme-button]").forEach((button) => {
      one(".theme-name", button).textContent = name[0].toUpperCase() + name.slice(1);
      button.setAttribute("aria-label", `Colours: ${name}. Change`);
    });
  }
  let chosen = THEMES.includes(kept.get("zbench-theme")) ? kept.get("zbench-theme") : "auto";
  theme(chosen);
  all("[data-theme-button]").forEach((button) => button.addEventListener("click", () => {
    chosen = THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length];
    kept.set("zbench-theme", chosen);
    theme(chosen);
  }));

  // Sorting: the original stays first, rows without figures and broken ones last
  const RANKS = ["original", "done", "undone", "broken"];
  const rank = (body) => Math.max(0, RANKS.findIndex((name) => body.classList.contains(name)));
  function compare(column, sign, asText) {
    const byName = (a, b) => a.dataset.label.localeCompare(b.dataset.label, "en");
    const words = (body) => (column ? body.rows[0].cells[column].textContent.trim() : body.dataset.label);
    const value = (body) => {
      const cell = body.rows[0].cells[column];
      return cell && cell.dataset.v !== undefined ? Number(cell.dataset.v) : NaN;
    };
    return (a, b) => {
      if (rank(a) !== rank(b)) return rank(a) - rank(b);
      if (asText) return sign * words(a).localeCompare(words(b), "en") || byName(a, b);
      const [first, second] = [value(a), value(b)];
      if (Number.isNaN(first) || Number.isNaN(second)) return Number.isNaN(first) - Number.isNaN(second) || byName(a, b);
      return sign * (first - second) || byName(a, b);
    };
  }
  function sort(head) {
    const table = head.closest("table");
    const before = head.getAttribute("aria-sort");
    const natural = head.dataset.better === "higher" ? "descending" : "ascending";
    const other = natural === "ascending" ? "descending" : "ascending";
    const order = before === natural ? other : natural;
    all("th[aria-sort]", table).forEach((th) => th.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const bodies = [...table.tBodies].sort(compare(head.cellIndex, order === "ascending" ? 1 : -1, head.dataset.better === "name"));
    table.append(...bodies);
  }
  all("table.sortable .sort").forEach((button) => button.addEventListener("click", () => sort(button.closest("th"))));

  // Filtering: one box for every part of the page
  let galleryFollows = () => {};
  const words = one("[data-filter]");
  const hideBroken = one("[data-hide-broken]");
  function filter() {
    const wanted = words.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
    const seen = new Map();
    all("[data-label]").forEach((element) => {
      const text = element.dataset.label.toLowerCase();
      const hit = !wanted.length || wanted.some((word) => text.includes(word));
      const key = element.dataset.method ?? text;
      seen.set(key, (seen.get(key) ?? true) && hit && !(hideBroken.checked && element.classList.contains("broken")));
    });
    all("[data-method]").forEach((element) => {
      const shown = seen.get(element.dataset.method) ?? true;
      if (element.closest("svg")) element.classList.toggle("dim", !shown);
      else if (element.closest(".cards")) element.classList.toggle("hush", !shown);
      else element.hidden = !shown;
    });
    const number = [...seen.values()].filter(Boolean).length;
    const count = one("[data-count]");
    count.textContent = number === seen.size ? `${number} ${count.dataset.what}` : `${number} of ${seen.size} ${count.dataset.what}`;
    galleryFollows();
  }
  if (words) {
    const count = one("[data-count]");
    count.dataset.what = count.textContent.trim().replace(/^\d+\s*/, "");
    words.addEventListener("input", filter);
    hideBroken.addEventListener("change", filter);
    if (words.value || hideBroken.checked) filter();
  }

  // Trainings below their row
  function expand(button, open) {
    button.setAttribute("aria-expanded", String(open));
    button.getAttribute("aria-controls").trim().split(/\s+/).forEach((id) => { document.getElementById(id).hidden = !open; });
  }
  all(".expand").forEach((button) => button.addEventListener("click", () => {
    expand(button, button.getAttribute("aria-expanded") !== "true");
  }));
  function reveal() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const row = target?.closest?.("tr.training");
    if (row) { expand(one(".expand", row.closest("tbody")), true); row.scrollIntoView({ block: "center" }); }
  }
  addEventListener("hashchange", reveal);
  reveal();

  // What a figure rests on
  const bubble = document.getElementById("bubble");
  function pairs(list, lines) {
    lines.forEach(([term, text]) => list.append(make("dt", term), make("dd", text)));
    return list;
  }
  function files(link) {
    const body = link.closest("tbody");
    const column = link.closest("td").cellIndex;
    const list = make("p");
    const rows = all("tr.training", body ?? document.body);
    const main = one(`table.results tbody[data-method="${CSS.escape(body?.dataset.method ?? "")}"]`);
    const trainings = rows.length ? rows : main ? all("tr.training", main) : [];
    list.append("Rests on ");
    const links = trainings.length && !link.closest("tr.training")
      ? trainings.map((row) => [one("th a", row), rows.length ? one("td:nth-child(" + (column + 1) + ") b", row) : null])
      : [[link, null]];
    links.forEach(([each, value], place) => {
      const copy = make("a", each === link ? "its result file" : `${each.textContent}${value ? ` (${value.textContent})` : ""}`);
      copy.href = each.href;
      list.append(copy, place < links.length - 1 ? ", " : ".");
    });
    return list;
  }
  function explain(link) {
    const cell = link.closest("td");
    const heads = [...cell.closest("table").tHead.rows].at(-1).cells;
    const head = heads[cell.cellIndex];
    const name = one(".method", cell.closest("tbody")).textContent;
    bubble.replaceChildren(make("h3", `${name}: ${one(".sort", head).textContent.trim()}`));
    if (link.dataset.lines) {
      bubble.append(pairs(make("dl"), JSON.parse(link.dataset.lines)));
    } else {
      bubble.append(make("p", one("b", link).textContent, "big"));
      const small = one("small", cell);
      if (small) bubble.append(make("p", small.textContent));
      if (link.dataset.how) link.dataset.how.split("; ").forEach((line) => bubble.append(make("p", line)));
      if (head.dataset.settings) bubble.append(make("p", head.dataset.settings));
    }
    bubble.append(files(link));
  }
  function place(link) {
    const at = link.getBoundingClientRect();
    const size = bubble.getBoundingClientRect();
    const left = Math.max(12, Math.min(at.left, innerWidth - size.width - 12));
    const below = at.bottom + 8 + size.height < innerHeight;
    bubble.style.left = `${left}px`;
    bubble.style.top = `${below ? at.bottom + 8 : Math.max(12, at.top - size.height - 8)}px`;
  }
  let asked = null;
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a.figure:not(.direct)");
    if (!link || !bubble?.showPopover || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    explain(link);
    bubble.showPopover();
    place(link);
    asked = link;
    one("a", bubble)?.focus({ preventScroll: true });
  });
  bubble?.addEventListener("toggle", (event) => {
    if (event.newState === "closed" && asked && (document.activeElement === document.body || bubble.contains(document.activeElement))) asked.focus({ preventScroll: true });
  });

  // Planes
  function planes() {
    const value = (name) => one(`input[name="${name}"]:checked`)?.value;
    const wanted = `${value("erasure")} ${value("preservation")}`;
    all("[data-plane]").forEach((element) => { element.hidden = element.dataset.plane !== wanted; });
  }
  all('input[name="erasure"], input[name="preservation"]').forEach((input) => input.addEventListener("change", planes));
  if (one("[data-plane]") && one('input[name="erasure"]')) planes();

  // A method is lit wherever it stands
  function light(key, on) {
    if (key) all(`[data-method="${CSS.escape(key)}"]`).forEach((element) => element.classList.toggle("lit", on));
  }
  all(".plane .mark, .front-list a").forEach((element) => {
    element.addEventListener("pointerenter", () => light(element.dataset.method, true));
    element.addEventListener("pointerleave", () => light(element.dataset.method, false));
    element.addEventListener("focus", () => light(element.dataset.method, true));
    element.addEventListener("blur", () => light(element.dataset.method, false));
  });
  all("table.results tbody[data-method]").forEach((body) => {
    const marks = all(`.plane .mark[data-method="${CSS.escape(body.dataset.method)}"]`);
    body.addEventListener("pointerenter", () => marks.forEach((mark) => mark.classList.add("lit")));
    body.addEventListener("pointerleave", () => marks.forEach((mark) => mark.classList.remove("lit")));
  });
  all(".plane .mark").forEach((mark) => mark.addEventListener("click", () => {
    const row = document.getElementById(mark.dataset.method);
    if (row) location.hash = mark.dataset.method;
  }));

  // Pictures
  const gallery = one("#gallery");
  if (gallery) {
    const tiles = all(".tile", gallery);
    const show = one("[data-show-flagged]", gallery);
    const name = (tile) => tile.getAttribute("aria-label").replace(/: flagged.*$/, "");
    const state = (tile) => {
      const hidden = tile.classList.contains("flagged") && !tile.classList.contains("seen");
      const flagged = tile.classList.contains("flagged") ? (hidden ? ": flagged, blurred" : ": flagged") : "";
      tile.setAttribute("aria-label", name(tile) + flagged);
    };
    const seen = (tile, on) => { tile.classList.toggle("seen", on); state(tile); };
    show.addEventListener("click", () => {
      const on = show.getAttribute("aria-pressed") !== "true";
      show.setAttribute("aria-pressed", String(on));
      show.textContent = on ? "Blur flagged pictures" : "Show flagged pictures";
      tiles.filter((tile) => tile.classList.contains("flagged")).forEach((tile) => seen(tile, on));
    });
    all('input[name="training"]', gallery).forEach((input) => input.addEventListener("change", () => {
      gallery.dataset.training = input.value;
      tiles.filter((tile) => tile.dataset.states).forEach((tile) => {
        const own = tile.dataset.states[Number(input.value)] ?? tile.dataset.states[0];
        tile.classList.toggle("flagged", own === "1");
        tile.classList.toggle("absent", own === "-");
        seen(tile, show.getAttribute("aria-pressed") === "true");
      });
      all(".cards figure", gallery).forEach((figure) => { figure.hidden = figure.dataset.training !== input.value; });
      galleryFollows();
    }));

    const viewer = document.getElementById("viewer");
    const enlarge = (tile) => {
      const cell = tile.closest("td");
      const figure = tile.closest("figure");
      const head = cell ? cell.closest("table").tHead.rows[0].cells[cell.cellIndex] : null;
      const training = Number(gallery.dataset.training ?? 0);
      const large = one(".tile", viewer);
      large.className = tile.className.replace("flagged", "");
      large.style.cssText = tile.style.cssText;
      if (cell && training) large.classList.add(`t${training}`);
      one("h2", viewer).textContent = name(tile).split(",")[0];
      const quotes = cell ? all("q, .unshown", cell.parentElement.cells[0]) : all("figcaption > q", figure);
      const lines = [["Role", cell ? one(".role", cell.parentElement).textContent : figure.dataset.role]];
      quotes.forEach((quote) => lines.push(["Prompt", quote.textContent]));
      const askedFor = figure ? one(".asked q", figure) : null;
      if (askedFor) lines.push(["Attack asked", askedFor.textContent]);
      lines.push(["Seed", (cell ? cell.parentElement : figure).dataset.seed]);
      lines.push(["Detector", tile.classList.contains("flagged") ? "found the concept" : "did not find the concept"]);
      const list = one("dl", viewer);
      list.replaceChildren();
      pairs(list, lines);
      all("dd", list).forEach((each) => { each.dir = "auto"; });
      const column = head ?? one(`.gallery thead th[data-method="${CSS.escape(figure.dataset.method)}"]`);
      const links = column.dataset.files.split(" ");
      one(".viewer-file", viewer).href = links[training] ?? links[0];
      viewer.showModal();
    };
    gallery.addEventListener("click", (event) => {
      const tile = event.target.closest(".tile");
      if (!tile) return;
      if (tile.classList.contains("flagged") && !tile.classList.contains("seen")) seen(tile, true);
      else enlarge(tile);
    });
    viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });

    // One stop of the tab key for all pictures, arrow keys between them
    const table = one("table.gallery", gallery);
    const grid = [...table.tBodies[0].rows].map((row) => [...row.cells].slice(1).map((cell) => one(".tile", cell)));
    const every = grid.flat().filter(Boolean);
    const reachable = (tile) => !tile.closest("td").hidden && !tile.classList.contains("absent");
    const stopAt = (tile) => every.forEach((each) => { each.tabIndex = each === tile ? 0 : -1; });
    stopAt(every[0]);
    galleryFollows = () => {
      const stop = every.find((tile) => tile.tabIndex === 0);
      if (!stop || !reachable(stop)) stopAt(every.find(reachable));
      all("details.winners", gallery).forEach((group) => {
        const figures = all("figure", group);
        const shown = figures.filter((figure) => !figure.hidden && !figure.classList.contains("hush")).length;
        one("[data-winners]", group).textContent =
          `${shown === figures.length ? shown : `${shown} of ${figures.length}`} pictures`;
      });
    };
    galleryFollows();
    const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    table.addEventListener("keydown", (event) => {
      const step = STEPS[event.key];
      const from = event.target.closest(".tile");
      if (!step || !from) return;
      event.preventDefault();
      let row = grid.findIndex((line) => line.includes(from));
      let column = grid[row].indexOf(from);
      do { row += step[0]; column += step[1]; } while (grid[row]?.[column] === null || (grid[row]?.[column] && !reachable(grid[row][column])));
      const to = grid[row]?.[column];
      if (!to) return;
      stopAt(to);
      to.focus();
    });
    every.forEach((tile) => tile.addEventListener("focus", () => stopAt(tile)));
  }
})();
