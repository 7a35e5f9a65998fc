// Heatmaps of images: loaded from media/<id>.js when needed, drawn over the pictures in the browser.
"use strict";

const concordance = (() => {
  const root = document.documentElement.dataset.root;
  const values = new Map();
  const pending = new Map();

  // media/<id>.js calls this
  function put(id, value) { values.set(id, value); }

  async function pixels(uri) {
    const image = new Image();
    image.src = uri;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  }

  async function unpack(id) {
    const value = values.get(id);
    const sheet = await pixels(value.maps);
    const maps = new Map();
    value.concepts.forEach((concept, at) => {
      const map = new Float32Array(value.tw * value.th);
      const left = (at % value.cols) * value.tw;
      const top = Math.floor(at / value.cols) * value.th;
      for (let y = 0; y < value.th; y++) {
        for (let x = 0; x < value.tw; x++) {
          const grey = sheet.data[4 * ((top + y) * sheet.width + left + x)];
          map[y * value.tw + x] = (grey / 255) * value.scale[at];
        }
      }
      maps.set(concept, map);
    });
    return { width: value.w, height: value.h, tw: value.tw, th: value.th, maps, mask: value.mask };
  }

  /** The heatmaps of an image: {width, height, tw, th, maps: concept -> Float32Array, mask}. */
  function load(id) {
    if (!pending.has(id)) {
      pending.set(id, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = `${root}media/${id}.js`;
        script.onload = () => unpack(id).then(resolve, reject);
        script.onerror = () => reject(new Error(`media/${id}.js cannot be read`));
        document.head.append(script);
      }));
    }
    return pending.get(id);
  }

  // Cell centres of a map of n cells at (i + 1/2) / n: neighbours and share for each of m pixels.
  function steps(n, m) {
    const low = new Uint16Array(m), high = new Uint16Array(m), share = new Float32Array(m);
    for (let i = 0; i < m; i++) {
      const at = Math.min(n - 1, Math.max(0, ((i + 0.5) * n) / m - 0.5));
      low[i] = Math.floor(at);
      high[i] = Math.min(n - 1, low[i] + 1);
      share[i] = at - low[i];
    }
    return { low, high, share };
  }

  /** Scale a map up, bilinearly, to width × height. */
  function enlarge(image, map, width, height) {
    const xs = steps(image.tw, width), ys = steps(image.th, height);
    const out = new Float32Array(width * height);
    for (let y = 0; y < height; y++) {
      const above = ys.low[y] * image.tw, below = ys.high[y] * image.tw, v = ys.share[y];
      for (let x = 0; x < width; x++) {
        const l = xs.low[x], h = xs.high[x], u = xs.share[x];
        const top = map[above + l] + (map[above + h] - map[above + l]) * u;
        const bottom = map[below + l] + (map[below + h] - map[below + l]) * u;
        out[y * width + x] = top + (bottom - top) * v;
      }
    }
    return out;
  }

  function colour(concept) {
    const probe = document.createElement("span");
    probe.className = `swatch c${concept}`;
    document.body.append(probe);
    const found = getComputedStyle(probe).backgroundColor.match(/[\d.]+/g).slice(0, 3).map(Number);
    probe.remove();
    return found;
  }

  /** A canvas over a picture, as fine as the screen shows it. */
  function canvasOver(box, image, widest) {
    let canvas = box.querySelector("canvas");
    if (!canvas) {
      canvas = document.createElement("canvas");
      canvas.setAttribute("aria-hidden", "true");
      box.append(canvas);
    }
    const fine = Math.min(widest, Math.round((box.clientWidth || 240) * Math.min(2, devicePixelRatio)));
    const width = Math.max(1, fine), height = Math.max(1, Math.round((fine * image.height) / image.width));
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    return canvas;
  }

  // Whether the level is crossed between a pixel and one up to `reach` to its right or below.
  function edge(heat, at, x, y, width, height, level, reach) {
    const inside = heat[at] >= level;
    return (x + reach < width && heat[at + reach] >= level !== inside)
      || (y + reach < height && heat[at + reach * width] >= level !== inside);
  }

  function layerOf(width, height, paint) {
    const layer = document.createElement("canvas");
    layer.width = width;
    layer.height = height;
    const context = layer.getContext("2d");
    const out = context.createImageData(width, height);
    paint(out.data);
    context.putImageData(out, 0, 0);
    return layer;
  }

  function set(data, at, [r, g, b], alpha) {
    data[4 * at] = r;
    data[4 * at + 1] = g;
    data[4 * at + 2] = b;
    data[4 * at + 3] = alpha;
  }

  /** Tint the picture by a layer so that its light and shade stay readable. */
  function tint(context, picture, layer) {
    const { width, height } = context.canvas;
    context.drawImage(picture, 0, 0, width, height);
    context.globalCompositeOperation = "color";
    context.globalAlpha = 0.8;
    context.drawImage(layer, 0, 0);
    context.globalCompositeOperation = "source-over";
    context.globalAlpha = 0.36;
    context.drawImage(layer, 0, 0);
    context.globalAlpha = 1;
  }

  function outline(context, heat, level, rgb, reach) {
    const { width, height } = context.canvas;
    const line = layerOf(width, height, (data) => {
      for (let y = 0, at = 0; y < height; y++) {
        for (let x = 0; x < width; x++, at++) {
          if (edge(heat, at, x, y, width, height, level, reach)) set(data, at, rgb, 255);
        }
      }
    });
    context.drawImage(line, 0, 0);
  }

  // From a level on a tint is plain at once; without one it fades to nothing where nothing is.
  const shares = {
    heat: (value, level) => (value < level ? 0 : 255 * Math.min(1, level > 0 ? 0.12 + 0.5 * value : 0.62 * value)),
    light: (value, level) => 210 * (1 - (value < level ? 0 : Math.min(1, value / Math.max(level, 0.6)))),
  };

  /** Draw one concept over a picture. Modes: heat, light, line, off. */
  function drawOne(box, image, concept, mode, level) {
    const canvas = canvasOver(box, image, 640);
    const context = canvas.getContext("2d");
    const { width, height } = canvas;
    context.clearRect(0, 0, width, height);
    if (mode === "off") return;
    const map = image.maps.get(concept);
    const heat = map ? enlarge(image, map, width, height) : new Float32Array(width * height);
    const rgb = colour(concept);
    if (mode !== "line") {
      const layer = layerOf(width, height, (data) => {
        const ink = mode === "heat" ? rgb : [8, 8, 10];
        for (let at = 0; at < heat.length; at++) set(data, at, ink, shares[mode](heat[at], level));
      });
      if (mode === "heat") tint(context, box.querySelector("img"), layer);
      else context.drawImage(layer, 0, 0);
    }
    if (mode === "light" || level <= 0) return;
    const reach = Math.max(1, Math.round(width / 200));
    if (mode === "line") outline(context, heat, level, [255, 255, 255], 3 * reach);
    outline(context, heat, level, rgb, mode === "line" ? 2 * reach : reach);
  }

  /** Draw many concepts: the strongest wins a pixel, intensity by its heatmap. */
  function drawMany(canvas, picture, image, concepts) {
    const { width, height } = canvas;
    const best = new Float32Array(width * height);
    const winner = new Int16Array(width * height).fill(-1);
    const colours = concepts.map(colour);
    concepts.forEach((concept, index) => {
      const map = image.maps.get(concept);
      if (!map) return;
      const heat = enlarge(image, map, width, height);
      for (let at = 0; at < heat.length; at++) {
        if (heat[at] > best[at]) { best[at] = heat[at]; winner[at] = index; }
      }
    });
    const layer = layerOf(width, height, (data) => {
      for (let at = 0; at < best.length; at++) {
        if (winner[at] >= 0) set(data, at, colours[winner[at]], 255 * Math.min(1, best[at] / 1.4));
      }
    });
    tint(canvas.getContext("2d"), picture, layer);
  }

  return { put, load, pixels, canvasOver, colour, drawOne, drawMany };
})();
