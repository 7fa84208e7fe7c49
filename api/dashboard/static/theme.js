// Before the page is drawn, so that it does not flash in the other theme. A plain script: modules wait.
"use strict";
(function () {
  let chosen = "system";
  try {
    chosen = localStorage.getItem("evoloom-theme") || "system";
  } catch {
    // Storage may be forbidden; the system's theme it is.
  }
  document.documentElement.dataset.theme = chosen;
})();
