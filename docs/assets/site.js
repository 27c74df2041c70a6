// Boxes that scroll sideways on a narrow screen must be reachable by keyboard, and be named.
const SCROLLERS = "div.arithmatex, .md-typeset pre > code, .md-typeset__scrollwrap"

function label(box) {
  if (box.matches("div.arithmatex")) return "公式"
  return box.matches("code") ? "代码" : "表格"
}

function makeScrollersReachable() {
  for (const box of document.querySelectorAll(SCROLLERS)) {
    if (box.scrollWidth > box.clientWidth + 1) {
      box.tabIndex = 0
      box.setAttribute("role", "group")
      box.setAttribute("aria-label", label(box))
    } else {
      box.removeAttribute("tabindex")
      box.removeAttribute("role")
      box.removeAttribute("aria-label")
    }
  }
}

// Folded boxes open for printing, so that the paper holds the whole page.
addEventListener("beforeprint", () => {
  for (const box of document.querySelectorAll("details:not([open])")) {
    box.open = true
    box.dataset.openedForPrint = ""
  }
})
addEventListener("afterprint", () => {
  for (const box of document.querySelectorAll("[data-opened-for-print]")) {
    box.open = false
    delete box.dataset.openedForPrint
  }
})

addEventListener("resize", makeScrollersReachable)
addEventListener("toggle", makeScrollersReachable, true)
makeScrollersReachable()
