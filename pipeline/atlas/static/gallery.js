// The pictures of a concept's page: heatmaps drawn when they come into view, as the controls say.
"use strict";

(() => {
  const controls = document.getElementById("controls");
  const slider = document.getElementById("threshold");
  const output = controls.querySelector("output");
  const shots = [...document.querySelectorAll(".shot[data-concept]")];
  const loaded = new Map();
  const visible = new Set();

  const kept = concordanceKept.get("concordance-mode");
  const choice = controls.querySelector(`input[name=mode][value="${["light", "line", "off"].includes(kept) ? kept : "heat"}"]`);
  choice.checked = true;
  controls.hidden = false;

  const mode = () => controls.querySelector("input[name=mode]:checked").value;

  function draw(shot) {
    const image = loaded.get(shot);
    if (image) concordance.drawOne(shot, image, Number(shot.dataset.concept), mode(), Number(slider.value));
  }

  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) { visible.delete(target); continue; }
      visible.add(target);
      Promise.all([concordance.load(target.dataset.image), target.querySelector("img").decode()])
        .then(([image]) => { loaded.set(target, image); draw(target); });
    }
  }, { rootMargin: "200px" });
  shots.forEach((shot) => watcher.observe(shot));

  let frame = 0;
  function redraw() {
    output.value = Number(slider.value).toFixed(2);
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => visible.forEach(draw));
  }
  slider.addEventListener("input", redraw);
  controls.addEventListener("change", () => { concordanceKept.set("concordance-mode", mode()); redraw(); });
  addEventListener("resize", redraw);
})();
