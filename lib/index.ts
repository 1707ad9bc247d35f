// The public names, grouped by stage. No logic here.

// Verify: the main job.
export { verify, type VerifyOptions } from './verify'
export { verifyAll, type VerifyAllOptions } from './verify-all'
export type { Request } from './structure'

// Prove: while generating, or for tokens that exist.
export { type CommittedGeneration, generate, type GenerateOptions, type Generation } from './generate'
export { type HeaderOptions, prove, proofHeader, proveWithHeader, type ProofOptions, type ProveOptions } from './prove'

// Commit, then challenge: positions that nobody knew while the tokens were made.
export {
  commit,
  type Commitment,
  type CommitOptions,
  commitWithHeader,
  openClaim,
  type OpenOptions,
} from './commitment'
export { type Challenge, type Claim, drawChallenge, leafDigest, leafIndex, opensTo, planOf } from './challenge'
export { decodeClaim, encodeClaim } from './claim'
export { headFromPath, type MerkleTree, merkleTree } from './merkle'

// Models.
export { type LoadOptions, Model } from './model'
export type { WeightCache } from './weight-cache'
export type { Architecture, ModelConfig, RopeScaling } from './config'
export { loadTokenizer, type Tokenizer } from './tokenizer'
export { type BackendInfo, type Info, info } from './addon'
export type { CudaDevice, OpDigest, OpTime } from './native'

// Every stage alone: binding and plan, prefill, extraction, matching.
export {
  bindingDigest,
  type ChallengeMode,
  type ContextChain,
  contextChain,
  type Numerics,
  type ProofHeader,
  type SampleForm,
  type SamplingParams,
  type StopRule,
} from './binding'
export { type LayerSampler, parseLayerSampler, parseTokenSampler, type TokenSampler } from './sampler'
export type { Samplers } from './custom-sampler'
export { type DepthPolicy, parseDepth } from './depth'
export * from './power'
export * from './sequential'
export { createPlan, type Plan } from './plan'
export { costThroughLayer, fullPrefillCost, headCost, type PlanCost, planCost } from './cost'
export { prefill, type PrefillOptions } from './prefill'
export { type DeviceExtractOptions, extractRows, extractRowsFromDevice } from './extract'
export {
  contiguousLayout,
  type KvCacheLayout,
  type KvCacheOrder,
  type KvCacheShape,
  type PagedCache,
  pagedLayout,
  type VllmCache,
  vllmLayouts,
} from './kv-layout'
export { type KvDtype, type KvSample, kvRowBytes, type LayerSamples, samplesOf, vectorBytes } from './kv'
export {
  createDigestMatcher,
  createMatcher,
  type Matcher,
  type MatchResult,
  samplesFollowPlan,
} from './matcher'

export { indicesOfPlan } from './layer-walk'

// What is handed over: proofs and verdicts.
export { decodeProof, encodeProof, type Proof, proofDigest, type ProofLimits } from './proof'
export {
  parseVerdict,
  type Reason,
  type ReasonCode,
  type SampleIndex,
  type TokenReplay,
  type Verdict,
  type VerdictStatus,
} from './verdict'
export { type CheckOptions, checkVerdict, type ProblemCode, type VerdictCheck, type VerdictProblem } from './check'

export {
  type Audit,
  auditEvidence,
  type AuditOptions,
  createEvidence,
  type Evidence,
  type EvidenceDemands,
  parseEvidence,
} from './evidence'
export {
  type DisputeParty,
  type Divergence,
  firstDifferentOp,
  type Inconsistency,
  locateDivergence,
} from './divergence'

// Tolerant numerics: profiles, and proofs of other engines.
export { calibrate, type CalibrateOptions, type Calibration, type RowSource } from './calibrate'
export { parseProfile } from './parse-profile'
export { profileDigest, publicKeyOf, type SignedProfile, signProfile, verifyProfile } from './profile-signature'
export { type ToleranceProfile, whyNotCovered } from './tolerance'
export { createTolerantMatcher, type TolerantMatcher, type TolerantResult } from './tolerant-matcher'
export { sketchBytes, sketchLayer, sketchSample } from './sketch'
export { type LlamaState, llamaSamples, readLlamaState } from './adapters/llama-state'
export { llamaHeader, proveLlamaState } from './adapters/prove-llama-state'

// Verifiers that cannot take their answer from the proof, and proofs that are not taken twice.
export { judge, matchRecomputed, type Recomputed, recompute } from './blind'
export {
  type BlindProof,
  blindProof,
  claimedResult,
  checkSeal,
  checkSealedVerdict,
  resultDigest,
  type SealedOutcome,
  type SealedResult,
  type SealOpening,
  type SealProblem,
  sealedOutcome,
  sealSubject,
  sealVerdict,
} from './seal'
export * from './canary'
export * from './agreement'
export {
  bindingId,
  type BindingRegistry,
  type ChainOptions,
  type ChainProblem,
  type ChainTurn,
  checkChain,
  createBindingRegistry,
  type SeenBindings,
} from './registry'

// Payoffs and disputes.
export * from './terms'
export * from './payoff'
export * from './dispute'
export { refusalOf, type RefusalReason, refusalReason } from './refusal'

export { type ErrorCode, type ErrorDetails, PocError } from './errors'
