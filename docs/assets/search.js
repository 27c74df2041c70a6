// The search worker, in place of the theme's: a term is found wherever it stands in a sentence.
// The theme's own drops the last character of a Chinese query and, without a word list, finds only
// what begins right after a punctuation mark. It speaks the theme's messages: setup, ready, query,
// result, numbered 0 to 3.

let pages = [] // [{ title, text, titleKey, textKey, terms, location, page }], one for each section
let corpus = ""

const MARKUP = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" }
const ENTITIES = { lt: "<", gt: ">", quot: '"', amp: "&", "#39": "'" }
// Words of a question; between them stand its terms.
const ASKING = /为什么|怎么办|怎么|怎样|如何|什么|多少|会|吗|呢/
const SEPARATOR = /[\s\u200b\u3000，。、；：？！“”‘’（）《》]+/

const escaped = text => text.replace(/[&<>"]/g, character => MARKUP[character])

const SYMBOLS = {
  alpha: "α", beta: "β", gamma: "γ", delta: "δ", epsilon: "ε", eta: "η", theta: "θ", kappa: "κ",
  lambda: "λ", mu: "μ", pi: "π", rho: "ρ", sigma: "σ", tau: "τ", ell: "ℓ", nabla: "∇", partial: "∂",
  sum: "∑", cdot: "·", times: "×", pm: "±", approx: "≈", equiv: "≡", neq: "≠", le: "≤", leq: "≤",
  ge: "≥", geq: "≥", to: "→", gets: "←", leftarrow: "←", in: "∈", infty: "∞", ldots: "…", dots: "…",
  max: "max", min: "min", ln: "ln", log: "log", sin: "sin", cos: "cos", top: "ᵀ",
}

const symbols = tex =>
  tex
    .replace(/\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}/g, "$1/$2")
    .replace(/\\([a-zA-Z]+)/g, (_, name) => SYMBOLS[name] ?? "")
    .replace(/\\.|[{}]/g, "")

// The index holds HTML, and formulas as TeX.
const plain = html =>
  html
    .replace(/\\\[[^]*?\\\]/g, " … ")
    .replace(/\\\(([^]*?)\\\)/g, (_, tex) => symbols(tex))
    .replace(/<\/?(p|li|td|th|tr|h\d|pre|div|br)\b[^>]*>/g, " ")
    .replace(/<[^>]*>/g, "")
    .replace(/&(lt|gt|quot|amp|#39);/g, (_, name) => ENTITIES[name])
    .replace(/\s+/g, " ")
    .trim()

function setup(docs) {
  pages = docs.map(({ location, title, text, terms = [] }) => {
    const section = { title: plain(title), text: plain(text), location }
    section.titleKey = section.title.toLowerCase()
    section.textKey = section.text.toLowerCase()
    section.terms = terms.map(term => term.toLowerCase()) // of the glossary, defined here
    section.page = location.replace(/#.*/, "")
    return section
  })
  corpus = pages.map(section => section.titleKey + "\n" + section.textKey).join("\n")
}

// A word that is nowhere in the book is taken apart into the longest pieces that are.
function termsOf(query) {
  const terms = new Set()
  const words = query.toLowerCase().split(SEPARATOR)
  for (const word of words.flatMap(word => (corpus.includes(word) ? word : word.split(ASKING)))) {
    for (let start = 0; start < word.length; ) {
      let end = word.length
      while (end > start && !corpus.includes(word.slice(start, end))) end--
      if (end - start > 1 || word.length === 1) terms.add(word.slice(start, end))
      start = Math.max(end, start + 1)
    }
  }
  terms.delete("")
  return [...terms]
}

const DEFINITION = 1000 // puts the section that defines a term before all that use it

const count = (text, term) => text.split(term).length - 1

// A term counts for more the rarer it is, and in a heading, above all that of a page.
function score(section, terms, weights) {
  let found = 0
  let total = 0
  for (const term of terms) {
    const inText = count(section.textKey, term)
    const inTitle = section.titleKey.includes(term)
    if (!inText && !inTitle) continue
    found += 1
    const place = section.location === section.page ? 6 : 3
    total += weights.get(term) * (inText / (inText + 2) + (inTitle ? place : 0))
  }
  return total * (found / terms.length) ** 2
}

function marked(text, terms) {
  const parts = terms.map(term => term.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"))
  const pattern = new RegExp(`(${parts.sort((a, b) => b.length - a.length).join("|")})`, "gi")
  return text
    .split(pattern)
    .map((part, index) => (index % 2 ? `<mark>${escaped(part)}</mark>` : escaped(part)))
    .join("")
}

function teaser(section, terms) {
  const places = terms.map(term => section.textKey.indexOf(term)).filter(place => place >= 0)
  const start = Math.max(0, Math.min(...places, section.text.length) - 30)
  const text = section.text.slice(places.length ? start : 0).slice(0, 120)
  if (!text) return ""
  const before = places.length && start > 0 ? "…" : ""
  const after = section.text.endsWith(text) ? "" : "…"
  return `<p>${before}${marked(text, terms)}${after}</p>`
}

function search(query) {
  const terms = termsOf(query)
  if (!terms.length) return []
  const weights = new Map(
    terms.map(term => {
      const holding = pages.filter(s => s.titleKey.includes(term) || s.textKey.includes(term))
      return [term, Math.log(1 + pages.length / holding.length)]
    }),
  )
  const groups = new Map()
  for (const section of pages) {
    const defined = section.terms.includes(query.trim().toLowerCase())
    const points = score(section, terms, weights) + (defined ? DEFINITION : 0)
    if (!points) continue
    if (!groups.has(section.page)) groups.set(section.page, [])
    groups.get(section.page).push({ section, points })
  }
  const results = []
  for (const [page, hits] of groups) {
    hits.sort((a, b) => b.points - a.points)
    // A page that treats the term in many sections comes before one that mentions it once.
    hits[0].points += hits.slice(1).reduce((sum, hit) => sum + hit.points, 0) / 4
    if (!hits.some(hit => hit.section.location === page)) {
      hits.push({ section: pages.find(section => section.location === page), points: 0 })
    }
    results.push(
      hits.map(({ section, points }) => ({
        location: section.location,
        title: marked(section.title, terms),
        text: teaser(section, terms),
        score: points,
        terms: points ? Object.fromEntries(terms.map(term => [term, true])) : {},
      })),
    )
  }
  // Of equals, the glossary comes last: it only points to the others.
  const points = ([{ location }]) => location.startsWith("glossary/")
  return results.sort((a, b) => b[0].score - a[0].score || points(a) - points(b))
}

addEventListener("message", ({ data: { type, data } }) => {
  if (type === 0) {
    setup(data.docs)
    postMessage({ type: 1 })
  } else if (type === 2) {
    postMessage({ type: 3, data: { items: search(data) } })
  }
})
