// How fast is a full prefill with f32 weights beside node-llama-cpp's?
import { againstLlama } from '../method/prefill-rivals.mjs'

export default async (options) => ({ 'prefill-f32': await againstLlama('tinyllama-f32', 0.01, options) })
