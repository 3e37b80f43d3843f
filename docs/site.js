// The switch "Story": code is folded away for readers who want the prose and the pictures. The choice
// is kept for the next page. And pictures in frames: a slider chooses which one is seen.
(() => {
  const key = "spat-code";
  const root = document.documentElement;
  const kept = () => { try { return localStorage.getItem(key); } catch { return null; } };
  root.dataset.code = kept() === "folded" ? "folded" : "open";

  function addSwitch() {
    const cells = document.querySelectorAll(".bd-article div.cell_input");
    const place = document.querySelector(".article-header-buttons");
    if (!cells.length || !place) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "btn btn-sm story-switch";
    const say = () => {
      const folded = root.dataset.code === "folded";
      button.textContent = folded ? "Show code" : "Hide code";
      button.setAttribute("aria-pressed", String(folded));
    };
    button.addEventListener("click", () => {
      root.dataset.code = root.dataset.code === "folded" ? "open" : "folded";
      try { localStorage.setItem(key, root.dataset.code); } catch { /* private window */ }
      say();
    });
    say();
    place.prepend(button);
  }

  function addFrames() {
    for (const box of document.querySelectorAll(".frames")) {
      const slider = box.querySelector("input[type=range]");
      const frames = [...box.querySelectorAll("figure")];
      const show = () => frames.forEach((f, i) => { f.hidden = i !== Number(slider.value); });
      slider.addEventListener("input", show);
      show();
    }
  }

  function start() { addSwitch(); addFrames(); }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
