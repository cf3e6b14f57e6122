// Sphinx's search fetches every page that it found, for the lines beside the link. Here they come out
// of page-texts.js, written by docs/excerpts.py: a page on disk may not fetch another.
(() => {
  const fetchElsewhere = window.fetch.bind(window);
  const root = document.documentElement.dataset.content_root;
  const suffix = DOCUMENTATION_OPTIONS.FILE_SUFFIX;
  window.fetch = (url, ...rest) => {
    const name = String(url).replace(root, "").replace(suffix, "");
    if (!Object.hasOwn(pageTexts, name)) return fetchElsewhere(url, ...rest);
    const main = document.createElement("div");
    main.setAttribute("role", "main");
    for (const [id, text] of pageTexts[name]) {
      const section = document.createElement("section");
      section.id = id;
      section.textContent = text + "\n";
      main.append(section);
    }
    return Promise.resolve(new Response(main.outerHTML));
  };
})();
