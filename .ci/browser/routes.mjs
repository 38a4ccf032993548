// The pages of the console, from the table of routes that docs/security.md has and a test of cmd/orderd writes: a page
// that is new is one here, too.
import { readFileSync } from "node:fs";

const rows = Array.from(readFileSync(new URL("../../docs/security.md", import.meta.url), "utf8")
  .matchAll(/^\| admin \| `(GET|POST) (\/[^`]*)` \| ([^|]+) \|/gm)).map(([, method, path, who]) => ({ method, path, who: who.trim() }))
  .filter((r) => /^\/(ui\/|login|logout|setup|$)/.test(r.path));
const file = /\.(csv|xlsx)$|\/events$/;

// pages are the patterns of what can be read, by whom; forms those of what can be sent.
export const pages = rows.filter((r) => r.method === "GET" && !file.test(r.path));
export const forms = rows.filter((r) => r.method === "POST").map((r) => r.path);
// routeOf is the pattern of a path, with as few parameters as can be.
export const routeOf = (path) => pages.map((r) => r.path)
  .filter((r) => new RegExp("^" + r.replace(/:[a-z]+/g, "[^/]+") + "$").test(path))
  .sort((a, b) => a.split(":").length - b.split(":").length)[0];
