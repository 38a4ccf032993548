// Every page works without this script.
"use strict";
(() => {
  const one = (s, from) => (from || document).querySelector(s);
  const asPage = { headers: { Accept: "text/html" } };
  const parsed = async (answer) => new DOMParser().parseFromString(await answer.text(), "text/html");
  const all = (s) => Array.from(document.querySelectorAll(s));

  // Beside every number a button that copies it.
  const copied = document.body.dataset.copied, copy = document.body.dataset.copy;
  const dress = () => all("[data-id]").forEach((id) => {
    const text = id.textContent;
    if (!text) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.title = copy;
    button.setAttribute("aria-label", copy + " " + text);
    button.addEventListener("click", async (e) => {
      e.preventDefault();
      try {
        await navigator.clipboard.writeText(text);
      } catch {
        // No permission, or no TLS: the number is selected, for the keys of the browser.
        getSelection().selectAllChildren(id);
        return;
      }
      button.classList.add("done");
      button.title = copied;
      setTimeout(() => { button.classList.remove("done"); button.title = copy; }, 1500);
    });
    (id.closest("a") || id).after(button);
  });
  dress();

  const help = one("#help");
  const opener = one("[data-help]");
  if (opener && help) {
    opener.hidden = false;
    opener.addEventListener("click", () => help.showModal());
  }

  // Acts open in a dialog over the page that they are about; without it they are pages of their own.
  const sheet = document.createElement("dialog");
  sheet.className = "sheet";
  document.body.append(sheet);
  const fill = async (answer) => {
    if (answer.redirected) {
      return answer.url === location.href ? location.reload() : location.assign(answer.url);
    }
    const main = one("main", await parsed(answer));
    if (!main) return location.reload();
    main.querySelectorAll(".crumb").forEach((e) => e.remove());
    sheet.replaceChildren(...main.childNodes);
    if (!sheet.open) sheet.showModal();
    const first = one("[aria-invalid],textarea,select,input:not([type=hidden],[readonly]),button", sheet);
    first?.focus();
  };
  document.addEventListener("click", (e) => {
    const link = e.target.closest("a[data-act],dialog.sheet a[data-cancel]");
    if (!link || e.ctrlKey || e.metaKey || e.shiftKey) return;
    e.preventDefault();
    if (!link.dataset.act) return sheet.close();
    fetch(link.href, asPage).then(fill).catch(() => location.assign(link.href));
  });
  sheet.addEventListener("submit", (e) => {
    const form = e.target, button = one("button", form);
    const says = (name) => form.getAttribute(name); // form.action is a field, where one has that name
    if (says("method") !== "post" || button.disabled) return;
    e.preventDefault();
    button.disabled = true;
    fetch(says("action"), { method: "POST", body: new URLSearchParams(new FormData(form)), ...asPage })
      .then(fill).catch(() => {
        const p = document.createElement("p");
        p.className = "why bad";
        p.setAttribute("role", "alert");
        p.textContent = says("data-lost") || "?";
        form.prepend(p);
      }).finally(() => { button.disabled = false; });
  });

  // x: what can be done about the chosen row, over the list: its own acts, else those of the page that it opens.
  const offer = async (row) => {
    const link = one("a[href]", row), id = one("[data-id]", row), bar = document.createElement("p");
    let found = row.querySelectorAll("[data-act]");
    if (found.length === 1) return found[0].click();
    if (!found.length) found = (await parsed(await fetch(link.href, asPage))).querySelectorAll("main .acts [data-act]");
    if (!found.length) return location.assign(link.href);
    bar.className = "bar";
    bar.append(id ? id.textContent : "", ...Array.from(found, (a) => a.cloneNode(true)));
    sheet.replaceChildren(bar);
    sheet.showModal();
    one("a", bar).focus();
  };

  // Rows that j and k walk through, Enter opens, and x offers the acts of.
  let at = -1;
  const rows = () => all("table.stack tbody tr").filter((r) => one("a[href]", r));
  const walk = (step) => {
    const list = rows();
    if (!list.length) return;
    if (list[at]) list[at].removeAttribute("aria-selected");
    at = Math.max(0, Math.min(list.length - 1, at + step));
    list[at].setAttribute("aria-selected", "true");
    list[at].scrollIntoView({ block: "nearest" });
  };

  const typing = (e) => {
    const t = e.target || e;
    return t instanceof HTMLElement && (t.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(t.tagName));
  };
  let going = -Infinity; // when g was pressed
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.isComposing) return;
    if (e.key === "Escape" && typing(e)) {
      e.target.blur();
      return;
    }
    if (typing(e) || sheet.open || (help && help.open)) return;
    const go = performance.now() - going < 1500;
    going = -Infinity;
    if (go) {
      const link = /^[a-z]$/.test(e.key) && one('nav a[data-go="' + e.key + '"]');
      if (link) {
        e.preventDefault();
        link.click();
        return;
      }
    }
    switch (e.key) {
      case "/": {
        const box = one("header input[type=search]");
        if (!box) return;
        box.focus();
        box.select();
        break;
      }
      case "?":
        if (!help) return;
        help.showModal();
        break;
      case "g":
        going = performance.now();
        break;
      case "j":
        walk(1);
        break;
      case "k":
        walk(-1);
        break;
      case "Enter": {
        const row = rows()[at];
        if (!row || e.target !== document.body && e.target.id !== "main") return;
        one("a[href]", row).click();
        break;
      }
      case "x": {
        const row = rows()[at];
        if (row) offer(row).catch(() => location.assign(one("a[href]", row).href));
        break;
      }
      case "Escape":
        for (const r of rows()) r.removeAttribute("aria-selected");
        at = -1;
        break;
      default: {
        // The act of the chosen row, or of the page where it has one.
        const row = rows()[at], found = /^[a-z]$/.test(e.key) ? all((row ? 'tr[aria-selected] ' : "main ") +
          '[data-key="' + e.key + '"]') : [];
        if (found.length !== 1) return;
        found[0].click();
      }
    }
    e.preventDefault();
  });

  // Live: counts in the menu, and that something has changed. A list never moves by itself; the page of
  // an order is loaded anew when it changes, unless somebody types, selects or decides there.
  const where = document.body.dataset.live, main = one("#main");
  if (where && window.EventSource) {
    const watch = main.dataset.watch, link = one("#news a"), button = one("#pause"), orders = new Set();
    let source = null, more = "", missed = false;
    const paused = () => { try { return localStorage.orderdPaused === "1"; } catch { return false; } };
    const say = (text) => { link.textContent = text; link.href = location.href; link.hidden = false; };
    const busy = () => typing(document.activeElement) || one("dialog[open]") || String(getSelection()).length > 0;
    const fresh = async () => {
      const answer = await fetch(location.href, { headers: { Accept: "text/html", "X-Orderd-Live": "1" } });
      if (!answer.ok || answer.redirected) throw new Error(answer.status);
      return one("#main", await parsed(answer));
    };
    const reload = async () => {
      if (busy()) return say(link.dataset.stale);
      const now = await fresh().catch(() => null);
      if (!now || busy()) return say(link.dataset.stale);
      main.replaceChildren(...now.childNodes);
      dress();
    };
    setInterval(() => { if (one("[data-every]") && !paused() && !busy()) reload(); }, 3000);
    const changed = async () => {
      if (watch && watch !== "*") return reload();
      if (watch) say(link.dataset.new.replace("{n}", orders.size + more));
    };
    const stop = () => { if (source) source.close(); source = null; };
    const start = () => {
      if (source || paused() || document.hidden) return;
      source = new EventSource(where);
      source.addEventListener("counts", (e) => {
        const counts = JSON.parse(e.data);
        for (const b of all("[data-count]")) {
          b.textContent = counts[b.dataset.count] || 0;
          b.hidden = !counts[b.dataset.count];
        }
      });
      source.addEventListener("changed", (e) => {
        const m = JSON.parse(e.data);
        if (m.more) more = "+";
        for (const no of m.orders) orders.add(no);
        if (watch === "*" || m.orders.includes(watch) || m.more) changed();
      });
      source.addEventListener("open", async () => {
        if (missed && watch && watch !== "*") reload();
        else if (missed && watch) {
          const now = await fresh().catch(() => null);
          if (now && Array.from(now.querySelectorAll("a[href], .st")).map((n) => n.textContent).join() !==
            Array.from(main.querySelectorAll("a[href], .st")).map((n) => n.textContent).join()) say(link.dataset.stale);
        }
        missed = false;
      });
      source.addEventListener("over", stop);
      source.addEventListener("error", () => { missed = true; });
    };
    const show = () => {
      button.hidden = false;
      button.textContent = paused() ? button.dataset.resume : button.dataset.pause;
    };
    button.addEventListener("click", () => {
      try { localStorage.orderdPaused = paused() ? "0" : "1"; } catch { /* for this page alone there is nothing */ }
      if (paused()) stop();
      missed = true;
      start();
      show();
    });
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) { stop(); missed = true; } else start();
    });
    show();
    start();
  }
})();
