// Answers one question in a process of its own: `node ask.mjs QUESTION`, options and rows over IPC.
const [question] = process.argv.slice(2)
process.once('message', async (options) => {
  try {
    const { default: answer } = await import(`../questions/${question}.mjs`)
    process.send({ rows: await answer(options) }, () => process.exit(0))
  } catch (error) {
    process.send({ error: String(error?.stack ?? error) }, () => process.exit(1))
  }
})
