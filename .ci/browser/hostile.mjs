// Walks through every page and every form of the console whose every text is markup that would run (see hostile/), and
// notes whether any of it ran, and whether each of them was shown: as text. In the environment: ADMIN and SHOP
// (addresses), TOKEN (the bootstrap token), ORDERD (the program, with ORDERD_DATA_DIR), CHROMIUM, SEEDED, a file that
// says which number is in which column; WALKED, a file for what was seen, is optional.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { ADMIN, admin, check, context, finish, somebody, TOKEN, until, watch } from "./kit.mjs";
import { pages, routeOf } from "./routes.mjs";
import { shown } from "./shown.mjs";

const { SEEDED, SHOP, WALKED } = process.env;
const seeded = JSON.parse(readFileSync(SEEDED, "utf8"));
// What is typed into forms and addresses here has numbers of its own.
const typed = (n) => `"><details/open/ontoggle=x(${n})>`;
const asked = { "an address": 1, "an act": 2, "a saved filter": 3, "a file of SKUs": 4, "a wrong line of one": 5,
  "a cell of a workbook": 6, "the head of a bill": 7 };
const fileName = 8; // of every file that is given: no page repeats it

// Whoever is signed in sees all of them but those by which one comes in.
const routes = pages.map((r) => r.path).filter((r) => !/^\/(login|setup)/.test(r));

const walker = await somebody("walker", "admin", 1440);
const { page } = walker;
const ran = [];
const trap = async (p) => {
  await p.exposeFunction("ran", (n) => ran.push(n));
  await p.addInitScript(() => { window.x = (n) => window.ran(n); });
  p.on("dialog", (d) => { check(false, "a dialog opens:", d.message()); d.dismiss(); });
};
await trap(page);

const seen = new Map(), read = new Map(), acts = new Set(), filled = new Set();
// reading is what stands on a page as text, and what of a stranger's became markup.
const reading = (p) => p.evaluate(() => {
  const all = Array.from(document.querySelectorAll("*")), attributes = all.flatMap((e) => Array.from(e.attributes));
  const alive = attributes.filter((a) => /^on/i.test(a.name) || /href|src|action/i.test(a.name) && /^\s*(javascript|data:text)/i.test(a.value))
    .map((a) => a.ownerElement.outerHTML.slice(0, 120));
  const scripts = all.filter((e) => e.tagName === "SCRIPT" && e.textContent).map((e) => e.outerHTML.slice(0, 120));
  const shown = all.filter((e) => !["SCRIPT", "STYLE", "TITLE"].includes(e.tagName)).flatMap((e) => [e.value ?? "",
    ...Array.from(e.childNodes).filter((n) => n.nodeType === 3).map((n) => n.data)]);
  return [[...shown, ...attributes.filter((a) => /^(title|aria-label)$/.test(a.name)).map((a) => a.value)].join("\n"), [...alive, ...scripts]];
});
const look = async (p, route) => {
  const [text, alive] = await reading(p);
  for (const a of alive) check(false, route, "has a stranger's markup:", a);
  for (const [, n] of text.matchAll(/x\((\d+)\)?/g)) seen.set(Number(n), (seen.get(Number(n)) ?? new Set()).add(route));
};
const goto = async (path) => {
  const answer = await page.goto(ADMIN + path);
  check(answer.status() < 500, path, "is answered", answer.status());
};

// walk reads a page and what its acts open in its dialog, and notes where it leads; each route by some numbers.
const queue = ["/", ...routes.filter((r) => !r.includes(":")), ...["", "REFUND_"].map((of) => `/ui/differences?type=${of}AMOUNT_MISMATCH`), "/ui/people/left",
  ...["/ui/search?q=", "/ui/orders?customer_id=", "/ui/stock?q=", "/ui/differences?assignee=", "/ui/trail?actor=", "/ui/orders/"]
    .map((p) => p + encodeURIComponent(typed(1)))];
const walk = async (path) => {
  const route = routeOf(new URL(path, ADMIN).pathname);
  if (!route || (read.get(route)?.size ?? 0) >= 4 || read.get(route)?.has(path)) return;
  read.set(route, (read.get(route) ?? new Set()).add(path));
  await goto(path);
  await look(page, route);
  for (const link of await page.locator("main a[data-act]").all()) {
    const act = await link.getAttribute("data-act");
    if (acts.has(act) || !(await link.isVisible())) continue;
    acts.add(act);
    await link.click();
    await page.locator("dialog.sheet[open] h1").waitFor();
    await look(page, routeOf(await link.evaluate((e) => e.pathname)) ?? route);
    await page.keyboard.press("Escape");
  }
  queue.push(...await page.evaluate((origin) => Array.from(document.querySelectorAll("a[href]")).map((a) => new URL(a.href))
    .filter((u) => u.origin === origin).map((u) => u.pathname + u.search), ADMIN));
};
while (queue.length) await walk(queue.shift());

// What nothing leads to now, such as an act that cannot be done, is still a page: by the numbers of others.
for (const route of routes.filter((r) => !read.has(r))) {
  const like = Array.from(read.entries()).find(([r]) => r.includes(":") && r.split("/")[2] === route.split("/")[2]);
  const number = like ? Array.from(like[1])[0].split("/")[3].split("?")[0] :
    { refunds: (await admin("refunds?limit=1")).data[0]?.out_refund_no, held: (await admin("held?limit=1")).data[0]?.transaction_id }[route.split("/")[2]];
  await walk(route.replace(/:[a-z]+/, number));
}
for (const r of routes) check(read.has(r), "no page is", r);

// Every form of an act is filled in and sent, and so is the one that saves a filter.
for (const [route, paths] of read) {
  const path = Array.from(paths)[0];
  await goto(path);
  if (!(await page.locator("main form.act:not([enctype])").count())) continue;
  filled.add(route);
  for (const field of await page.locator("main form.act").locator("input[type=text], input:not([type]), textarea").all()) await field.fill(typed(2));
  await page.locator("main form.act button.do").click();
  await page.waitForLoadState();
  await look(page, route);
}
check(filled.size >= 25, "only", filled.size, "forms could be sent: what they write is not looked at");
await goto("/ui/orders");
await page.locator("main summary").first().click();
await page.fill("main form[action='/ui/views'] [name=name]", typed(3));
await page.click("main form[action='/ui/views'] button");
await page.waitForLoadState();
await look(page, "/ui/orders");

// Files are given with markup in their names, and in what is shown of them: a SKU, a line that cannot be read, a cell of
// finance's workbook, the head of a bill.
const give = async (path, field, ext, content, more = {}) => {
  await goto(path);
  const form = page.locator("main form.act").filter({ has: page.locator(`[name=${field}]`) });
  for (const [name, text] of Object.entries(more)) await form.locator(`[name=${name}]`).fill(text);
  await form.locator(`[name=${field}]`).setInputFiles({ name: `"><img src=q onerror=x(${fileName})>.${ext}`,
    mimeType: "application/octet-stream", buffer: Buffer.from(content) });
  await form.locator("button.do").click();
  await page.locator("main [role=alert], main [role=status], main .why").first().waitFor();
  await look(page, path);
};
const columns = "sku_id,title,price_fen,quantity\n", cell = (n) => `"${typed(n).replaceAll('"', '""')}"`;
await give("/ui/skus/import", "csv", "csv", `${columns}hostile,${cell(4)},1,1\n`);
await give("/ui/skus/import", "csv", "csv", `${columns}hostile,a,${cell(5)},1\n`);
const bearer = { headers: { Authorization: "Bearer " + TOKEN } };
const { Workbook } = createRequire(new URL("../readers/package.json", import.meta.url))("exceljs");
const work = new Workbook();
await work.xlsx.load(await (await fetch(ADMIN + "/admin/v1/differences/work.xlsx", bearer)).arrayBuffer());
const first = work.worksheets[0], titles = first.getRow(1).values;
check(first.rowCount > 1, "no difference is open for a workbook");
first.getRow(2).getCell(titles.findIndex((title) => String(title).endsWith(" comment"))).value = typed(6);
await give("/ui/differences/import", "workbook", "xlsx", await work.xlsx.writeBuffer());
const day = (await admin("reconciliations")).data.find((r) => r.bill_type === "ALL" && r.bill_sha1);
const bill = await (await fetch(`${ADMIN}/admin/v1/reconciliations/${day.id}/bill`, bearer)).text();
const quiet = new Date(Date.parse(day.bill_date) - 9 * 86400e3).toISOString().slice(0, 10); // a day that has no bill which counts
await give("/ui/reconciliations/upload", "bill", "csv", bill.replace(/\r?\n/, (end) => "," + typed(7) + end),
  { bill_date: quiet, reason: "x" });
await until(async () => {
  await goto(`/ui/reconciliations/${quiet}-ALL`);
  await look(page, "/ui/reconciliations/:id");
  return seen.has(7);
});
check(!seen.has(fileName), "the name of a file is shown by", ...(seen.get(fileName) ?? []));

// The storefront shows what a shop calls its goods.
const c = await context({ locale: "zh-CN" }), shop = await c.newPage();
await trap(shop);
await watch(shop, SHOP, () => ({ name: "storefront" }));
await shop.goto(SHOP + "/");
await look(shop, "storefront");

// What is looked for is found where it is: in a page of nobody's, without the policy of the console.
const bare = await c.newPage();
await bare.setContent(["'><script>x(1)</script>", "<a href='javascript:x(1)'>", typed(1)].map((text) => `<p title="${text}">`).join(""));
check((await reading(bare))[1].length === 1, "of three, one of which is markup, are found", (await reading(bare))[1].length);
await bare.setContent(`${typed(1)}<a href="javascript:x(1)">a</a><script>1</script>`);
check((await reading(bare))[1].length === 3, "of three that are markup are found", (await reading(bare))[1].length);

check(ran.length === 0, "it ran:", ran);
for (const [what, n] of Object.entries(asked)) check(seen.has(n), "nothing shows what was typed into", what);
for (const [column, n] of Object.entries(seeded)) {
  if (!(column in shown)) check(false, column, "is not in the list of what shows it");
  else if (!shown[column].startsWith("/")) check(!seen.has(n), column, "is shown by", ...(seen.get(n) ?? []));
  else check(seen.get(n)?.has(shown[column]), column, "is not shown by", shown[column]);
}
for (const column of Object.keys(shown)) check(column in seeded, column, "is in the list and was not filled");
if (WALKED) writeFileSync(WALKED, JSON.stringify(Object.fromEntries([...Object.entries(seeded), ...Object.entries(asked)]
  .map(([what, n]) => [what, [...(seen.get(n) ?? [])]])), null, 1));
await finish(`hostile: ${[...read.values()].reduce((n, s) => n + s.size, 0)} pages of ${read.size} routes, ${acts.size} dialogs, ` +
  `${filled.size} forms sent, ${seen.size} texts seen`);
