"use strict";
// The table of verdicts, its filters, and what is told of a node; without this script the page shows all of it, too.
(() => {
  const table = new DataTable("#table", {
    paging: false, order: [], autoWidth: false, layout: {topStart: "search", topEnd: null, bottomStart: "info", bottomEnd: null},
    language: {search: "find ", info: "claims shown: _TOTAL_", infoFiltered: "of _MAX_", infoEmpty: "claims shown: 0", zeroRecords: "no such claim"},
  });
  document.querySelector(".filters").append(document.querySelector(".dt-search"));
  const verdict = document.getElementById("by-verdict"), fixture = document.getElementById("by-fixture");
  const chips = document.querySelectorAll("button[data-verdict]");
  const filter = () => {
    table.column(0).search((text) => text.startsWith(verdict.value));
    table.column(2).search(fixture.value, {exact: fixture.value !== ""}).draw();
    for (const chip of chips) chip.setAttribute("aria-pressed", chip.dataset.verdict === verdict.value);
  };
  verdict.addEventListener("change", filter);
  fixture.addEventListener("change", filter);
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      verdict.value = verdict.value === chip.dataset.verdict ? "" : chip.dataset.verdict;
      filter();
    });
  }
  // The sections below show the claims that the table shows.
  table.on("draw", () => {
    const shown = new Set(table.rows({search: "applied"}).nodes().toArray().map((row) => row.dataset.claim));
    for (const file of document.querySelectorAll("section.file")) {
      const claims = [...file.querySelectorAll("details.claim")];
      for (const claim of claims) claim.hidden = !shown.has(claim.id);
      file.hidden = claims.every((claim) => claim.hidden);
    }
  });

  const openTarget = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target instanceof HTMLDetailsElement) {
      target.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", openTarget);
  openTarget();
  for (const button of document.querySelectorAll("button.all")) {
    button.addEventListener("click", () => {
      for (const claim of document.querySelectorAll("details.claim")) claim.open = button.dataset.open === "open";
    });
  }

  // What a <title> tells only to a resting pointer, the tip tells at once, and to the keyboard too.
  const tip = document.getElementById("tip");
  let shown = null;
  const hide = () => {
    shown?.removeAttribute("aria-describedby");
    shown = null;
    tip.hidden = true;
  };
  const show = (node) => {
    if (node === shown) return;
    hide();
    shown = node;
    tip.textContent = node.dataset.tip;
    tip.hidden = false;
    node.setAttribute("aria-describedby", "tip");
    const {computePosition, flip, shift, offset} = FloatingUIDOM;
    computePosition(node, tip, {placement: "top", middleware: [offset(6), flip(), shift({padding: 8})]}).then(({x, y}) => {
      Object.assign(tip.style, {left: `${x}px`, top: `${y}px`});
    });
  };
  for (const node of document.querySelectorAll("[data-tip]")) {
    const title = node.querySelector("title");
    node.dataset.tip = title.textContent;
    node.setAttribute("role", "img");
    node.setAttribute("aria-label", title.textContent);
    title.remove();
  }
  const told = (event) => event.target.closest?.("[data-tip]");
  document.addEventListener("focusin", (event) => told(event) && show(told(event)));
  document.addEventListener("mouseover", (event) => {
    if (told(event)) show(told(event));
    else if (shown !== document.activeElement) hide(); // the keyboard scrolls things under a pointer that rests
  });
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());

  // Where a map is wider than the screen, its first steps do nothing in many models: begin where something happens.
  for (const details of document.querySelectorAll("details.map")) {
    const grid = details.querySelector(".grid"), live = [...grid.querySelectorAll(".cell:not(.dead)")];
    const begin = () => {
      const lefts = live.map((cell) => cell.getBoundingClientRect().left);
      if (details.open) grid.scrollLeft += Math.min(...lefts) - grid.getBoundingClientRect().left - 60;
    };
    details.addEventListener("toggle", begin, {once: true});
  }

  // One stop of the Tab key for each map; arrows move within it.
  for (const map of document.querySelectorAll("svg.nodes")) {
    const cells = [...map.querySelectorAll(".cell")], columns = Number(map.dataset.columns);
    for (const cell of cells) cell.setAttribute("tabindex", "-1");
    (cells.find((cell) => !cell.classList.contains("dead")) ?? cells[0]).setAttribute("tabindex", "0");
    map.addEventListener("keydown", (event) => {
      const move = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns}[event.key];
      const next = cells[cells.indexOf(event.target) + move];
      if (!move || !next || !cells.includes(event.target)) return;
      event.preventDefault();
      event.target.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    });
  }
})();
