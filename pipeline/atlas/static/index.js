// The front page and the list of images: filter and sort what is there; the address keeps the state.
"use strict";

(() => {
  const by = (id) => document.getElementById(id);
  const [list, form, q, shown, nothing] = ["cards", "filters", "q", "shown", "nothing"].map(by);
  const [classBox, kindBox, sortBox] = ["class", "kind", "sort"].map(by);
  const cards = [...list.children];
  const noun = shown.textContent.trim().split(" ").pop();
  const onMap = (kind) =>
    new Map([...document.querySelectorAll(kind)].map((each) => [each.dataset.id, each]));
  const [discs, names] = [onMap(".disc"), onMap(".disc-name")];

  const number = (card, key) => (card.dataset[key] ? Number(card.dataset[key]) : -Infinity);
  const orders = {
    name: (a, b) => a.dataset.name.localeCompare(b.dataset.name) || number(a, "id") - number(b, "id"),
    id: (a, b) => number(a, "id") - number(b, "id"),
  };

  function matches(card, words) {
    const text = `${card.dataset.words} ${card.dataset.id ?? ""}`;
    return words.every((word) => text.includes(word))
      && (!classBox?.value || card.dataset.class === classBox.value)
      && (!kindBox?.value || card.dataset.kind === kindBox.value);
  }

  function filter() {
    const words = q.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const card of cards) {
      const keep = matches(card, words);
      card.hidden = !keep;
      count += keep;
      for (const each of [discs, names]) each.get(card.dataset.id)?.classList.toggle("out", !keep);
    }
    shown.textContent = count === cards.length ? `${count} ${noun}` : `${count} of ${cards.length} ${noun}`;
    nothing.hidden = count > 0;
  }

  function sort() {
    if (!sortBox) return;
    const key = sortBox.value;
    const order = orders[key] ?? ((a, b) => number(b, key) - number(a, key) || orders.id(a, b));
    list.append(...cards.sort(order));
  }

  function remember() {
    const state = new URLSearchParams();
    if (q.value) state.set("q", q.value);
    if (classBox?.value) state.set("class", classBox.value);
    if (sortBox && sortBox.value !== "energy") state.set("sort", sortBox.value);
    if (kindBox?.value) state.set("kind", kindBox.value);
    const text = state.toString();
    history.replaceState(null, "", text ? `#${text}` : location.pathname);
  }

  function recall() {
    const state = new URLSearchParams(location.hash.slice(1));
    if (!["q", "class", "sort", "kind"].some((key) => state.has(key))) return;
    q.value = state.get("q") ?? "";
    if (classBox) classBox.value = state.get("class") ?? "";
    if (sortBox && state.has("sort")) sortBox.value = state.get("sort");
    if (sortBox && !sortBox.value) sortBox.value = "energy";
    if (classBox && classBox.selectedIndex < 0) classBox.value = "";
    if (kindBox) kindBox.value = state.get("kind") ?? "";
    if (kindBox && kindBox.selectedIndex < 0) kindBox.value = "";
  }

  function update() { filter(); sort(); remember(); }

  form.hidden = false;
  recall();
  filter();
  sort();
  q.addEventListener("input", update);
  form.addEventListener("change", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  by("reset").addEventListener("click", () => { form.reset(); update(); q.focus(); });
  addEventListener("hashchange", () => { recall(); filter(); sort(); });
})();
