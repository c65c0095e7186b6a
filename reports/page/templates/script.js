// The page can be read without this script. It adds sorting, zooming, the theme button and the marked section.
"use strict";

// ---- Light or dark: the system's choice until the reader makes another.
const root = document.documentElement;
const themeButton = document.getElementById("page_theme");
themeButton.hidden = false;
themeButton.addEventListener("click", () => {
  const systemTheme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  root.dataset.theme = (root.dataset.theme ?? systemTheme) === "dark" ? "light" : "dark";
});

// ---- Contents: mark the section being read.
const links = [...document.querySelectorAll("nav a")];
const sections = links.map((link) => document.getElementById(link.hash.slice(1)));

function markCurrentSection() {
  const readingLine = innerHeight / 4;
  const atEnd = innerHeight + scrollY >= root.scrollHeight - 2;
  const passed = sections.filter((section) => section.getBoundingClientRect().top <= readingLine).length;
  const current = links[atEnd ? links.length - 1 : Math.max(passed - 1, 0)];
  if (!current || current.hasAttribute("aria-current")) return;
  links.forEach((link) => link.removeAttribute("aria-current"));
  current.setAttribute("aria-current", "true");
  const list = current.closest("ol");
  list.scrollLeft = current.offsetLeft - list.offsetLeft; // on narrow screens the contents are a strip
}

addEventListener("scroll", markCurrentSection, { passive: true });
addEventListener("resize", markCurrentSection);
markCurrentSection();

// ---- In a notebook's frame the page has the notebook's address, which its own links must not open.
if (location.protocol === "about:") {
  for (const link of document.querySelectorAll('a[href^="#"]')) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const target = document.getElementById(link.hash.slice(1));
      target.scrollIntoView();
      target.focus({ preventScroll: true });
    });
  }
}

// ---- Tables: sort by a column, what is not defined always last.
function compareCells(first, second) {
  if ("value" in first.dataset && "value" in second.dataset) {
    return Number(first.dataset.value) - Number(second.dataset.value) || 0; // of two infinities: NaN
  }
  return first.textContent.localeCompare(second.textContent, "en", { numeric: true });
}

function sortRows(table, column, descending) {
  const body = table.tBodies[0];
  const isMissing = (row) => "missing" in row.cells[column].dataset;
  const rows = [...body.rows].sort((first, second) => {
    if (isMissing(first) || isMissing(second)) return isMissing(first) - isMissing(second);
    const order = compareCells(first.cells[column], second.cells[column]);
    return descending ? -order : order;
  });
  body.append(...rows);
}

for (const table of document.querySelectorAll("table")) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const descending = header.getAttribute("aria-sort") === "ascending";
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortRows(table, column, descending);
    });
  });
}

// ---- Figures: enlarge in a dialog. Escape closes it, and the browser gives the focus back.
const dialog = document.getElementById("page_zoom");
const [closeButton, plate] = dialog.children;
closeButton.addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close(); // a click beside the figure
});

for (const button of document.querySelectorAll(".zoom")) {
  const image = button.closest("figure").querySelector("img");
  const enlarge = () => {
    plate.replaceChildren(image.cloneNode());
    dialog.showModal();
  };
  button.hidden = false;
  button.addEventListener("click", enlarge);
  image.addEventListener("click", enlarge);
}

// ---- Print: unfold everything.
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((details) => (details.open = true));
});
