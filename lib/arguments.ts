// What every function that runs a model checks first.
import { wrongValue } from './errors'
import { Model } from './model'
import { checkOptions } from './options'

/**
 * Refuses a model that is none, and options of a wrong type; fields that are absent pass.
 *
 * @throws {PocError} INVALID_ARGUMENT
 */
export function checkRun(model: unknown, options: unknown): void {
  if (!(model instanceof Model)) throw wrongValue('INVALID_ARGUMENT', 'model', 'a loaded Model', model)
  checkOptions(options)
}
