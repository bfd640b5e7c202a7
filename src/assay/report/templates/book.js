// One page of the book at a time, by the address's end (#C9); #all shows them all. Nothing is kept.
(function () {
  var root = document.documentElement, title = document.title;
  var pages = Array.prototype.slice.call(document.querySelectorAll(".page"));
  function show(moved) {
    var name = "";
    try { name = decodeURIComponent(location.hash.slice(1)); } catch (error) { name = ""; }
    var target = name && document.getElementById(name);
    var page = target && target.closest(".page") || document.getElementById("front");
    var all = name === "all";
    root.classList.toggle("whole", all);
    root.dataset.page = all ? "front" : page.id;
    pages.forEach(function (each) { each.classList.toggle("shown", all || each === page); });
    document.title = page.dataset.title ? page.dataset.title : title;
    if (moved) {
      window.scrollTo(0, 0);
      if (!all) { page.querySelector("h1, h2").focus({ preventScroll: true }); }
    }
  }
  window.addEventListener("hashchange", function () { show(true); });
  window.addEventListener("keydown", function (event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) { return; }
    if (event.target.closest && event.target.closest("input, pre, .scroll, summary")) { return; }
    var relation = { ArrowLeft: "a[rel=prev]", ArrowRight: "a[rel=next]" }[event.key];
    var page = document.querySelector(".page.shown");
    if (root.classList.contains("whole") || !page) { return; }
    var link = event.key === "ArrowRight" && page.id === "front" ? document.querySelector(".glance a")
      : relation && page.querySelector(relation);
    if (link) { location.hash = link.getAttribute("href"); event.preventDefault(); }
  });
  // Side by side needs room: a narrow window starts in the reader's own language.
  if (window.matchMedia("(max-width: 44rem)").matches) {
    document.getElementById(/^zh/i.test(navigator.language || "") ? "lang-zh" : "lang-en").checked = true;
  }
  show(false);
})();
