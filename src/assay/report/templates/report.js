// Buttons that copy the text beside them. Everything else on the page works without scripts.
document.querySelectorAll(".copyable").forEach(function (box) {
  var text = box.querySelector("pre"), button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", function () {
    var range = document.createRange();
    range.selectNodeContents(text);
    var selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    var copied = false;
    try { copied = document.execCommand("copy"); } catch (error) { copied = false; }
    button.textContent = copied ? "Copied" : "Selected: press Ctrl+C";
    setTimeout(function () { button.textContent = "Copy"; }, 2000);
  });
  box.appendChild(button);
});
// A printed page shows everything: what is folded is unfolded for it.
window.addEventListener("beforeprint", function () {
  document.querySelectorAll("details").forEach(function (part) { part.open = true; });
});
