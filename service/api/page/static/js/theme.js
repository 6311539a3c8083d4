// Light, dark or as the system: set before the first paint, so this file is no module. The choice is kept.
"use strict";

(() => {
  const CHOICES = ["system", "light", "dark"];
  const root = document.documentElement;

  function kept() {
    try {
      const found = localStorage.getItem("relevance.theme");
      return CHOICES.includes(found) ? found : "system";
    } catch {
      return "system"; // storage is switched off
    }
  }

  function isDark(choice) {
    return choice === "dark" || (choice === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
  }

  function apply(choice) {
    root.dataset.theme = choice;
    root.classList.toggle("dark-mode", isDark(choice)); // the name that swagger-ui looks for
    document.dispatchEvent(new Event("theme"));
  }

  window.relevanceTheme = {
    get choice() {
      return root.dataset.theme;
    },
    next() {
      const choice = CHOICES[(CHOICES.indexOf(root.dataset.theme) + 1) % CHOICES.length];
      try {
        localStorage.setItem("relevance.theme", choice);
      } catch {
        // not kept, but used
      }
      apply(choice);
      return choice;
    },
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => apply(root.dataset.theme));
  apply(kept());
})();
