'use strict'
// Work for workers.test.ts, in a worker or a process of its own, on the built package.
//   node work.cjs TASK MODEL     or     new Worker(work.cjs, { workerData: { task, dir } })
const path = require('node:path')
const { isMainThread, parentPort, workerData } = require('node:worker_threads')
const poc = require(path.join(__dirname, '../../dist/index.js'))

const { task, dir } = isMainThread ? { task: process.argv[2], dir: process.argv[3] } : workerData
const say = (message) => (isMainThread ? console.log(message) : parentPort.postMessage(message))
const tokens = Uint32Array.from({ length: 400 }, (_, i) => (i * 31) % 512)
const options = { promptLength: 1, tokenSampler: 'bernoulli:1/4' }
const forever = async (work) => {
  for (;;) await work()
}

const tasks = {
  // Never end: the test ends them.
  load: () => {
    say('ready')
    return forever(async () => void (await poc.Model.load(dir)))
  },
  prove: async () => {
    const model = await poc.Model.load(dir)
    say('ready')
    await forever(() => Promise.all([1, 2, 3].map(() => poc.prove(model, tokens, options))))
  },
  generate: async () => {
    const model = await poc.Model.load(dir)
    say('ready')
    await forever(() => poc.generate(model, [1], { maxNewTokens: 300, ignoreEos: true }))
  },

  // End by themselves, with work under way.
  exit: async () => {
    const model = await poc.Model.load(dir)
    void poc.prove(model, tokens, options)
    setTimeout(() => process.exit(7), 5)
  },
  throw: async () => {
    const model = await poc.Model.load(dir)
    void poc.prove(model, tokens, options).catch(() => {})
    setTimeout(() => {
      throw new Error('on purpose')
    }, 5)
  },
  idle: async () => void (await poc.Model.load(dir)), // an open model keeps no process alive
  result: async () => {
    const model = await poc.Model.load(dir)
    const proof = await poc.prove(model, tokens, options)
    say((await poc.verify(model, proof)).samplesDigest)
  },

  // Drops everything while it is in use; needs --expose-gc.
  collect: async () => {
    const drop = async () => {
      const model = await poc.Model.load(dir)
      const header = poc.proofHeader(model, 1)
      const plan = poc.createPlan(header, tokens)
      const iterator = poc.prefill(model, tokens, plan)
      void iterator.next()
      void poc.generate(model, [1], { maxNewTokens: 3 })
      return poc.prove(model, tokens, options)
    }
    let last
    for (let i = 0; i < 8; i++) {
      last = await drop()
      global.gc()
      await new Promise((resolve) => setTimeout(resolve, 5))
      global.gc()
    }
    say(`collected ${last.samples.length > 0}`)
  },
}

process.on('unhandledRejection', (error) => {
  console.error(error)
  process.exit(99)
})
void tasks[task]()
