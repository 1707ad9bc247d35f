// node-llama-cpp, for questions that compare with it. It lives in benchmarks/rivals, not among the library's packages.
import { existsSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const rivals = path.join(path.dirname(fileURLToPath(import.meta.url)), '../rivals/node_modules')
const entry = path.join(rivals, 'node-llama-cpp/dist/index.js')

/** Why it cannot be asked; null where it can. */
export const llamaMissing = () =>
  existsSync(entry) ? null : 'node-llama-cpp is not there; install it with: npm install --prefix benchmarks/rivals'

/**
 * A GGUF file in a context for prompts of `length`: batch as long as the prompt, flash attention on.
 *
 * @returns prefill(tokens) evaluates a prompt from the start; logits(tokens) gives those of its last position.
 */
export async function openLlama(file, { threads, length }) {
  const { getLlama, LlamaLogLevel } = await import(pathToFileURL(entry).href)
  const llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error, maxThreads: threads })
  const model = await llama.loadModel({ modelPath: file, gpuLayers: 0 })
  const context = await model.createContext({
    contextSize: length + 8,
    batchSize: length,
    threads: { ideal: threads, min: threads },
    flashAttention: true,
  })
  const sequence = context.getSequence()
  return {
    about: { version: '3.22.1', systemInfo: llama.systemInfo },
    async prefill(tokens) {
      await sequence.clearHistory()
      await sequence.evaluateWithoutGeneratingNewTokens(Array.from(tokens))
    },
    async logits(tokens) {
      await sequence.clearHistory()
      const ids = Array.from(tokens)
      const last = [ids.pop(), { generateNext: { logits: true } }]
      const { next } = (await sequence.controlledEvaluate([...ids, last])).at(-1)
      return next.logits
    },
    async close() {
      await context.dispose()
      await model.dispose()
      await llama.dispose()
    },
  }
}
