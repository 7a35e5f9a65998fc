// The pictures of a concept's page: heatmaps drawn when they come into view, as the controls say.
"use strict";

(() => {
  const controls = document.getElementById("controls");
  const slider = document.getElementById("threshold");
  const output = controls.querySelector("output");
  const shots = [...document.querySelectorAll(".shot[data-concept]")];
  const loaded = new Map();
  const visible = new Set();

  // The address keeps what was set on this page; the mode is also kept from page to page.
  const modes = ["heat", "light", "line", "off"];
  const given = new URLSearchParams(location.hash.slice(1));
  const wanted = [given.get("mode"), concordanceKept.get("concordance-mode"), "heat"].find((each) => modes.includes(each));
  controls.querySelector(`input[name=mode][value="${wanted}"]`).checked = true;
  if (Number(given.get("threshold")) > 0) slider.value = given.get("threshold");
  output.value = Number(slider.value).toFixed(2);
  controls.hidden = false;

  function remember() {
    const state = new URLSearchParams({ mode: mode(), threshold: slider.value });
    history.replaceState(null, "", `#${state}`);
  }

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
  controls.addEventListener("change", () => { concordanceKept.set("concordance-mode", mode()); remember(); redraw(); });
  addEventListener("resize", redraw);
})();
