// The theme's script, once the page is on the screen; it waits for an event that is over by then.
addEventListener("DOMContentLoaded", () =>
  requestAnimationFrame(() =>
    setTimeout(() => {
      const scripts = document.getElementById("theme-script").content
      scripts.lastElementChild.onload = () => document.dispatchEvent(new Event("DOMContentLoaded"))
      document.body.append(scripts)
    })
  )
)

// Boxes that scroll sideways on a narrow screen must be reachable by keyboard, and be named.
const SCROLLERS = {
  "div.arithmatex": "公式",
  ".md-typeset pre > code": "代码",
  ".md-typeset__scrollwrap": "表格",
}

const sizes = new ResizeObserver(entries => {
  // First read every size, then write: the other way round lays the page out again and again.
  const boxes = entries.map(({ target: box }) => [box, box.scrollWidth > box.clientWidth])
  for (const [box, scrolls] of boxes) {
    if (scrolls) {
      const kind = Object.keys(SCROLLERS).find(selector => box.matches(selector))
      box.tabIndex = 0
      box.setAttribute("role", "group")
      box.setAttribute("aria-label", SCROLLERS[kind])
    } else if (box.hasAttribute("role")) {
      box.removeAttribute("tabindex")
      box.removeAttribute("role")
      box.removeAttribute("aria-label")
    }
  }
})

const article = document.querySelector("article")
for (const box of article.querySelectorAll(Object.keys(SCROLLERS))) sizes.observe(box)

// The theme would prepare every block of code and every table, and the browser lay the page out for
// each of them. Neither needs it: tables come wrapped, and copying is below.
const content = document.querySelector("[data-md-component=content]")
content.querySelectorAll = selectors =>
  /^(pre|table):not/.test(selectors) ? [] : Element.prototype.querySelectorAll.call(content, selectors)

// Copying. The theme's own buttons make the browser lay the page out once for each of them; these
// come when their block comes near the screen, for all at once would hold up the page as well.
function addCopyButtons() {
  const template = document.createElement("template")
  template.innerHTML =
    '<div class="md-code__nav"><button type="button" class="md-code__button" data-md-type="copy"' +
    ' title="复制" aria-label="复制"></button></div>'
  const near = new IntersectionObserver(
    entries => {
      for (const { isIntersecting, target: code } of entries) {
        if (!isIntersecting) continue
        near.unobserve(code)
        code.before(template.content.cloneNode(true))
      }
    },
    { rootMargin: "200% 0px" } // far enough for whoever tabs from link to link
  )
  for (const code of article.querySelectorAll("pre > code")) near.observe(code)
  const dialog = document.querySelector(".md-dialog")
  dialog.setAttribute("role", "status")
  let fading
  article.addEventListener("click", async ({ target }) => {
    if (!target.matches(".md-code__button")) return
    const code = target.closest("pre").querySelector("code")
    await navigator.clipboard.writeText(code.textContent.trimEnd())
    dialog.firstElementChild.textContent = "已复制"
    dialog.classList.add("md-dialog--active")
    clearTimeout(fading)
    fading = setTimeout(() => dialog.classList.remove("md-dialog--active"), 2000)
  })
}
if (navigator.clipboard) addCopyButtons()

// The theme's icons for menu and search are labels, which the keyboard passes over.
for (const [box, name] of [["__drawer", "目录"], ["__search", "搜索"]]) {
  const label = document.querySelector(`.md-header__button[for=${box}]`)
  if (!label) continue
  const button = document.createElement("span")
  button.append(...label.childNodes)
  button.tabIndex = 0
  button.setAttribute("role", "button")
  button.setAttribute("aria-label", name)
  button.addEventListener("keydown", event => {
    if (event.key !== "Enter" && event.key !== " ") return
    event.preventDefault()
    button.click()
  })
  label.append(button)
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

// Progress: the chapters that the reader has marked as read, kept in this browser and nowhere else.
const READ = "runnable-notes.read"
const base = new URL(`${JSON.parse(document.getElementById("__config").textContent).base}/`, location)

function stored() {
  const text = localStorage.getItem(READ) // throws where storage is blocked
  try {
    return new Set(JSON.parse(text ?? "[]"))
  } catch {
    return new Set()
  }
}

function pathOf(address) {
  const { href } = new URL(address, location)
  return href.startsWith(base.href) ? href.slice(base.href.length).replace(/index\.html|[?#].*/g, "") : null
}

function showProgress() {
  const read = stored()
  const map = [...document.querySelectorAll(".grid.cards a")]
  for (const link of [...map, ...document.querySelectorAll(".md-nav--primary .md-nav__link[href]")]) {
    link.classList.toggle("is-read", read.has(pathOf(link.href)))
  }
  const chapters = map.map(link => pathOf(link.href)).filter(path => /^\w+\/\w+\/$/.test(path))
  const done = chapters.filter(path => read.has(path)).length
  const status = document.querySelector(".reading-progress")
  if (status) {
    status.hidden = !done
    status.firstElementChild.textContent = `读完 ${done} / ${chapters.length} 章`
  }
}

function change(edit) {
  const read = stored()
  edit(read)
  localStorage.setItem(READ, JSON.stringify([...read]))
  showProgress()
}

function addProgress() {
  stored()
  const place = article.querySelector(".mark-read")
  if (place) {
    const here = pathOf(location.href)
    place.innerHTML = '<label><input type="checkbox"> 读完了这一章（只记在这个浏览器里）</label>'
    const box = place.querySelector("input")
    box.checked = stored().has(here)
    box.addEventListener("change", () => change(read => read[box.checked ? "add" : "delete"](here)))
  }
  article.querySelector("#map")?.insertAdjacentHTML(
    "afterend",
    '<p class="reading-progress" hidden><span role="status"></span> ' +
      '<button type="button">清除记录</button></p>'
  )
  article
    .querySelector(".reading-progress button")
    ?.addEventListener("click", () => change(read => read.clear()))
  showProgress()
}

// After the page stands: marks may come late, text may not.
addEventListener("load", () =>
  setTimeout(() => {
    try {
      addProgress()
    } catch {
      // Storage is blocked: the book reads as well without it.
    }
  })
)
