// Takes a picture of every page of the console, in both languages and widths: to look at, not a test. In the
// environment: ADMIN and TOKEN, ORDERD with ORDERD_DATA_DIR, CHROMIUM, SHOTS, a folder for the pictures. Arguments:
// which routes, by a part of their paths; none: all.
import { ADMIN, context, finish, somebody } from "./kit.mjs";
import { pages, routeOf } from "./routes.mjs";

const { SHOTS } = process.env, wanted = process.argv.slice(2);
const one = await somebody("looker", "admin", 1440);
const read = new Map(), queue = ["/", ...pages.map((r) => r.path).filter((r) => !/:|login|setup/.test(r))];
while (queue.length) {
  const path = queue.shift(), route = routeOf(new URL(path, ADMIN).pathname);
  if (!route || read.has(route) || /login|setup/.test(route)) continue;
  read.set(route, path);
  await one.go(path);
  queue.push(...await one.page.evaluate((origin) => Array.from(document.querySelectorAll("a[href]")).map((a) => new URL(a.href))
    .filter((u) => u.origin === origin).map((u) => u.pathname + u.search), ADMIN));
}
const state = await one.context.storageState();
for (const [width, height] of [[1440, 900], [390, 844]]) {
  for (const locale of ["zh-CN", "en-US"]) {
    const page = await (await context({ viewport: { width, height }, locale, storageState: state })).newPage();
    for (const [route, path] of read) {
      if (wanted.length && !wanted.some((w) => route.includes(w))) continue;
      await page.goto(ADMIN + path);
      const name = (route === "/" ? "overview" : route.slice(4)).replace(/[^a-z]+/g, "_");
      await page.screenshot({ path: `${SHOTS}/${name}.${width}.${locale.slice(0, 2)}.png`, fullPage: true });
    }
  }
}
await finish(`pictures of ${read.size} routes`);
