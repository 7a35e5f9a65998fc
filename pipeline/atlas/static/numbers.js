// The page of all numbers: the slider cuts the tree, redraws pictures, and deals out the cards.
"use strict";

(async () => {
  const root = document.documentElement.dataset.root;
  const slider = document.getElementById("number");
  const said = document.getElementById("said");
  const cards = document.getElementById("cards");
  const tree = JSON.parse(cards.dataset.tree);
  const shots = [...document.querySelectorAll(".shot[data-image]")];
  const MOST = 60;

  const leavesOf = [];
  for (let leaf = 0; leaf < tree.k; leaf++) leavesOf.push([leaf]);
  for (const [a, b] of tree.parts) leavesOf.push([...leavesOf[a], ...leavesOf[b]]);
  // A merged concept is typically as strong as its parts, weighed by what they explain.
  const scale = leavesOf.map((leaves) => {
    const whole = leaves.reduce((sum, leaf) => sum + tree.energy[leaf], 0) || 1;
    return leaves.reduce((sum, leaf) => sum + tree.energy[leaf] * tree.length[leaf], 0) / whole || 1;
  });

  /** The nodes that there are at n concepts: those made by the first k - n mergers, or merged by none. */
  function cut(n) {
    const there = new Set(leavesOf.slice(0, tree.k).keys());
    for (let at = 0; at < tree.k - n; at++) {
      const [a, b] = tree.parts[at];
      there.delete(a);
      there.delete(b);
      there.add(tree.k + at);
    }
    return [...there].sort((a, b) => tree.energy[b] - tree.energy[a]);
  }

  function merged(image, nodes) {
    const maps = new Map();
    for (const node of nodes) {
      let sum = null;
      for (const leaf of leavesOf[node]) {
        const map = image.maps.get(leaf);
        if (!map) continue;
        sum ??= new Float32Array(map.length);
        const times = tree.length[leaf] / scale[node];
        for (let at = 0; at < map.length; at++) sum[at] += map[at] * times;
      }
      if (sum) maps.set(tree.slot[node], sum);
    }
    return { ...image, maps };
  }

  async function draw(shot, nodes) {
    const image = await concordance.load(shot.dataset.image);
    if (!nodes.every((node, at) => node === shown[at])) return; // the slider has moved on
    const canvas = concordance.canvasOver(shot, image, 480);
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    const now = merged(image, nodes);
    concordance.drawMany(canvas, shot.querySelector("img"), now, [...now.maps.keys()]);
  }

  function element(name, css, text) {
    const made = document.createElement(name);
    if (css) made.className = css;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function card(node) {
    const item = element("li", "card");
    const leaves = leavesOf[node];
    const strongest = [...leaves].sort((a, b) => tree.energy[b] - tree.energy[a]);
    const pictured = strongest.find((leaf) => tree.crops[leaf]);
    const link = element("a");
    link.href = `${root}concepts/${strongest[0]}.html`;
    if (pictured === undefined) link.append(element("span", "no-crops", "in no image"));
    else {
      const picture = element("img");
      Object.assign(picture, { src: `${root}media/concept-${pictured}.jpg`, width: 320, height: 320, loading: "lazy", alt: "" });
      link.append(picture);
    }
    const name = element("span", "card-name");
    const swatch = element("span", `swatch c${tree.slot[node]}`);
    swatch.setAttribute("aria-hidden", "true");
    name.append(swatch, element("span", "text", tree.names[node]));
    link.append(name);
    item.append(link);
    const share = `${(100 * tree.energy[node]).toFixed(1)}% of the energy`;
    const many = leaves.length > 1 ? ` · ${leaves.length} concepts` : "";
    item.append(element("p", "also", share + many));
    if (node >= tree.k) {
      const parts = tree.parts[node - tree.k].map((part) => tree.names[part]);
      const into = parts[0] === parts[1] ? "in two" : `into ${parts.join(" | ")}`;
      const list = element("p", "also splits", `splits at ${2 * tree.k - node} ${into}`);
      item.append(list);
    }
    return item;
  }

  let shown = [];
  let waiting = 0;
  function show() {
    const n = tree.steps[Number(slider.value)];
    said.textContent = n;
    slider.setAttribute("aria-valuetext", `${n} concepts`);
    for (const button of document.querySelectorAll("#levels button")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.n) === n));
    }
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => {
      shown = cut(n);
      cards.replaceChildren(...shown.slice(0, MOST).map(card));
      const more = shown.length > MOST ? `, the ${MOST} strongest below` : "";
      document.getElementById("shown").textContent = `${n} concept${n > 1 ? "s" : ""}${more}`;
      for (const shot of shots) draw(shot, shown);
    });
  }

  function nearest(n) {
    let best = 0;
    tree.steps.forEach((step, at) => { if (Math.abs(step - n) < Math.abs(tree.steps[best] - n)) best = at; });
    return best;
  }

  await Promise.all(shots.map((shot) => shot.querySelector("img").decode()));
  document.getElementById("controls").hidden = false;
  slider.addEventListener("input", show);
  document.getElementById("levels").addEventListener("click", (event) => {
    const n = event.target.dataset?.n;
    if (n) { slider.value = nearest(Number(n)); show(); }
  });
  addEventListener("resize", () => shots.forEach((shot) => draw(shot, shown)));
  show();
})();
