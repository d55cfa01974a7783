// On every page: dark or light, shortcuts, times that pass. Pages work without it.
"use strict";

const root = document.documentElement;
const one = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

function say(text) {
  const place = one("#said");
  if (place) place.textContent = text;
}

// Dark or light

function dark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

for (const button of all("[data-theme-switch]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const theme = dark() ? "light" : "dark";
    root.dataset.theme = theme;
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `ostiary-theme=${theme}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
    say(`${theme} colours`);
  });
}

// Times that pass. The server's clock counts: this machine's may be wrong.

const ahead = Number(document.body.dataset.now) - Date.now() / 1000;
const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

function now() {
  return Date.now() / 1000 + (Number.isFinite(ahead) ? ahead : 0);
}

function span(seconds) {
  seconds = Math.max(0, seconds);
  for (const [index, [size, unit]] of units.entries()) {
    if (seconds < size) continue;
    const first = Math.floor(seconds / size);
    if (first < 10 && size > 60) {
      const [smaller, its] = units[index + 1];
      const second = Math.floor((seconds % size) / smaller);
      if (second) return `${first} ${unit} ${second} ${its}`;
    }
    return `${first} ${unit}`;
  }
  return "0 s";
}

function pass() {
  if (document.hidden) return;
  const at = now();
  for (const each of all("time[data-at]")) {
    const since = at - Number(each.dataset.at);
    const text = since < 1 ? "now" : `${span(since)} ago`;
    if (each.textContent !== text) each.textContent = text;
  }
  for (const each of all("[data-since]")) each.textContent = span(at - Number(each.dataset.since));
  for (const each of all("[data-until]")) {
    const left = Number(each.dataset.until) - at;
    each.textContent = left > 0 ? `${span(left)} left` : "its time is over";
    each.classList.toggle("soon", left < 120);
  }
}

setInterval(pass, 1000);
document.addEventListener("visibilitychange", pass);

// A card that is open closes when one goes elsewhere.

document.addEventListener("click", (event) => {
  for (const each of all("details.who[open]")) if (!each.contains(event.target)) each.open = false;
});
if (matchMedia("(max-width: 62rem)").matches) for (const each of all(".facets details")) each.open = false;

// Recorded terminals

async function terminals() {
  const assets = one("meta[name=ostiary-player]");
  if (assets && one(".player[data-cast]")) (await import(assets.dataset.module)).play(assets.dataset);
}

terminals();
document.addEventListener("ostiary:added", terminals);

// Shortcuts

const help = one("#help");
const places = { s: "/sessions", l: "/live", a: "/approvals", p: "/policies", c: "/connections", r: "/replay" };
let going = 0;

for (const button of all("[data-help]")) {
  button.hidden = false;
  button.addEventListener("click", () => help?.showModal());
}

function rows() {
  return all("[data-row]").filter((row) => row.offsetParent !== null || row.getClientRects().length);
}

function here() {
  return one("[data-row].here");
}

function move(step) {
  const found = rows();
  if (!found.length) return;
  const at = found.indexOf(here());
  const next = at < 0 ? (step > 0 ? 0 : found.length - 1) : Math.min(found.length - 1, Math.max(0, at + step));
  if (at >= 0) found[at].classList.remove("here");
  found[next].classList.add("here");
  const link = one("[data-open]", found[next]);
  link?.focus({ preventScroll: true });
  found[next].scrollIntoView({ block: "nearest" });
}

function answer(which) {
  const on = one("article[data-approval]");
  if (on) {
    if (on.dataset.state !== "Pending" || !one("#decide form")) return false;
    const wanted = which === "approve" ? "Approve" : "Deny";
    if (new URLSearchParams(location.search).get("verdict") === wanted) one(`#decide button[value=${wanted}]`)?.focus();
    else location.assign(`${on.dataset.approval}?verdict=${wanted}`);
    return true;
  }
  const row = here() ?? (rows().length === 1 ? rows()[0] : null);
  const link = row && one(`[data-${which}]`, row);
  if (link) location.assign(link.href);
  return Boolean(link);
}

function typing(target) {
  return target instanceof Element && (target.isContentEditable || target.closest("input, textarea, select, .ap-player, dialog[open]"));
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) {
    if (event.key === "Escape" && event.target instanceof HTMLInputElement) event.target.blur();
    return;
  }
  if (help?.open || !help) return;
  const key = event.key;
  if (going && Date.now() - going < 1500) {
    going = 0;
    if (Object.hasOwn(places, key)) {
      event.preventDefault();
      location.assign(places[key]);
      return;
    }
  }
  if (key === "g") going = Date.now();
  else if (key === "j") move(1);
  else if (key === "k") move(-1);
  else if (key === "?") help.showModal();
  else if (key === "/") {
    const box = one("[data-search]");
    if (box) { box.focus(); box.select(); } else location.assign("/sessions#q");
  } else if (key === "a" || key === "d") {
    if (!answer(key === "a" ? "approve" : "deny")) return;
  } else if (key === "Enter") {
    const link = here() && !(event.target instanceof Element && event.target.closest("a, button, summary")) && one("[data-open]", here());
    if (!link) return;
    link.click();
  } else return;
  event.preventDefault();
});

if (location.hash === "#q") one("[data-search]")?.focus();
