// Wide tables scroll on a phone: let the keyboard reach them. `document$` is the theme's: it tells of each page.
"use strict";

document$.subscribe(() => {
  for (const each of document.querySelectorAll(".md-typeset__scrollwrap")) each.tabIndex = 0;
});
