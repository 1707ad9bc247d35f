// How fast is a full prefill with bf16 weights beside node-llama-cpp's?
import { againstLlama } from '../method/prefill-rivals.mjs'

// llama.cpp rounds activations to bf16 as well: hence the wider tolerance.
export default async (options) => ({ 'prefill-bf16': await againstLlama('tinyllama-bf16', 0.1, options) })
