// Which of the two themes is shown, before anything is drawn. Without a choice it is the system's.
"use strict";
try {
  const theme = localStorage.getItem("pgweir-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is switched off: the system's theme it is.
}
