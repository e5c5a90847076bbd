"use strict";
// The view of attention inside `root`, which holds the markup of attention_body.html. Returns how to repaint it in other
// colors, to choose a layer and head, and to take its listeners away. Text goes in by textContent only.
async function attentionView(root, page) {
  const at = (id) => root.querySelector("#" + id);
  const alive = new AbortController(), listening = { signal: alive.signal };
  const make = (tag, text, className) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  };
  const state = { group: 0, layer: 0, head: -1, direction: "to", pinned: null, over: null, skip: false };
  const percent = (value, group) => group.unit === "share"
    ? (value >= 0.0995 ? Math.round(100 * value) : (100 * value).toFixed(1)) + " %"
    : value.toPrecision(2);
  const shown = (token) => token.replace(/\n/g, "⏎").replace(/\t/g, "⇥");

  async function unpack(group) {
    const packed = Uint8Array.from(atob(group.data), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    group.rows = group.layers.length * group.n_heads * group.queries.length;
    group.weights = bytes.subarray(0, group.rows * group.n_kept);
    const rest = bytes.slice(group.rows * group.n_kept);
    group.index = group.n_kept < group.keys.length ? new Uint16Array(rest.buffer) : null;
    delete group.data;
  }
  function addRow(group, layer, head, query, into, factor) {
    const row = (layer * group.n_heads + head) * group.queries.length + query;
    for (let i = 0, from = row * group.n_kept; i < group.n_kept; i++, from++) {
      const key = group.index ? group.index[from] : i;
      into[key] += group.weights[from] * factor;
    }
  }
  function rowOf(group, layer, head, query) {
    const values = new Float32Array(group.keys.length), heads = head < 0 ? group.n_heads : 1;
    for (let h = head < 0 ? 0 : head, n = 0; n < heads; h++, n++) addRow(group, layer, h, query, values, group.scale / 255 / heads);
    if (state.skip) values[group.n_prefix] = 0;
    return values;
  }
  function firstOf(group, query) {
    state.skip = false;
    const value = rowOf(group, state.layer, state.head, query)[group.n_prefix];
    state.skip = true;
    return value;
  }
  function columnOf(group, layer, head, key) {
    const values = new Float32Array(group.queries.length);
    for (let query = 0; query < values.length; query++) values[query] = rowOf(group, layer, head, query)[key];
    return values;
  }
  const group = () => page.groups[state.group];
  const isCross = () => group().cross;
  const focusOf = () => state.over ?? state.pinned;
  function valuesOf(focus) {
    if (focus === null) return null;
    const backwards = state.direction === "from";
    return backwards ? columnOf(group(), state.layer, state.head, focus + (isCross() ? 0 : group().n_prefix)) : rowOf(group(), state.layer, state.head, focus);
  }

  const depths = new Map();  // of a token's shade
  const spots = new Map();  // where a token of the line is; measuring all of them costs more than drawing
  let blocks = [];  // [{tokens, role: "query" | "key" | "both", elements, line}]
  function buildText() {
    const g = group(), text = at("text"), line = at("line");
    text.replaceChildren(); line.replaceChildren(); blocks = []; depths.clear(); spots.clear();
    const parts = isCross() ? [["key", g.keys, g.key_title], ["query", g.queries, g.query_title]] : [["both", g.keys, ""]];
    for (const [role, tokens, title] of parts) {
      const box = make("div"), elements = [], inLine = [];
      if (title) text.append(make("h3", title));
      tokens.forEach((token, number) => {
        const own = role === "both" ? number - g.n_prefix : number;
        const points = role === "both" ? own >= 0 : role === (state.direction === "to" ? "query" : "key");
        for (const [into, list] of [[box, elements], [line, inLine]]) {
          const special = g.specials.includes(token) || (role === "both" && own < 0);
          const element = make("span", into === box ? token.replace(/\n/g, "⏎\n") : shown(token), special ? "token special" : "token");
          list.push(element); into.append(element);
          if (!points) continue;
          element.tabIndex = into === box && own === (state.pinned ?? 0) ? 0 : -1;
          element.setAttribute("role", "button");
          element.addEventListener("pointerenter", () => { state.over = own; update(); });
          element.addEventListener("pointerleave", () => { state.over = null; update(); });
          element.addEventListener("focus", () => { state.over = own; update(); });
          element.addEventListener("blur", () => { state.over = null; update(); });
          element.addEventListener("click", () => pin(own));
        }
      });
      if (role === "key" && parts.length > 1) line.append(make("span", "   ·   "));
      text.append(box); blocks.push({ role, tokens, elements, inLine });
    }
  }
  const pointing = () => blocks.find((block) => block.role === "both" || block.role === (state.direction === "to" ? "query" : "key"));
  const answering = () => blocks.find((block) => block.role === "both" || block.role === (state.direction === "to" ? "key" : "query"));
  const offset = () => isCross() ? 0 : group().n_prefix;
  function pin(number) {
    state.pinned = state.pinned === number ? null : number;
    pointing().elements.forEach((element, i) => { if (element.hasAttribute("role")) element.tabIndex = i - offset() === (state.pinned ?? 0) ? 0 : -1; });
    update();
  }
  function shade(values) {
    const g = group(), focus = focusOf();
    const most = values ? Math.max(...values, 1e-9) : 1;  // without the first token the rest is shown in full
    const shift = state.direction === "from" && !isCross() ? g.n_prefix : 0;
    for (const block of blocks) for (const list of [block.elements, block.inLine]) list.forEach((element, i) => {
      const answer = block === answering() && values ? values[i - shift] || 0 : 0;
      const share = Math.sqrt(answer / (g.unit === "share" && !state.skip ? 1 : most));
      const depth = share > 0.03 ? Math.round(75 * share) : 0;
      if (depth !== (depths.get(element) ?? 0)) {  // most tokens of a long text keep their shade
        depths.set(element, depth);
        element.style.background = depth ? "color-mix(in srgb, var(--hot) " + depth + "%, transparent)" : "";
      }
      const here = block === pointing() && focus !== null && i - offset() === focus;
      element.classList.toggle("here", here);
      element.classList.toggle("pinned", block === pointing() && state.pinned !== null && i - offset() === state.pinned);
    });
  }
  const best = (values, n) => [...values.keys()].sort((a, b) => values[b] - values[a]).slice(0, n).filter((i) => values[i] > 0);
  const nameOf = (layer, head) => "layer " + group().layers[layer] + ", " + (head < 0 ? "mean of all heads" : "head " + group().heads[head]);
  function describe(values) {
    const g = group(), status = at("status"), focus = focusOf();
    status.replaceChildren();
    if (!values) { status.textContent = "Point at a word. Shown is " + nameOf(state.layer, state.head) + "."; return; }
    const tokens = answering().tokens, shift = state.direction === "from" && !isCross() ? g.n_prefix : 0;
    status.append(make("b", shown(pointing().tokens[focus + offset()]).trim() || "␣"), state.direction === "to" ? " looks at " : " is looked at by ");
    best(values, 6).forEach((i, n) => status.append(n ? ", " : "", make("b", shown(tokens[i + shift]).trim() || "␣"), " " + percent(values[i], g)));
    const sum = values.reduce((a, b) => a + b, 0);
    if (g.sink && !state.skip && state.direction === "to" && sum < 0.98) status.append(", at nothing (the head's sink) " + percent(Math.max(0, 1 - sum), g));
    if (state.skip && state.direction === "to") {
      const skipped = firstOf(g, focus);
      if (skipped >= 0.005 * g.scale) status.append(", and " + percent(skipped, g) + " at the first token");
    }
    status.append("  (" + nameOf(state.layer, state.head) + ").");
  }

  function arcs(values) {
    const svg = at("arcs"), line = at("line"), space = "http://www.w3.org/2000/svg";
    const middle = (element) => element.offsetLeft + element.offsetWidth / 2 - line.offsetLeft;
    const links = [], g = group(), from = pointing().inLine, to = answering().inLine;
    const shift = state.direction === "from" && !isCross() ? g.n_prefix : 0;
    if (values) best(values, 24).forEach((i) => links.push([focusOf() + offset(), i + shift, values[i]]));
    else if (g.queries.length <= 160) for (let query = 0; query < g.queries.length; query++) {
      const row = rowOf(g, state.layer, state.head, query);
      best(row, 2).forEach((key) => { if (row[key] > 0.08 * g.scale) links.push(state.direction === "to" ? [query + offset(), key, row[key]] : [key, query + offset(), row[key]]); });
    }
    const spot = (element) => { if (!spots.has(element)) spots.set(element, middle(element)); return spots.get(element); };
    let highest = 26;
    const paths = [];
    for (const [a, b, value] of links) {
      if (!from[a] || !to[b]) continue;
      const x = spot(from[a]), y = spot(to[b]), rise = Math.min(150, 12 + Math.abs(x - y) * 0.42);
      if (from[a] === to[b]) paths.push([x - 5, x + 5, 12, value]); else paths.push([x, y, rise, value]);
      highest = Math.max(highest, rise + 6);
    }
    if (values) {
      const strip = at("strip"), here = spot(from[focusOf() + offset()]);
      if (here < strip.scrollLeft || here > strip.scrollLeft + strip.clientWidth - 60) strip.scrollLeft = here - strip.clientWidth * 0.7;
    }
    svg.replaceChildren();
    svg.setAttribute("width", line.offsetWidth); svg.setAttribute("height", highest);
    for (const [x, y, rise, value] of paths) {
      const path = document.createElementNS(space, "path"), share = Math.min(1, Math.sqrt(value / g.scale));
      path.setAttribute("d", "M" + x + " " + highest + " C" + x + " " + (highest - rise * 1.3) + " " + y + " " + (highest - rise * 1.3) + " " + y + " " + highest);
      path.setAttribute("stroke-width", (0.6 + 3.6 * share).toFixed(2));
      path.setAttribute("opacity", (values ? 0.15 + 0.85 * share : 0.1 + 0.5 * share).toFixed(2));
      svg.append(path);
    }
  }

  const colors = () => ["--cold", "--hot", "--ink", "--soft", "--pin"].map((name) => {
    const probe = make("span"); probe.style.color = "var(" + name + ")"; at("map").parentElement.append(probe);
    const rgb = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number); probe.remove(); return rgb;
  });
  let palette = colors(), shades = null;
  function mix(share) { return palette[0].map((cold, i) => Math.round(cold + (palette[1][i] - cold) * share)); }
  function pixels(g, layer, head, size) {
    const rows = Math.min(g.queries.length, size), columns = Math.min(g.keys.length, size);
    if (!shades) { shades = new Uint8Array(768); for (let i = 0; i < 256; i++) shades.set(mix(Math.sqrt(i / 255)), 3 * i); }
    const image = new ImageData(columns, rows), data = image.data, sums = new Float32Array(columns), full = state.skip ? g.scale * 0.4 : g.scale;
    for (let y = 0; y < rows; y++) {
      const first = Math.floor(y * g.queries.length / rows), last = Math.max(first + 1, Math.floor((y + 1) * g.queries.length / rows));
      sums.fill(0);
      for (let query = first; query < last; query++) rowOf(g, layer, head, query).forEach((value, key) => {
        const x = Math.floor(key * columns / g.keys.length); sums[x] = Math.max(sums[x], value);
      });
      for (let x = 0, to = 4 * y * columns; x < columns; x++) {
        const from = 3 * Math.round(255 * Math.min(1, sums[x] / full));
        for (let i = 0; i < 3; i++) data[to++] = shades[from + i];
        data[to++] = 255;
      }
    }
    return image;
  }
  let mapImage = null, geometry = null, mapKey = "";
  function drawMap() {
    const g = group(), canvas = at("map"), key = [state.group, state.layer, state.head].join();
    const nKeys = g.keys.length, nQueries = g.queries.length, labels = Math.max(nKeys, nQueries) <= 72;
    const left = labels ? 120 : 0, top = labels ? 96 : 0, wide = canvas.parentElement.clientWidth - 38 - left;
    const cell = Math.max(labels ? 11 : 1, Math.min(26, Math.floor(Math.min(wide / nKeys, 700 / nQueries))));
    if (key !== mapKey) {
      mapImage = document.createElement("canvas"); mapImage.width = nKeys; mapImage.height = nQueries;
      mapImage.getContext("2d").putImageData(pixels(g, state.layer, state.head, Math.max(nKeys, nQueries)), 0, 0); mapKey = key;
    }
    const ratio = window.devicePixelRatio || 1, width = left + nKeys * cell, height = top + nQueries * cell;
    canvas.width = width * ratio; canvas.height = height * ratio; canvas.style.width = width + "px"; canvas.style.height = height + "px";
    const paint = canvas.getContext("2d"); paint.scale(ratio, ratio); paint.imageSmoothingEnabled = false;
    paint.drawImage(mapImage, left, top, nKeys * cell, nQueries * cell);
    geometry = { left, top, cell };
    const focus = focusOf(), row = state.direction === "to";
    if (labels) {
      paint.font = Math.min(14, Math.max(9, cell - 3)) + "px sans-serif"; paint.textBaseline = "middle";
      g.queries.forEach((token, i) => { paint.fillStyle = "rgb(" + palette[row && i === focus ? 4 : 3] + ")"; paint.textAlign = "right"; paint.fillText(clip(token), left - 6, top + (i + 0.5) * cell); });
      g.keys.forEach((token, i) => { paint.fillStyle = "rgb(" + palette[!row && i - offset() === focus ? 4 : 3] + ")"; paint.save(); paint.translate(left + (i + 0.5) * cell, top - 6); paint.rotate(-Math.PI / 2.6); paint.textAlign = "left"; paint.fillText(clip(token), 0, 0); paint.restore(); });
    }
    if (focus !== null) {
      paint.strokeStyle = "rgb(" + palette[4] + ")"; paint.lineWidth = 1.5;
      if (row) paint.strokeRect(left + 0.5, top + focus * cell + 0.5, nKeys * cell - 1, cell - 1); else paint.strokeRect(left + (focus + offset()) * cell + 0.5, top + 0.5, cell - 1, nQueries * cell - 1);
    }
    at("map-note").textContent = "Rows look at columns. " + nameOf(state.layer, state.head)[0].toUpperCase() + nameOf(state.layer, state.head).slice(1) + ". The color grows with the root of the value, so that small ones show.";
  }
  const clip = (token) => { const text = shown(token).trim() || "␣"; return text.length > 13 ? text.slice(0, 12) + "…" : text; };
  at("map").addEventListener("pointermove", (event) => {
    const g = group(), box = at("map").getBoundingClientRect(), tip = at("tip");
    const key = Math.floor((event.clientX - box.left - geometry.left) / geometry.cell), query = Math.floor((event.clientY - box.top - geometry.top) / geometry.cell);
    tip.hidden = !(key >= 0 && query >= 0 && key < g.keys.length && query < g.queries.length);
    if (tip.hidden) return;
    tip.textContent = clip(g.queries[query]) + " → " + clip(g.keys[key]) + "  " + percent(rowOf(g, state.layer, state.head, query)[key], g);
    const holder = at("map").parentElement.getBoundingClientRect();
    tip.style.left = event.clientX - holder.left + at("map").parentElement.scrollLeft + 14 + "px"; tip.style.top = event.clientY - holder.top + at("map").parentElement.scrollTop + 14 + "px";
    const spot = state.direction === "to" ? query : key - offset();
    if (state.over !== spot && spot >= 0) { state.over = spot; update(); }
  });
  at("map").addEventListener("pointerleave", () => { at("tip").hidden = true; state.over = null; update(); });

  let thumbs = [];
  function buildGrid() {
    const g = group(), grid = at("grid"), size = g.layers.length * g.n_heads > 400 ? 26 : 40;
    grid.replaceChildren(); thumbs = [];
    grid.style.gridTemplateColumns = "auto repeat(" + g.n_heads + ", auto)";
    grid.append(make("span", "", "label")); g.heads.forEach((head) => grid.append(make("span", head, "label top")));
    g.layers.forEach((layer, l) => {
      grid.append(make("span", layer, "label"));
      for (let h = 0; h < g.n_heads; h++) {
        const button = make("button", undefined, "thumb"), canvas = make("canvas");
        const small = pixels(g, l, h, size);
        canvas.width = small.width; canvas.height = small.height; canvas.style.width = canvas.style.height = size + "px"; canvas.style.imageRendering = "pixelated";
        canvas.getContext("2d").putImageData(small, 0, 0);
        button.type = "button"; button.title = "layer " + layer + ", head " + g.heads[h]; button.setAttribute("aria-label", button.title);
        button.append(canvas); button.addEventListener("click", () => choose(l, h)); grid.append(button); thumbs.push([button, l, h]);
      }
    });
  }
  function markGrid() {
    const g = group(), focus = focusOf();
    for (const [button, l, h] of thumbs) {
      button.classList.toggle("chosen", l === state.layer && (h === state.head || state.head < 0));
      let away = 0;
      if (focus !== null && state.direction === "to") rowOf(g, l, h, focus).forEach((value, key) => { if (isCross() || (key - g.n_prefix > 0 && key - g.n_prefix !== focus)) away = Math.max(away, value); });
      button.style.background = away > 0 ? "color-mix(in srgb, var(--link) " + Math.round(100 * Math.min(1, away / g.scale)) + "%, transparent)" : "";
    }
  }
  function layerTable() {
    const g = group(), focus = focusOf(), body = at("layers").tBodies[0], head = at("layers").tHead;
    body.replaceChildren(); head.replaceChildren();
    at("layers-note").textContent = focus === null || state.direction !== "to" ? "Choose a word: for each layer, what it looks at most, in the mean of the heads, and in the head that looks away most." : "";
    if (focus === null || state.direction !== "to") return;
    const title = make("tr"); ["layer", "mean of the heads", "head that looks away most"].forEach((name) => title.append(make("th", name))); head.append(title);
    g.layers.forEach((layer, l) => {
      const row = make("tr", undefined, l === state.layer ? "chosen" : ""), mean = rowOf(g, l, -1, focus);
      row.append(make("td", layer));
      let chosen = -1, most = 0;
      for (let h = 0; h < g.n_heads; h++) rowOf(g, l, h, focus).forEach((value, key) => { if ((isCross() || (key - g.n_prefix > 0 && key - g.n_prefix !== focus)) && value > most) { most = value; chosen = h; } });
      for (const [values, label] of [[mean, ""], [chosen < 0 ? new Float32Array(0) : rowOf(g, l, chosen, focus), chosen < 0 ? "" : "head " + g.heads[chosen] + ": "]]) {
        const cell = make("td", label);
        best(values, 3).forEach((i) => cell.append(make("b", clip(g.keys[i])), make("span", percent(values[i], g) + "  ", "amount"), " "));
        row.append(cell);
      }
      body.append(row);
    });
  }

  let waiting = false;
  function update() { if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; draw(); }); } }
  function draw() {
    const values = valuesOf(focusOf());
    shade(values); describe(values); arcs(values); drawMap(); markGrid(); layerTable();
    at("arcs-note").textContent = values ? "From the chosen word, the strongest links of this head." : group().queries.length <= 160 ? "The strongest links of this head; choose a word to see its own." : "Choose a word to see its links.";
    at("layer").value = state.layer; at("head").value = state.head; at("direction").value = state.direction;
  }
  function choose(layer, head) {
    const g = group();
    state.layer = Math.max(0, Math.min(g.layers.length - 1, layer)); state.head = Math.max(-1, Math.min(g.n_heads - 1, head)); update();
  }
  function options(select, pairs) { select.replaceChildren(...pairs.map(([value, text]) => { const option = make("option", text); option.value = value; return option; })); }
  function open(number) {
    state.group = number; state.over = state.pinned = null; mapKey = "";
    const g = group();
    options(at("layer"), g.layers.map((layer, i) => [i, layer]));
    options(at("head"), [...(g.n_heads > 1 ? [[-1, "mean of all"]] : []), ...g.heads.map((head, i) => [i, head])]);
    state.layer = Math.min(state.layer, g.layers.length - 1); state.head = g.n_heads > 1 ? Math.min(state.head, g.n_heads - 1) : 0;
    buildText(); buildGrid(); update();
  }
  at("group").addEventListener("change", (event) => open(Number(event.target.value)));
  at("layer").addEventListener("change", (event) => choose(Number(event.target.value), state.head));
  at("head").addEventListener("change", (event) => choose(state.layer, Number(event.target.value)));
  at("skip").addEventListener("change", (event) => { state.skip = event.target.checked; mapKey = ""; buildGrid(); update(); });
  at("direction").addEventListener("change", (event) => { state.direction = event.target.value; state.pinned = state.over = null; buildText(); update(); });
  root.addEventListener("keydown", (event) => {
    if (["SELECT", "INPUT", "TEXTAREA"].includes(event.target.tagName) || event.ctrlKey || event.metaKey || event.altKey) return;
    const inText = event.target.classList.contains("token"), elements = pointing().elements;
    const step = (by) => { const next = elements[elements.indexOf(event.target) + by]; if (next && next.hasAttribute("role")) next.focus(); };
    const actions = {
      ArrowLeft: inText && (() => step(-1)), ArrowRight: inText && (() => step(1)),
      ArrowUp: inText && (() => choose(state.layer - 1, state.head)), ArrowDown: inText && (() => choose(state.layer + 1, state.head)),
      "[": () => choose(state.layer, state.head - 1), "]": () => choose(state.layer, state.head + 1),
      Enter: inText && (() => event.target.click()), " ": inText && (() => event.target.click()),
      Escape: () => { state.pinned = state.over = null; update(); },
    };
    if (actions[event.key]) { actions[event.key](); event.preventDefault(); }
  }, listening);
  const repaint = () => { palette = colors(); shades = null; mapKey = ""; buildGrid(); update(); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint, listening);
  addEventListener("resize", () => { spots.clear(); update(); }, listening);

  await Promise.all(page.groups.map(unpack));
  options(at("group"), page.groups.map((one, i) => [i, one.title]));
  at("group-field").hidden = page.groups.length < 2;
  state.layer = page.start.layer; state.head = page.start.head; state.skip = at("skip").checked = page.start.skip;
  open(page.start.group);
  state.pinned = page.start.token;
  update();
  return { repaint, close: () => alive.abort(), choose: (layer, head) => choose(group().layers.indexOf(layer), head) };
}
