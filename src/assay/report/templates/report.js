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
// A printed page shows what is folded, but for the models: the study names all that they differ in.
window.addEventListener("beforeprint", function () {
  document.querySelectorAll("details:not(.folded)").forEach(function (part) { part.open = true; });
});
