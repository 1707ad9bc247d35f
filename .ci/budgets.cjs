'use strict'
// Size and naming budgets of the code: `node .ci/budgets.cjs` lists every breach and exits 1.
const { readdirSync, readFileSync } = require('node:fs')
const path = require('node:path')
const ts = require('typescript')

const root = path.join(__dirname, '..')
const MAX_LINE = 120
const MAX_FUNCTION = 60
const MAX_FILE = { lib: 250, native: 330, test: 600, benchmarks: 250, '.ci': 250 }
const BANNED_NAMES = /^(utils?|helpers?|common|types|misc|managers?)$/
// Words that mean nothing to a reader of the published package.
const BANNED_WORDS = [/DESIGN\.md/, /\/work\//, /\bTODO\b(?! #\d)/, /\bFIXME\b/]
const CODE = /\.(ts|mts|cts|cjs|mjs|cpp|h|cu|cuh)$/
const DOCS = /\.md$/

// 'file' or 'file: function' -> why its length is right as it is.
const EXCEPTIONS = {
  'native/test/ops_test.cpp': 'one section for each op, read one at a time',
  'native/test/cuda_ops_test.cpp': 'one section for each op, read one at a time',
}

const breaches = []
const used = new Set()

function check(key, file, what, length, limit) {
  if (length <= limit) return
  if (EXCEPTIONS[key]) used.add(key)
  else breaches.push(`${file}: ${what} has ${length}, at most ${limit}`)
}

/** Files under a folder of the repository, as paths relative to its root. */
function filesUnder(folder) {
  const entries = readdirSync(path.join(root, folder), { withFileTypes: true, recursive: true })
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(root, path.join(entry.parentPath ?? entry.path, entry.name)))
    .filter((file) => !file.split(path.sep).includes('node_modules'))
}

/** Name, first and last line of each function of a script, from TypeScript's own parser. */
function scriptFunctions(file, text) {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true)
  const line = (position) => source.getLineAndCharacterOfPosition(position).line
  const found = []
  const visit = (node) => {
    if (ts.isFunctionLike(node) && node.body) {
      const name = (node.name ?? node.parent?.name)?.getText(source) ?? `line ${line(node.getStart(source)) + 1}`
      found.push({ name, lines: line(node.end) - line(node.getStart(source)) + 1 })
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return found
}

/** The same for C++ by counting braces: exact enough for code that clang-format laid out. */
function nativeFunctions(text) {
  const blank = (match) => match.replace(/[^\n]/g, ' ')
  const bare = text
    .replace(/\/\/.*|\/\*[\s\S]*?\*\/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])'/g, blank)
    .replace(/^[ \t]*#(?:.*\\\n)*.*/gm, blank)
  const found = []
  const open = [] // true: a function's braces or something inside them
  let head = 0
  let start = 0
  for (let at = 0; at < bare.length; ++at) {
    const char = bare[at]
    if (!'{};'.includes(char)) continue
    const before = bare.slice(head, at)
    if (char === '{') {
      const inside = open.at(-1) ?? false
      const isFunction = before.includes('(') && !/\b(namespace|class|struct|enum|union)\b[^()]*$/.test(before)
      if (!inside && isFunction) start = head + before.search(/\S/)
      open.push(inside || isFunction)
    } else if (char === '}' && open.pop() && !(open.at(-1) ?? false)) {
      const name = bare.slice(start).match(/([\w:~]+)\s*\(/)?.[1] ?? '?'
      found.push({ name, lines: bare.slice(start, at).split('\n').length })
    }
    head = at + 1
  }
  return found
}

function checkCode(file, text) {
  const lines = text.split('\n')
  const [folder] = file.split(path.sep)
  const isTest = folder === 'test' || file.startsWith(path.join('native', 'test'))
  lines.forEach((line, i) => {
    check(`${file}:${i + 1}`, `${file}:${i + 1}`, 'the line', line.length, MAX_LINE)
  })
  check(file, file, 'the file', lines.length - 1, isTest ? MAX_FILE.test : MAX_FILE[folder])
  if (isTest) return
  const isScript = /\.[cm]?[jt]s$/.test(file)
  for (const { name, lines } of isScript ? scriptFunctions(file, text) : nativeFunctions(text))
    check(`${file}: ${name}`, file, `${name}()`, lines, MAX_FUNCTION)
}

function checkFile(file) {
  const isCode = CODE.test(file)
  if (!isCode && !DOCS.test(file)) return
  const text = readFileSync(path.join(root, file), 'utf8')
  if (isCode) checkCode(file, text)
  if (BANNED_NAMES.test(path.basename(file).split('.')[0])) breaches.push(`${file}: say what it is about in its name`)
  for (const word of file.startsWith('.ci') ? [] : BANNED_WORDS)
    if (word.test(text)) breaches.push(`${file}: mentions ${word.exec(text)[0]}`)
}

const topLevel = readdirSync(root).filter((name) => DOCS.test(name))
const files = ['lib', 'native', 'test', 'benchmarks', 'docs', '.ci'].flatMap(filesUnder)
for (const file of [...topLevel, ...files]) checkFile(file)
for (const key of Object.keys(EXCEPTIONS)) if (!used.has(key)) breaches.push(`${key}: exception no longer needed`)
for (const breach of breaches) console.error(breach)
console.log(`budgets: ${files.length} files, ${breaches.length} breaches`)
process.exit(breaches.length > 0 ? 1 : 0)
