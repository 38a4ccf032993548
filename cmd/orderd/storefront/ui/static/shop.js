// Keeps a page up to date, and sends the phone's buttons without loading it again. Without this script every
// form works, and the page loads itself again every three seconds.
"use strict";
(() => {
  const main = document.querySelector("#main"), said = document.querySelector("#said"), away = document.querySelector("#away");
  const { live, key } = main.dataset;
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));

  // What is left of the time to pay. Both clocks are of this machine.
  const clocks = () => {
    for (const e of document.querySelectorAll("[data-until]")) {
      e.dataset.text ||= e.textContent;
      const left = Math.max(0, Math.ceil((Date.parse(e.dataset.until) - Date.now()) / 1000));
      const text = `${e.dataset.text} ${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
      if (e.textContent !== text) e.textContent = text;
    }
  };
  setInterval(clocks, 250);
  clocks();

  // The new part takes the place of the old one; the keyboard stays where it was, and steps that were there do not move.
  const put = (html, rev) => {
    const at = document.activeElement && document.activeElement.id;
    main.innerHTML = html;
    main.dataset.rev = rev;
    if (at) (document.getElementById(at) || (at.startsWith("do-") ? main : document.body)).focus({ preventScroll: true });
    const sentence = main.querySelector(".verdict h1");
    if (sentence && said.textContent !== sentence.textContent) said.textContent = sentence.textContent;
    clocks();
  };

  const watch = async () => {
    for (;;) {
      if (document.hidden) {
        await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
        continue;
      }
      try {
        const answer = await fetch(`${live}?seen=${main.dataset.rev}&key=${encodeURIComponent(key)}`);
        if (answer.status === 200) {
          const html = await answer.text();
          if (!main.hasAttribute("aria-busy")) put(html, answer.headers.get("Shop-Rev"));
          else await pause(100);
        } else if (answer.status === 404) {
          return location.reload(); // it is not there any more, and the page says so
        } else if (answer.status !== 204) {
          throw new Error(answer.status);
        }
        away.hidden = true;
      } catch {
        away.hidden = false;
        await pause(1000);
      }
    }
  };
  if (live) watch();

  document.addEventListener("submit", async (e) => {
    const form = e.target;
    if (!form.matches("[data-act]")) return;
    e.preventDefault();
    if (main.hasAttribute("aria-busy")) return;
    main.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams() });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("#main");
      if (!answer.ok || !page) throw new Error(answer.status);
      put(page.innerHTML, page.dataset.rev);
      away.hidden = true;
    } catch {
      away.hidden = false;
    }
    main.removeAttribute("aria-busy");
  });

  // A page that comes back with the back button may be old.
  addEventListener("pageshow", (e) => { if (e.persisted) location.reload(); });
})();
