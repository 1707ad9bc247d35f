// ESM face of the one CommonJS implementation: no second copy of the code or of its classes.
export * from './index.js'
