// The page of one image: the composite, which concepts take part in it, regions and object.
"use strict";

(async () => {
  const viewer = document.getElementById("viewer");
  const stage = viewer.querySelector(".stage");
  const items = [...document.querySelectorAll("#legend li[data-concept]")];
  const boxes = [...document.querySelectorAll("#regions tr[data-box]")];
  const shots = [...document.querySelectorAll(".shot[data-concept]")];
  const on = (id) => document.getElementById(id)?.checked ?? false;
  const [image] = await Promise.all([
    concordance.load(viewer.dataset.image),
    stage.querySelector("img").decode(),
  ]);
  let alone = null;
  let object = null;

  const chosen = () => alone !== null ? [alone]
    : items.filter((item) => item.querySelector("input").checked).map((item) => Number(item.dataset.concept));

  function drawRegions(context, concepts, scale) {
    context.lineWidth = Math.max(2, context.canvas.width / 320);
    for (const { dataset } of boxes) {
      if (!concepts.includes(Number(dataset.concept))) continue;
      const [x0, y0, x1, y1] = dataset.box.split(",").map((each) => Number(each) * scale);
      context.strokeStyle = `rgb(${concordance.colour(dataset.concept).join(" ")})`;
      context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    }
  }

  function drawObject(context) {
    const { width, height } = context.canvas;
    const layer = new OffscreenCanvas(object.width, object.height);
    const shade = new ImageData(object.width, object.height);
    for (let at = 0; at < object.width * object.height; at++) {
      shade.data[4 * at + 3] = object.data[4 * at] ? 0 : 165;
    }
    layer.getContext("2d").putImageData(shade, 0, 0);
    context.drawImage(layer, 0, 0, width, height);
  }

  function draw() {
    const canvas = concordance.canvasOver(stage, image, 1024);
    const context = canvas.getContext("2d");
    const concepts = chosen();
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (on("show-tint")) concordance.drawMany(canvas, stage.querySelector("img"), image, concepts);
    if (on("show-mask") && object) drawObject(context);
    if (on("show-regions")) drawRegions(context, concepts, canvas.width / Number(viewer.dataset.width));
    for (const item of items) item.classList.toggle("on", Number(item.dataset.concept) === alone);
  }

  function single(concept) { alone = concept; draw(); }

  for (const item of items) {
    const box = item.querySelector("input");
    const concept = Number(item.dataset.concept);
    box.disabled = false;
    item.addEventListener("pointerenter", () => single(concept));
    item.addEventListener("pointerleave", () => single(null));
    item.addEventListener("focusin", () => single(concept));
    item.addEventListener("focusout", () => single(null));
  }
  if (image.mask) object = await concordance.pixels(image.mask);
  document.getElementById("show-mask")?.toggleAttribute("disabled", !object);
  document.getElementById("switches").hidden = false;
  viewer.addEventListener("change", draw);
  addEventListener("resize", draw);
  draw();
  for (const shot of shots) {
    shot.querySelector("img").decode().then(() => {
      concordance.drawOne(shot, image, Number(shot.dataset.concept), "heat", 0);
    });
  }
})();
