// ESM face of the one CommonJS implementation, as index.mts of the package has it.
export * from './index.js'
