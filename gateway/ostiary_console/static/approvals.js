// Approvals: where one is about to answer, the reason is ready to be typed, and what is asked stays in sight.
"use strict";

const reason = document.querySelector("[data-focus]");
if (reason && matchMedia("(pointer: fine)").matches) reason.focus({ preventScroll: true });

// An answer is sent once.
for (const form of document.querySelectorAll("#decide form")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "1";
  });
}
addEventListener("pageshow", () => { for (const form of document.querySelectorAll("#decide form")) delete form.dataset.sent; });
