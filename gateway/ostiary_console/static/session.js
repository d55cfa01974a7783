// One session: later requests come when one gets there, and, if it is open, as they happen.
"use strict";

const timeline = document.querySelector("#timeline");

function say(text) {
  document.querySelector("#said").textContent = text;
}

function added() {
  document.dispatchEvent(new CustomEvent("ostiary:added"));
}

function piece(html) {
  const made = document.createElement("template");
  made.innerHTML = html;
  return made.content;
}

const near = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) later(entry.target);
}, { rootMargin: "600px" });

function watch() {
  const next = timeline?.querySelector(":scope > .go-on a[rel=next]");
  if (next) near.observe(next);
}

async function later(link) {
  near.unobserve(link);
  const address = new URL(link.href);
  address.searchParams.set("fragment", "1");
  try {
    const answer = await fetch(address, { headers: { Accept: "text/html" } });
    if (!answer.ok || answer.redirected) return;
    link.closest(".go-on").replaceWith(piece(await answer.text()));
  } catch {
    return; // the link is still there
  }
  watch();
  added();
}

if (timeline) watch();

const button = document.querySelector("[data-follow]");
let source = null;

function shown(event) {
  const bottom = window.innerHeight + window.scrollY > document.documentElement.scrollHeight - 200;
  for (const each of [...piece(event.data).children]) {
    if (each.classList.contains("go-on")) continue;
    const old = each.id && document.getElementById(each.id);
    each.classList.add("fresh");
    if (old) old.replaceWith(each);
    else {
      timeline.append(each);
      document.querySelector("#followed").textContent = `New: request ${each.dataset.number}`;
    }
  }
  document.querySelector(".empty-line")?.remove();
  added();
  if (bottom) window.scrollTo({ top: document.documentElement.scrollHeight });
}

function stop(text) {
  source?.close();
  source = null;
  button.setAttribute("aria-pressed", "false");
  if (text) say(text);
}

function follow() {
  source = new EventSource(button.dataset.follow);
  button.setAttribute("aria-pressed", "true");
  source.addEventListener("requests", shown);
  source.addEventListener("state", (event) => {
    const { state } = JSON.parse(event.data);
    if (state === "open") return;
    stop("The session is over.");
    button.hidden = true;
    location.reload();
  });
  source.addEventListener("bye", () => stop("The session is over."));
  source.onerror = () => { if (source?.readyState === EventSource.CLOSED) stop("Following stopped. Load the page again."); };
  say("Following.");
}

if (button) {
  button.hidden = false;
  button.addEventListener("click", () => (source ? stop("Not following.") : follow()));
  if (new URLSearchParams(location.search).has("follow")) follow();
}
