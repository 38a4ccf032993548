// Takes files from the console's pages as 财务 does, and reads them with what others read workbooks with: the numbers
// are those of the page. In the environment: ADMIN (its address), TOKEN (the bootstrap token), ORDERD (the program,
// with ORDERD_DATA_DIR), CHROMIUM.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { ADMIN, check, finish, somebody } from "./kit.mjs";

const readers = createRequire(new URL("../readers/package.json", import.meta.url));
const ExcelJS = readers("exceljs"), SheetJS = readers("xlsx");

// sheets are the first sheet of a workbook, as two libraries read it: rows of text.
const sheets = async (path) => {
  const book = new ExcelJS.Workbook();
  await book.xlsx.readFile(path);
  const one = [];
  book.worksheets[0].eachRow({ includeEmpty: true }, (row) => one.push(row.values.slice(1).map((v) => String(v?.result ?? v ?? ""))));
  const other = SheetJS.read(readFileSync(path));
  const two = SheetJS.utils.sheet_to_json(other.Sheets[other.SheetNames[0]], { header: 1, defval: "" }).map((row) => row.map(String));
  return [one, two];
};
// csv reads a file without line breaks in its fields.
const csv = (path) => readFileSync(path, "utf8").replace(/^\ufeff/, "").trim().split(/\r?\n/).map((line) =>
  Array.from(line.matchAll(/("([^"]|"")*"|[^,]*)(,|$)/g)).slice(0, -1).map((m) => m[1].replace(/^"|"$/g, "").replaceAll('""', '"')));

const fin = await somebody("fin", "finance", 1440);
const download = async (selector) => {
  const coming = fin.page.waitForEvent("download");
  await fin.click(selector);
  const path = await (await coming).path();
  check(path, "nothing is downloaded by", selector);
  return path;
};
const fen = (text) => Math.round(Number(text.replace(/[^\d.−-]/g, "").replace("−", "-")) * 100);
// column is what a table has under a name for programs, which stands last in its head.
const column = (rows, name) => {
  const n = rows[0].findIndex((title) => title.split(" ").pop() === name);
  check(n >= 0, "no column", name, "in", rows[0].join());
  return rows.slice(1).map((row) => row[n] ?? "");
};
const sum = (values) => values.reduce((n, v) => n + fen(v), 0);

// Orders: what the filter means, all of it, with the sum that the page says.
await fin.go("/ui/orders?state=paid");
const said = await fin.page.locator("main .bar span", { hasText: "¥" }).first().textContent();
const [count, total] = [Number(said.match(/(\d[\d,]*) /)[1].replaceAll(",", "")), fen(said.match(/¥([\d,.]+)/)[1].replaceAll(",", ""))];
const first = await fin.page.locator("main table.stack tbody tr td:first-child code").allTextContents();
const tables = { csv: csv(await download("main a[href^='/ui/orders.csv']")) };
[tables.exceljs, tables.sheetjs] = await sheets(await download("main a[href^='/ui/orders.xlsx']"));
for (const [by, rows] of Object.entries(tables)) {
  const numbers = column(rows, "order_no").filter((v) => /^[0-9A-Z]{26}$/.test(v));
  check(count > 0 && numbers.length === count, `orders by ${by}:`, numbers.length, "of", count);
  check(first.length > 0 && first.every((no) => numbers.includes(no)), `orders by ${by} lack some of the page`);
  const yuan = column(rows, "amount_yuan");
  check(sum(yuan) === total, `orders by ${by}: ${sum(yuan)} fen, the page says ${total}`);
}

// A day's differences, in the workbook that is filled in.
await fin.go("/ui/differences?status=OPEN");
const differences = await fin.page.locator("main table.stack tbody tr").count();
const refs = await fin.page.locator("main table.stack tbody td:nth-child(5) code").allTextContents();
for (const [i, rows] of (await sheets(await download("main a[href*='work.xlsx']"))).entries()) {
  const ids = column(rows, "id").filter((v) => /^[0-9a-f]{32}$/.test(v));
  check(ids.length >= differences && differences > 0, `differences by reader ${i}:`, ids.length, "of", differences);
  check(refs.length === differences && refs.every((ref) => column(rows, "ref").includes(ref)), `differences by reader ${i} lack some of the page`);
}

// The month: a row for each of its days, and the sums of the page.
const yesterday = new Date(Date.now() - 16 * 3600e3).toISOString().slice(0, 7); // its month, of Beijing
await fin.go("/ui/reconciliations?month=" + yesterday);
const days = await fin.page.locator("main table.stack tbody tr:has(td:nth-child(9))").evaluateAll((rows) => rows.map((r) =>
  Array.from(r.cells, (c) => c.textContent.trim())));
const months = { csv: csv(await download("main a[href^='/ui/reconciliations.csv']")) };
[months.exceljs, months.sheetjs] = await sheets(await download("main a[href^='/ui/reconciliations.xlsx']"));
check(days.length > 1 && fen(days.at(-1)[2]) > 0, "the month has no money:", days.at(-1));
for (const [by, rows] of Object.entries(months)) {
  const date = column(rows, "bill_date");
  for (const day of days) {
    const row = day === days.at(-1) ? date.length - 1 : date.indexOf(day[0]);
    for (const [n, name] of [[2, "bill_yuan"], [3, "ours_yuan"], [4, "fees_yuan"], [5, "net_yuan"]]) {
      check(fen(column(rows, name)[row]) === fen(day[n]), `month by ${by}: ${day[0]} has ${column(rows, name)[row]} for ${day[n]}`);
    }
  }
}
await fin.context.close();
await finish(`files: ${count} orders, ${differences} differences, ${days.length - 1} days`);
