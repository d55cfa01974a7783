// Sessions that are open now, as they come and go.
"use strict";

const table = document.querySelector("#live");
const rows = document.querySelector("#rows");
const link = document.querySelector("#link");
const known = new Set([...rows.children].map((row) => row.dataset.session));

function show(html) {
  const made = document.createElement("template");
  made.innerHTML = html.includes("<tr") ? `<table><tbody>${html}</tbody></table>` : "";
  const found = [...made.content.querySelectorAll("tr[data-session]")];
  const marked = rows.querySelector(".here")?.dataset.session;
  const focused = document.activeElement?.closest?.("tr[data-session]")?.dataset.session;
  const links = focused ? [...rows.querySelector(`[data-session="${CSS.escape(focused)}"]`).querySelectorAll("a")] : [];
  const at = links.indexOf(document.activeElement);
  for (const row of found) {
    if (row.dataset.session === marked) row.classList.add("here");
    if (!known.has(row.dataset.session)) row.classList.add("fresh");
    known.add(row.dataset.session);
  }
  rows.replaceChildren(...found);
  if (at >= 0) rows.querySelectorAll(`[data-session="${CSS.escape(focused)}"] a`)[at]?.focus({ preventScroll: true });
  table.hidden = !found.length;
  document.querySelector("#nobody").hidden = Boolean(found.length);
  const count = `${found.length} open session${found.length === 1 ? "" : "s"}`;
  const place = document.querySelector("#count");
  if (place.textContent !== count) place.textContent = count;
}

const source = new EventSource(table.dataset.events);
source.addEventListener("rows", (event) => show(event.data));
source.addEventListener("gone", (event) => document.querySelector(`[data-session="${CSS.escape(event.data)}"]`)?.remove());
source.addEventListener("bye", () => source.close());
source.onopen = () => { link.hidden = true; };
source.onerror = () => {
  link.hidden = false;
  link.textContent = source.readyState === EventSource.CLOSED ? "Not connected. Load the page again." : "Connection lost, trying again…";
};
